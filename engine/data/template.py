"""A conversation as the tokenizer's chat template writes it. Torch-free at import."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from functools import lru_cache
from typing import Any

from engine.basics.errors import DataError
from engine.data.messages import Message, lift_reasoning, lower_reasoning
from finetui.errors import first_line

# The date for templates that ask for today's; Llama 3's template uses it where it cannot ask. With the real date, a
# run that is resumed after midnight would have other tokens, and nothing to compare its first evaluation with.
TODAY = datetime(2024, 7, 26)
# For a tokenizer that brings no template: roles in words, each answer ended by the end-of-sequence
# token. The space belongs to the answer, since most tokenizers join it to the word after it.
PLAIN_TEMPLATE = """\
{{- bos_token or '' }}
{%- for message in messages %}
    {%- if message['role'] == 'assistant' %}
        {{- 'Assistant:' }}
        {%- generation %}
            {{- ' ' + message['content'] + (eos_token or '') }}
        {%- endgeneration %}
        {{- '\n' }}
    {%- else %}
        {{- message['role'] | capitalize + ': ' + message['content'] + '\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- 'Assistant:' }}
{%- endif %}
"""
SYSTEM_ROLES = ("system", "developer")
# Stands for an answer while a template is rendered that would change it.
PLACE = "finetui-puts-the-answer-here"

Span = tuple[int, int]


class TemplateError(DataError):
    """What a template raises (for an unknown role, turns that do not alternate), as bad data."""


@dataclass(frozen=True)
class Note:
    """Something that was done so that a template writes a conversation, or an answer, as it is meant."""

    code: str  # of `engine.data.masks.TEMPLATE_NOTES`
    turn: int = 0  # from 1; 0: the whole conversation
    detail: str = ""


@dataclass(frozen=True)
class Chat:
    """A conversation in one of the forms that a template may take."""

    messages: tuple[Message, ...]
    tools: tuple[dict[str, Any], ...]
    tokenizer: Any
    text_arguments: bool = False  # of calls: JSON text instead of objects
    in_parts: bool = False  # content as a list of parts, which templates of image models may want
    put_in: bool = False  # answers that the template changes are put into its text
    notes: tuple[Note, ...] = ()

    @property
    def has_marks(self) -> bool:
        """Whether the template marks answers with `{% generation %}`."""
        return _has_marks(self.template)

    @property
    def template(self) -> str:
        """The template for a conversation with or without tools; some tokenizers have one for each."""
        return str(self.tokenizer.get_chat_template(tools=list(self.tools) or None))

    def render(self, messages: Sequence[Message], *, prompt: bool = False) -> str:
        """Return some messages as text; `prompt`: up to where the next answer begins. Raises DataError."""
        try:
            _pin_today(self.template)
            return str(
                self.tokenizer.apply_chat_template(
                    self._for_template(messages),
                    tools=list(self.tools) or None,
                    tokenize=False,
                    add_generation_prompt=prompt,
                )
            )
        except Exception as error:
            raise _refusal(messages, error) from None

    def render_marked(self, messages: Sequence[Message]) -> tuple[str, list[Span]]:
        """Return some messages as text, and the ranges of it that the template marks. Raises DataError."""
        from transformers.utils.chat_template_utils import render_jinja_template

        try:
            _pin_today(self.template)
            # Lists, one entry a conversation, despite its annotation.
            rendered: Any = render_jinja_template(
                [self._for_template(messages)],
                tools=list(self.tools) or None,
                chat_template=self.template,
                return_assistant_tokens_mask=True,
                **self.tokenizer.special_tokens_map,
            )
        except Exception as error:
            raise _refusal(messages, error) from None
        texts, spans = rendered
        return texts[0], [(start, end) for start, end in spans[0]]

    def _for_template(self, messages: Sequence[Message]) -> list[dict[str, Any]]:
        return [_for_template(message, self) for message in messages]


@dataclass(frozen=True)
class LearnedText:
    """A rendered conversation, and the ranges of its characters that are learned."""

    text: str
    spans: tuple[Span, ...]
    notes: tuple[Note, ...] = ()
    first: int = 0  # index of the first answer that is learned, and of the last
    last: int = 0
    start: int = 0  # where the first one's words begin


def ensure_template(tokenizer: Any) -> bool:
    """Give a tokenizer without a chat template the plain one; return whether that was needed."""
    if tokenizer.chat_template:
        return False
    tokenizer.chat_template = PLAIN_TEMPLATE
    return True


def chats(messages: Sequence[Message], tools: Sequence[dict[str, Any]], tokenizer: Any) -> Iterator[Chat]:
    """Yield a conversation as it is, then in the other forms that a template may take it in."""
    has_calls = any("tool_calls" in message for message in messages)
    for chat in _forms(Chat(tuple(messages), tuple(tools), tokenizer)):
        yield chat
        if has_calls:
            yield replace(chat, text_arguments=True)


def _forms(as_it_is: Chat) -> Iterator[Chat]:
    # Reasoning under a key first, since the template knows where its model writes it.
    lifted = replace(as_it_is, messages=tuple(map(lift_reasoning, as_it_is.messages)))
    yield lifted  # at once: most rows need no other form
    forms = [lifted, *([as_it_is] if as_it_is != lifted else [])]
    if "</think>" in as_it_is.template:
        lowered = replace(as_it_is, messages=tuple(map(lower_reasoning, as_it_is.messages)))
        forms += [lowered] if lowered not in forms else []
    if any(message["role"] == "developer" for message in as_it_is.messages):
        forms += [replace(form, messages=tuple(map(_developer_as_system, form.messages))) for form in forms]
    forms += filter(None, map(_merge_system, forms))
    if re.search(r"""['"]text['"]""", as_it_is.template):
        forms.append(replace(as_it_is, in_parts=True))
    yield from forms[1:]
    yield from (replace(form, put_in=True) for form in forms)
    if any("tool_calls" in message for message in as_it_is.messages):
        yield from (replace(form, messages=_with_ids(form.messages)) for form in forms)


@lru_cache(maxsize=4)
def special_texts(tokenizer: Any, eos: str | None) -> tuple[str, ...]:
    """Return the texts of all special tokens, the longest first; `eos`: the tokenizer's end of sequence."""
    added = {token.content for token in tokenizer.added_tokens_decoder.values() if token.special}
    texts = {*map(str, tokenizer.all_special_tokens), *added, *([eos] if eos else [])}
    return tuple(sorted(texts, key=lambda text: (-len(text), text)))


@lru_cache(maxsize=8)
def _has_marks(template: str) -> bool:
    return bool(re.search(r"\{%-?\s*generation\s*-?%\}", template))


def _developer_as_system(message: Message) -> Message:
    return message | {"role": "system"} if message["role"] == "developer" else message


def _with_ids(messages: Sequence[Message]) -> tuple[Message, ...]:
    """Give calls and their results new ids of nine letters and digits, which Mistral's templates insist on."""
    numbered, new_ids, waiting, count = list[Message](), dict[str, str](), list[str](), 0
    for message in messages:
        if calls := message.get("tool_calls"):
            ids = [f"call{count + n:05}" for n in range(len(calls))]
            count += len(calls)
            new_ids |= {call["id"]: new for call, new in zip(calls, ids, strict=True) if "id" in call}
            waiting = ids
            calls = [call | {"id": new} for call, new in zip(calls, ids, strict=True)]
            numbered.append(message | {"tool_calls": calls})
        elif message["role"] == "tool":
            own = new_ids.get(message.get("tool_call_id", "")) or (waiting[0] if waiting else "")
            waiting = [id for id in waiting if id != own]
            numbered.append(message | {"tool_call_id": own})
        else:
            numbered.append(message)
    return tuple(numbered)


def _merge_system(chat: Chat) -> Chat | None:
    """Put every system turn at the head of the next user turn; None without both."""
    merged, waiting = list[Message](), list[str]()
    for message in chat.messages:
        if message["role"] in SYSTEM_ROLES:
            waiting.append(message["content"])
        elif message["role"] == "user" and waiting:
            merged.append(message | {"content": "\n\n".join([*waiting, message["content"]])})
            waiting = []
        else:
            merged.append(message)
    if waiting or len(merged) == len(chat.messages):
        return None
    return replace(chat, messages=tuple(merged), notes=(*chat.notes, Note("system-merged")))


def _for_template(message: Message, chat: Chat) -> dict[str, Any]:
    """Return a message under the keys that templates read."""
    written = {key: value for key, value in message.items() if key not in ("reasoning", "learned")}
    if reasoning := message.get("reasoning"):
        written |= {"reasoning_content": reasoning, "thinking": reasoning}
    if chat.text_arguments and (calls := message.get("tool_calls")):
        written["tool_calls"] = [
            call | {"function": call["function"] | {"arguments": json.dumps(call["function"]["arguments"])}}
            for call in calls
        ]
    if chat.in_parts:
        written["content"] = [{"type": "text", "text": message["content"]}]
    return written


def _pin_today(template: str) -> None:
    """Fix the date that a template sees: transformers gives it `strftime_now`, which no argument can replace."""
    if "strftime_now" in template:
        from transformers.utils.chat_template_utils import _compile_jinja_template

        # Kept as long as the compiled template is cached.
        _compile_jinja_template(template).globals["strftime_now"] = TODAY.strftime


def _refusal(messages: Sequence[Message], error: Exception) -> TemplateError:
    begin = messages[0]["content"][:40]
    return TemplateError(f"the chat template refuses the row that begins {begin!r}: {first_line(error)}")
