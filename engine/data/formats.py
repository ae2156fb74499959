"""Rows of any known format as conversations, plain text, labelled text or preference pairs.

| columns | meaning | form |
|---|---|---|
| `messages` or `conversations` | a list of `{"role", "content"}` (OpenAI) or `{"from", "value"}` (ShareGPT) | chat |
| `tools` (may be missing) | beside a conversation: what it may call, as a list or its JSON text | chat |
| `prompt`, `completion` | strings, or lists of messages | chat |
| `instruction`, `input` (may be missing or empty), `output` | Alpaca | chat |
| besides any of these: `system` | the text of a system turn, before all others | chat, pair |
| besides strings: `history` | earlier turns: a list of [question, answer], or of messages | chat, pair |
| besides any of these: `document`, or `source` (of 20 names or more) | what the row is a passage of | all |
| besides any of these: `label` (or `kto_tag`) | whether the answer is a good one; false ones are left out | chat |
| `text` | plain text, every token of which counts | text |
| `text` or `sentence`, `label` | text to classify and its class (text, or a whole number) | label |
| `prompt`, `chosen`, `rejected` | a better and a worse answer: strings, or lists of messages | pair |
| `chosen`, `rejected` | the same, as whole conversations that differ in their last answer alone | pair |
| `input` (`{"messages"}`), `preferred_output`, `non_preferred_output` | the same, as OpenAI has them | pair |

Torch-free.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from typing import Any, Literal

from engine.basics.errors import DataError
from engine.data.fields import EMPTY, Fields
from engine.data.messages import (
    Message,
    columns_sentence,
    identity,
    is_answer,
    is_learned,
    plain_text,
    read_message,
    read_tools,
    unread_keys,
    without_reasoning,
)
from engine.data.sources import Row

# `general` is what replay and the general suite read: a conversation, or else plain text.
Form = Literal["chat", "text", "general", "label", "pair"]

_TASKS: dict[str, Form] = {"sft": "chat", "completion": "text", "classification": "label", "dpo": "pair"}
_CHAT = "`messages`, `prompt` and `completion`, or `instruction` and `output`"
_COLUMNS: dict[Form, str] = {
    "chat": _CHAT,
    "text": "`text`",
    "general": f"{_CHAT}, or `text`",
    "label": "`text` and `label`",
    "pair": "`prompt`, `chosen` and `rejected`",
}
# The first of these that a row has shows which task it was made for.
_TASK_BY_COLUMNS = (
    ({"chosen", "rejected"}, "dpo"),
    ({"preferred_output", "non_preferred_output"}, "dpo"),
    ({"messages"}, "sft"),
    ({"conversations"}, "sft"),
    ({"prompt", "completion"}, "sft"),
    ({"instruction", "output"}, "sft"),
    ({"text", "label"}, "classification"),
    ({"sentence", "label"}, "classification"),
    ({"text"}, "completion"),
)

# Whether the answer of a row is a good one, in data for unpaired preferences (KTO).
_VERDICTS = ("label", "kto_tag")
# What belongs to the words of a conversation and is none.
_MEDIA = ("images", "image", "videos", "video", "audios", "audio")


class LeftOutError(DataError):
    """A row that can be used and is not to be learned."""


@dataclass(frozen=True)
class Document:
    """A row in the one form that the rest works with: a conversation, or text (never both)."""

    id: str  # 16 hex digits of the SHA-256 of its content: the same wherever the row stands
    messages: tuple[Message, ...] = ()
    text: str = ""
    label: str = ""  # the class of `text`, in labelled text
    rejected: tuple[Message, ...] = ()  # in a preference pair: the conversation with the worse answer, whole
    tools: tuple[dict[str, Any], ...] = ()  # that a conversation may call
    # Are all answers learned in one text, where the template would rewrite earlier ones?
    whole_history: bool = False
    passage_of: str = (
        ""  # name of the document that it is a part of; rows of one are one draw. Empty: not known
    )

    @property
    def prompt(self) -> str:
        """What comes before the last answer, for people."""
        if self.label:
            return self.text
        before = self.messages[: self._last_answer]
        if len(before) == 1:
            return plain_text(before[0])
        return "\n".join(f"{message['role']}: {plain_text(message)}" for message in before)

    @property
    def target(self) -> str:
        """The last answer, the label, or the plain text, for people."""
        return plain_text(self.messages[self._last_answer]) if self.messages else self.label or self.text

    @property
    def texts(self) -> list[str]:
        """All that the row says: the plain text, or every turn of both conversations."""
        turns = [*map(plain_text, (*self.messages, *self.rejected))]
        return [text for text in (self.text, *turns) if text]

    @property
    def turns_before_answer(self) -> list[Message]:
        return list(self.messages[: self._last_answer])

    def without_reasoning(self) -> Document:
        """Return the conversation without what the model thought before its answers."""
        messages, rejected = (tuple(map(without_reasoning, side)) for side in (self.messages, self.rejected))
        return replace(self, messages=messages, rejected=rejected)

    @property
    def _last_answer(self) -> int:
        return max((i for i, message in enumerate(self.messages) if is_learned(message)), default=0)


def form_of(task: str) -> Form:
    """Return the form of the rows that a task learns from."""
    return _TASKS[task]


def to_document(row: Row, form: Form = "chat") -> Document:
    """Convert one row; a row of type `Fields` knows afterwards which of its keys were read.

    Raises DataError with the reason, to be put after the row's location; LeftOutError where nothing is wrong with it.
    """
    row = row if isinstance(row, Fields) else Fields(row)
    if form == "pair":
        return _pair(row)
    if form == "label":
        return _labelled(row)
    if form != "text" and (turns := _turns(row)):
        _refuse_media(row)
        messages, tools = _conversation(row, _with_system(row, turns)), _tools(row)
        _leave_out_bad_answer(row)
        content = [*map(identity, messages), *([{"tools": tools}] if tools else [])]
        return Document(_content_id(content), messages, tools=tools)
    if form == "chat" or "text" not in row:
        raise _columns_error(row, form)
    text = _nonempty_string(row["text"], "text")
    return Document(_content_id(text), text=text)


def _labelled(row: Fields) -> Document:
    key = "text" if "text" in row else "sentence"
    if key not in row or "label" not in row:
        raise _columns_error(row, "label")
    text, label = _nonempty_string(row[key], key), _label_text(row["label"])
    return Document(_content_id({"text": text, "label": label}), text=text, label=label)


def _label_text(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int) or (isinstance(value, float) and value.is_integer()):
        return str(int(value))
    if isinstance(value, str):
        return _nonempty_string(value, "label").strip()
    raise DataError(f"`label` must be one class, as text or a whole number, not {_describe_value(value)}")


def _pair(row: Fields) -> Document:
    if "preferred_output" in row and "non_preferred_output" in row and isinstance(row.peek("input"), dict):
        return _openai_pair(row)
    if "chosen" not in row or "rejected" not in row:
        raise _columns_error(row, "pair")
    _refuse_media(row)
    chosen, rejected = (_whole_conversation(row, key) for key in ("chosen", "rejected"))
    if chosen == rejected:
        raise DataError("`chosen` and `rejected` are equal, so there is nothing to prefer")
    if turn := _parting(chosen[:-1], rejected[:-1]):
        raise DataError(
            f"`chosen` and `rejected` answer different prompts: they part at turn {turn}, before their last answer"
        )
    # A prompt beside whole conversations says nothing more, as long as it is theirs.
    if (prompt := row.peek("prompt")) and _asked_in(prompt, chosen[:-1]):
        row.read.add("prompt")
    content: dict[str, Any] = {
        "chosen": [*map(identity, chosen)],
        "rejected": [*map(identity, rejected)],
    }
    if tools := _tools(row):
        content["tools"] = tools
    return Document(_content_id(content), chosen, rejected=rejected, tools=tools)


def _openai_pair(row: Fields) -> Document:
    """Read a pair as OpenAI's preference data has it."""
    given = Fields(row["input"])
    inner = Fields(
        {
            **{key: given[key] for key in ("messages", "tools") if key in given},
            "chosen": row["preferred_output"],
            "rejected": row["non_preferred_output"],
        }
    )
    document = _pair(inner)
    row.unread_inside |= {f"input.{k}" for k in given if given.peek(k) not in EMPTY and k not in inner.read}
    row.unread_inside |= {f"input.{k}" for k in inner.unread_inside}
    return document


def _asked_in(prompt: Any, turns: tuple[Message, ...]) -> bool:
    """Whether a prompt, text or messages, is part of a conversation."""
    if isinstance(prompt, list):
        return tuple(map(read_message, prompt)) == turns[-len(prompt) :]
    return prompt in [message["content"] for message in turns]


def _parting(one: tuple[Message, ...], other: tuple[Message, ...]) -> int:
    """Return the first turn, from 1, in which two prompts differ; 0 if they are equal."""
    if one == other:
        return 0
    alike = [a == b for a, b in zip(one, other, strict=False)]
    return (alike.index(False) if False in alike else len(alike)) + 1


def _whole_conversation(row: Fields, key: str) -> tuple[Message, ...]:
    """Return the conversation that ends with the chosen or the rejected answer."""
    value = [row[key]] if isinstance(row[key], dict) else row[key]
    turns = _side_turns(value, "assistant", key)
    if turns and is_answer(read_message(turns[0])):  # an answer: the prompt stands elsewhere
        if not (prompt := _prompt_turns(row)):
            raise DataError(f"`{key}` is an answer without a `prompt`; add that column")
        turns = prompt + turns
    messages = _conversation(row, _with_system(row, turns))
    if not is_learned(messages[-1]) or not plain_text(messages[-1]).strip():
        raise DataError(f"`{key}` must end with a non-empty answer of the assistant")
    return messages


def _prompt_turns(row: Fields) -> list[Any]:
    """Return the turns before the two answers of a pair; empty if the row has none."""
    for key in ("prompt", "messages", "conversations"):
        if key in row:
            return _asked(row, row[key], key) if row[key] else []
    return _asked(row, _question(row), "instruction") if "instruction" in row else []


def _turns(row: Fields) -> list[Any]:
    """Return the conversation in a row as a list of turns, empty if it has none."""
    for key in ("messages", "conversations"):
        if key in row:
            if not isinstance(row[key], list) or not row[key]:
                raise DataError(f"`{key}` must be a non-empty list of messages")
            return row[key]
    if "prompt" in row and "completion" in row:
        return _asked(row, row["prompt"], "prompt") + _side_turns(
            row["completion"], "assistant", "completion"
        )
    if "instruction" in row and "output" in row:
        answer = {"role": "assistant", "content": _string(row["output"], "output")}
        return [*_asked(row, _question(row), "instruction"), answer]
    return []


def _question(row: Fields) -> str:
    """Return the instruction, followed by its input."""
    question = _string(row["instruction"], "instruction")
    context = _string(row.get("input", ""), "input")
    return f"{question}\n\n{context}" if context else question


def _asked(row: Fields, prompt: Any, key: str) -> list[Any]:
    """Return the turns up to an answer. A prompt that is a string has its earlier turns in `history`, if any."""
    turns = _side_turns(prompt, "user", key)
    return turns if isinstance(prompt, list) else _history_turns(row) + turns


def _history_turns(row: Fields) -> list[Any]:
    """Return the turns before a question; text under this name is another thing, and is not read."""
    turns = list[Any]()
    for entry in row["history"] if isinstance(row.peek("history"), list) else []:
        if isinstance(entry, dict):
            turns.append(entry)
        elif isinstance(entry, list) and len(entry) == 2:
            question, answer = (_string(part, "history") for part in entry)
            turns += [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
        else:
            raise DataError("`history` must be a list of [question, answer] pairs or of messages")
    return turns


def _with_system(row: Fields, turns: list[Any]) -> list[Any]:
    """Return the turns with the text of the key `system` as a system turn before them."""
    if not isinstance(row.peek("system"), str) or not row["system"].strip():
        return turns
    first = read_message({"role": "system", "content": row["system"]})
    own = next((m for m in map(read_message, turns[:1]) if m["role"] == "system"), None)
    if own and own != first:
        raise DataError("has a key `system` and another system turn in its conversation; keep one of them")
    return turns if own else [first, *turns]


def _leave_out_bad_answer(row: Fields) -> None:
    """Raises LeftOutError for an answer that is marked as a bad one. A label that is no truth value is not read."""
    for key in _VERDICTS:
        if (verdict := str(row.peek(key)).strip().lower()) in ("true", "false"):
            row.read.add(key)
        if verdict == "false":
            raise LeftOutError(f"`{key}` is false: a bad answer, which is not learned")


def _refuse_media(row: Fields) -> None:
    for key in _MEDIA:
        if row.peek(key) and not isinstance(row.peek(key), str):
            raise DataError(f"has `{key}`, but finetui trains on text alone; remove the row")


def _side_turns(value: Any, role: str, key: str) -> list[Any]:
    return value if isinstance(value, list) else [{"role": role, "content": _string(value, key)}]


def _tools(row: Fields) -> tuple[dict[str, Any], ...]:
    key = "tools" if "tools" in row else "functions"
    return read_tools(row[key], key) if row.get(key) else ()


def _conversation(row: Fields, turns: list[Any]) -> tuple[Message, ...]:
    messages = tuple(map(read_message, turns))
    row.unread_inside |= {f"messages.{key}" for turn in turns for key in unread_keys(turn)}
    answers = [message for message in messages if is_answer(message)]
    if not answers:
        roles = ", ".join(dict.fromkeys(message["role"] for message in messages))
        raise DataError(
            f"has no assistant message among {roles}, so there is nothing to train on; add one or remove the row"
        )
    if not any(map(is_learned, answers)):
        raise DataError("has no answer to learn, since each is marked as context only; remove the row")
    if not any(plain_text(message).strip() for message in answers if is_learned(message)):
        raise DataError("every answer is empty; remove the row")
    return messages


def _string(value: Any, key: str) -> str:
    if not isinstance(value, str):
        raise DataError(f"`{key}` must be a string, not {type(value).__name__}")
    return value


def _nonempty_string(value: Any, key: str) -> str:
    text = _string(value, key)
    if not text.strip():
        raise DataError(f"`{key}` is empty; remove the row")
    return text


def _describe_value(value: Any) -> str:
    return repr(value) if isinstance(value, float) else type(value).__name__


def _columns_error(row: Fields, form: Form) -> DataError:
    """Return the error of a row in another form: its columns, those needed, and the task that reads it as it is."""
    matching = next((task for columns, task in _TASK_BY_COLUMNS if columns <= row.keys()), "")
    hint = f"; `task: {matching}` reads such rows" if matching and _TASKS[matching] != form else ""
    task = next((f"task {task}" for task, task_form in _TASKS.items() if task_form == form), "general data")
    null = [f"`{key}`" for key in row.null if f"`{key}`" in _COLUMNS[form]]
    null_columns = f" ({', '.join(null)} {'is' if len(null) == 1 else 'are'} null)" if null else ""
    return DataError(f"has {columns_sentence(row)}{null_columns}, but {task} needs {_COLUMNS[form]}{hint}")


def _content_id(content: Any) -> str:
    body = json.dumps(content, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(body.encode("utf-8", "surrogatepass")).hexdigest()[:16]
