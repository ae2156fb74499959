"""Which characters of a rendered conversation are learned: every answer and the end of its turn, each checked.

A chat template is made to prompt a model, and may write an answer in another way once turns follow it: without its
reasoning (Qwen3, gpt-oss), without the token that ends a text (Phi-3). So each answer is learned as the template writes
it where it is the last turn, after the history that the template then writes, which is what a model sees. Answers that
the longer conversation holds in the same way share one text; the others get a text of their own. Torch-free at import.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import Any, TypeVar

from engine.basics.errors import DataError
from engine.data.formats import Document
from engine.data.joined import join
from engine.data.messages import (
    Message,
    is_answer,
    is_learned,
    lift_reasoning,
    lower_reasoning,
    split_reasoning,
)
from engine.data.template import (
    PLACE,
    SYSTEM_ROLES,
    Chat,
    LearnedText,
    Note,
    Span,
    TemplateError,
    chats,
    special_texts,
)

T = TypeVar("T")

TAIL = 80  # characters by which the end of the history is found again
_EMPTY_BLOCK = re.compile(r"<think>\s*</think>")
SHOWN = 30  # characters of a difference that are shown


def learned_texts(document: Document, tokenizer: Any) -> list[LearnedText]:
    """Return the texts from which all answers of a conversation are learned, each in one of them; in order.

    Raises DataError if an answer, or what it answers to, is not what the row says.
    """
    last = max(index for index, message in enumerate(document.messages) if is_learned(message))

    def texts_of(chat: Chat) -> list[LearnedText]:
        texts = _marked_texts(chat) or _texts_by_answer(chat, whole_history=document.whole_history)
        _check_context(chat, texts[-1].text)
        return [replace(text, notes=(*chat.notes, *text.notes)) for text in texts]

    return _first(chats(document.messages[: last + 1], document.tools, tokenizer), texts_of)


def prompt_text(messages: Sequence[Message], tools: Sequence[dict[str, Any]], tokenizer: Any) -> str:
    """Return a conversation as text, up to where the assistant begins to answer. Raises DataError."""

    def text_of(chat: Chat) -> str:
        text = chat.render(chat.messages, prompt=True)
        _check_context(chat, text)
        return text

    return _first(chats(messages, tools, tokenizer), text_of)


def _first(forms: Iterable[Chat], make: Callable[[Chat], T]) -> T:
    """Return what is made of the first form that nothing is wrong with; raise what is wrong with the last one, but
    what is lost rather than what the template raises, which may not name the cause.
    """
    problem: DataError | None = None
    for chat in forms:
        try:
            return make(chat)
        except TemplateError as error:
            problem = error if problem is None or isinstance(problem, TemplateError) else problem
        except DataError as error:
            problem = error
    assert problem is not None
    raise problem


def _marked_texts(chat: Chat) -> list[LearnedText]:
    """Return a conversation with one answer by the template's own marks, if they hold that answer; else nothing."""
    answers = [message for message in chat.messages if is_answer(message)]
    if not chat.has_marks or len(answers) > 1:
        return []
    text, spans = chat.render_marked(chat.messages)
    if not spans or _lost(answers[0], text, spans):
        return []
    notes = _empty_reasoning(answers[0], text, spans[0][0], len(chat.messages))
    return [LearnedText(text, _trimmed(text, spans, chat.tokenizer), notes)]


def _texts_by_answer(chat: Chat, *, whole_history: bool) -> list[LearnedText]:
    """Return as few texts as hold every answer as it is written where it is the last turn.

    `whole_history`: join them, where that can be done.
    """
    texts: list[LearnedText] = []
    told: list[Note] = []
    for index in reversed(range(len(chat.messages))):
        if not is_learned(chat.messages[index]):
            continue
        own = _own_text(chat, index)
        if texts and (shared := _share(texts[0], own, chat.tokenizer)):
            texts[0] = shared
            continue
        if texts:
            place = _common_length(texts[0].text, own.text)
            ways = [f"{text[place : place + SHOWN]!r}" for text in (own.text, texts[0].text)]
            told = [Note("turn-by-turn", index + 1, f"{ways[0]} as the last turn, {ways[1]} before others")]
        texts.insert(0, own)
    if whole_history and len(texts) > 1 and len(joined := join(chat, texts)) == 1:
        return joined
    return [replace(text, notes=(*text.notes, *told)) for text in texts]


def _own_text(chat: Chat, index: int) -> LearnedText:
    """Return the conversation up to an answer, which alone is learned. Raises DataError if that loses some of it."""
    history, message, turn = chat.messages[:index], chat.messages[index], index + 1
    text, marks = chat.render_marked((*history, message)) if chat.has_marks else ("", [])
    text = text or chat.render((*history, message))
    prompt = chat.render(history, prompt=True) if history else _header(chat, text)
    rendered = text
    text, start = _after_prompt(chat, history, prompt, rendered)
    marks = marks if text == rendered else []
    spans = _trimmed(text, [(begin, end) for begin, end in marks if end > start], chat.tokenizer)
    notes = list[Note]()
    if not spans or _lost(message, text, spans):
        spans = _trimmed(text, [(start, len(text))], chat.tokenizer)
    if lost := _lost(message, text, spans):
        whole = _whole_text(chat, history, message, prompt) if chat.put_in else ""
        if not whole:
            raise DataError(f"turn {turn} (assistant) {lost}")
        text, start = _after_prompt(chat, history, prompt, whole)
        spans = _trimmed(text, [(start, len(text))], chat.tokenizer)
        if _lost(message, text, spans):
            raise DataError(f"turn {turn} (assistant) {lost}")
        notes.append(Note("written-whole", turn))
    if missing := prompt[start:].strip():
        notes.append(Note("prompt-differs", turn, repr(missing)))
    notes += _empty_reasoning(message, text, start, turn)
    own = LearnedText(text, spans, tuple(notes), index, index, start)
    return own if _ends(text, chat.tokenizer) else _with_end(chat, index, own)


def _header(chat: Chat, text: str) -> str:
    """Return what comes before the words of a first answer, with no turn before it, in a rendered conversation."""
    question: tuple[Message, ...] = ({"role": "user", "content": PLACE},)
    asked = chat.render(question, prompt=True)
    header = asked[_common_length(asked, chat.render(question)) :]
    place = text.find(header) if header else -1
    return text[: place + len(header)] if place >= 0 else ""


def _empty_reasoning(message: Message, text: str, start: int, turn: int) -> tuple[Note, ...]:
    """Return a note if a template writes an empty block of reasoning before an answer that has none."""
    block = _EMPTY_BLOCK.search(text, max(0, start - SHOWN))
    if not block or message.get("reasoning") or "</think>" in message["content"]:
        return ()
    return (Note("empty-reasoning", turn, repr(block[0])),)


def _start(prompt: str, text: str) -> int:
    """Return where an answer begins: after the prompt, or where the text parts from it, at the beginning of a tag."""
    start = _common_length(prompt, text)
    if start < len(prompt) and (tag := re.search(r"<[^<>\s]*$", text[:start])):
        return tag.start()
    return start


def _after_prompt(chat: Chat, history: Sequence[Message], prompt: str, text: str) -> tuple[str, int]:
    """Return the rendered conversation with the history as the prompt has it, and where the last answer begins in it.

    A template may write the turns before an answer in another way once the answer is there (gpt-oss then drops the
    reasoning before a call). The model answers to the prompt, so this is what it is trained on. Raises DataError.
    """
    if text.startswith(prompt):
        return text, len(prompt)
    before = chat.render(history)
    tail = before[-TAIL:]
    place = text.find(tail, max(0, _common_length(before, text) - len(tail)))
    own = text.removeprefix(before) if text.startswith(before) else text[place + len(tail) :]
    if prompt.startswith(before) and (place >= 0 or text.startswith(before)):
        whole = before + own
        return whole, max(len(before), _start(prompt, whole))
    # What the prompt ends with, the answer begins with.
    shared = next((n for n in range(min(TAIL, len(own)), 0, -1) if prompt.endswith(own[:n])), 0)
    if shared and (place >= 0 or text.startswith(before)):
        return prompt + own[shared:], len(prompt)
    raise DataError(
        f"the chat template writes the turns before turn {len(history) + 1} in another way once that turn is there"
    )


def _share(later: LearnedText, own: LearnedText, tokenizer: Any) -> LearnedText | None:
    """Learn an answer in the text of a later one; None if that writes the answer or its end in another way."""
    ends = _ends(own.text, tokenizer)
    needed = ends[0] if ends else len(own.text.rstrip())
    common = _common_length(later.text, own.text)
    if common < needed:
        return None
    limit = max(end for end in (needed, *ends) if end <= common)
    spans = [(start, min(end, limit)) for start, end in own.spans if start < limit]
    notes = (*own.notes, *later.notes)
    return replace(later, spans=(*spans, *later.spans), notes=notes, first=own.first, start=own.start)


def _whole_text(chat: Chat, history: Sequence[Message], message: Message, prompt: str) -> str:
    """Return the conversation with the answer put in after rendering, so that the template cannot change it.

    Empty if the template has no place for it, or would write reasoning of its own before it.
    """
    message = lower_reasoning(lift_reasoning(message))
    reasoning, _ = split_reasoning(message["content"])
    if reasoning and "</think>" not in chat.template:
        return ""  # nothing says that this model writes its reasoning so
    before, place, after = chat.render((*history, message | {"content": PLACE})).partition(PLACE)
    own = before[_common_length(prompt, before) :]
    if not place or PLACE in after or (reasoning and "</think>" in own):
        return ""
    return before + message["content"] + after


def _with_end(chat: Chat, index: int, own: LearnedText) -> LearnedText:
    """Add the special token that the template begins the next turn with, where nothing else ends an answer (GLM)."""
    message = chat.messages[index]
    if "tool_calls" in message:
        following: Message = {"role": "tool", "content": "x"}
    else:
        message, following = {"role": "assistant", "content": PLACE}, {"role": "user", "content": "x"}
    try:
        text = chat.render((*chat.messages[:index], message, following))
    except DataError:  # a template that takes no such turn
        return own
    begin = own.text.rstrip()
    rest = text.partition(PLACE)[2] if PLACE in text else text[_common_length(begin, text) :]
    specials = special_texts(chat.tokenizer, chat.tokenizer.eos_token)
    end = next((special for special in specials if rest.lstrip().startswith(special)), "")
    if not end:
        return own
    text = begin + rest[: rest.index(end)] + end
    spans = (*own.spans[:-1], (own.spans[-1][0], len(text)))
    return replace(own, text=text, spans=spans, notes=(*own.notes, Note("end-added", index + 1, end)))


def _lost(message: Message, text: str, spans: Sequence[Span]) -> str:
    """Return, as the end of a sentence, what of an answer is not in the learned text; empty if nothing is lost."""
    learned = "\n".join(text[start:end] for start, end in spans)
    if calls := _lost_calls(message, learned):
        return f"has {calls}, which the chat template does not write; remove the row, or use a model that has calls"
    if _in_order(_pieces(message), learned):
        return ""
    if message.get("reasoning") and not _in_order([message["reasoning"]], learned):
        return (
            "has `reasoning_content`, which the chat template does not write; set data.reasoning=drop to learn the "
            "answers without it"
        )
    if split_reasoning(message["content"])[0]:
        return "loses its reasoning by the chat template; set data.reasoning=drop to learn the answers without it"
    return (
        f"is not written as it is by the chat template, so {message['content'][:40]!r} would not be learned"
    )


def _pieces(message: Message) -> list[str]:
    """Return the texts of an answer, in order, that must be learned."""
    reasoning, answer = message.get("reasoning", ""), message["content"]
    if not reasoning:
        reasoning, answer = split_reasoning(answer)
    return [piece for piece in (reasoning, answer) if piece.strip()]


def _in_order(texts: Sequence[str], whole: str) -> bool:
    """Whether all texts are in the whole one after the other, as they are or white space aside."""
    return _are_found([text.strip() for text in texts], whole) or _are_found(
        [" ".join(text.split()) for text in texts], " ".join(whole.split())
    )


def _are_found(texts: Sequence[str], whole: str) -> bool:
    position = 0
    for text in texts:
        if (found := whole.find(text, position)) < 0:
            return False
        position = found + len(text)
    return True


def _lost_calls(message: Message, learned: str) -> str:
    """Return the name of the key if a call is not in the learned text, whatever its notation; else nothing."""
    for call in message.get("tool_calls", ()):
        name, arguments = call["function"]["name"], call["function"]["arguments"]
        # A template that prints an object writes it as Python, not as JSON.
        if str(arguments) != json.dumps(arguments) and str(arguments) in learned:
            return "`tool_calls`"
        if name not in learned or not all(_written(value, learned) for value in _leaves(arguments)):
            return "`tool_calls`"
    return ""


def _leaves(value: Any) -> list[Any]:
    if isinstance(value, dict):
        return [leaf for key, inner in value.items() for leaf in (key, *_leaves(inner))]
    if isinstance(value, list):
        return [leaf for inner in value for leaf in _leaves(inner)]
    return [value]


def _written(value: Any, text: str) -> bool:
    """Whether a value is in a text, as it is or as JSON or Python writes it; quotes and white space aside."""
    forms = {str(value), json.dumps(value), json.dumps(value, ensure_ascii=False)}
    plain = _letters(text)
    return any(_letters(form) in plain for form in forms)


def _letters(text: str) -> str:
    return re.sub(r"[\W_]+", "", text)


def _check_context(chat: Chat, text: str) -> None:
    """Raise DataError if the template leaves a tool, or a turn that the answers depend on, out of a text."""
    # A call has the name of its tool as well, so a name in the text is no sign.
    if chat.tools and chat.render(chat.messages) == replace(chat, tools=()).render(chat.messages):
        raise DataError(
            "has `tools`, which the chat template does not write, so the model would not see them; remove them"
        )
    for number, message in enumerate(chat.messages, 1):
        if not is_answer(message) and not _is_written(message["content"], text):
            role = "system" if message["role"] in SYSTEM_ROLES else message["role"]
            raise DataError(
                f"has a turn of the role {role} (turn {number}), which the chat template does not write"
            )


def _is_written(content: str, text: str) -> bool:
    """Whether a turn is in the text; also if half of it is, since some templates take a switch such as /think out."""
    if content.strip() in text:
        return True
    plain = _letters(text)
    forms = map(_letters, (content, json.dumps(content), json.dumps(content, ensure_ascii=False)))
    return any(
        form in plain or ((half := len(form) // 2) and (form[:half] in plain or form[half:] in plain))
        for form in forms
    )


def _common_length(a: str, b: str) -> int:
    """Return how many characters two texts begin with alike."""
    low, high = 0, min(len(a), len(b))
    while low < high:
        middle = (low + high + 1) // 2
        if a[low:middle] == b[low:middle]:
            low = middle
        else:
            high = middle - 1
    return low


def _trimmed(text: str, spans: Sequence[Span], tokenizer: Any) -> tuple[Span, ...]:
    """Return the ranges without the line break that a template puts after the token that ends a turn."""
    specials = special_texts(tokenizer, tokenizer.eos_token)
    trimmed = list[Span]()
    for start, end in spans:
        body = text[start:end].rstrip()
        trimmed.append((start, start + len(body) if body.endswith(specials) else end))
    return tuple(trimmed)


def _ends(text: str, tokenizer: Any) -> list[int]:
    """Return where the special tokens end that a text ends with, in order: none, one, or several in a row."""
    specials = special_texts(tokenizer, tokenizer.eos_token)
    ends = list[int]()
    rest = text.rstrip()
    while rest.endswith(specials):
        ends.insert(0, len(rest))
        rest = rest[: -len(next(special for special in specials if rest.endswith(special)))].rstrip()
    return ends
