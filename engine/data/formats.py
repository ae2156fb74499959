"""Rows of any known format as conversations, plain text, labelled text or preference pairs.

| columns | meaning | form |
|---|---|---|
| `messages` or `conversations` | a list of `{"role", "content"}` (OpenAI) or `{"from", "value"}` (ShareGPT) | chat |
| `tools` (may be missing) | beside a conversation: what it may call, as a list or its JSON text | chat |
| `prompt`, `completion` | strings, or lists of messages | chat |
| `instruction`, `input` (may be missing or empty), `output` | Alpaca | chat |
| `text` | plain text, every token of which counts | text |
| `text` or `sentence`, `label` | text to classify and its class (text, or a whole number) | label |
| `prompt`, `chosen`, `rejected` | a better and a worse answer: strings, or lists of messages | pair |
| `chosen`, `rejected` | the same, as whole conversations that begin alike | pair |

Torch-free.
"""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from typing import Any, Literal

from engine.basics.errors import DataError
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
    ({"messages"}, "sft"),
    ({"conversations"}, "sft"),
    ({"prompt", "completion"}, "sft"),
    ({"instruction", "output"}, "sft"),
    ({"text", "label"}, "classification"),
    ({"sentence", "label"}, "classification"),
    ({"text"}, "completion"),
)


@dataclass(frozen=True)
class Document:
    """A row in the one form that the rest works with: a conversation, or text (never both)."""

    id: str  # 16 hex digits of the SHA-256 of its content: the same wherever the row stands
    messages: tuple[Message, ...] = ()
    text: str = ""
    label: str = ""  # the class of `text`, in labelled text
    rejected: tuple[Message, ...] = ()  # in a preference pair: the conversation with the worse answer, whole
    tools: tuple[dict[str, Any], ...] = ()  # that a conversation may call
    unread: frozenset[str] = frozenset()  # keys of its messages that nothing reads
    whole_history: bool = (
        False  # are all answers learned in one text, where the template would rewrite earlier ones?
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
    """Convert one row. Raises DataError with the reason, to be put after the row's location."""
    row = {key: value for key, value in row.items() if value is not None}
    if form == "pair":
        return _pair(row)
    if form == "label":
        return _labelled(row)
    if form != "text" and (turns := _turns(row)):
        messages, tools = _conversation(turns), _tools(row)
        content = [*map(identity, messages), *([{"tools": tools}] if tools else [])]
        unread = frozenset(key for turn in turns for key in unread_keys(turn))
        return Document(_content_id(content), messages, tools=tools, unread=unread)
    if form == "chat" or "text" not in row:
        raise _columns_error(row, form)
    text = _nonempty_string(row["text"], "text")
    return Document(_content_id(text), text=text)


def _labelled(row: Row) -> Document:
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


def _pair(row: Row) -> Document:
    if "chosen" not in row or "rejected" not in row:
        raise _columns_error(row, "pair")
    chosen, rejected = (_whole_conversation(row, key) for key in ("chosen", "rejected"))
    if chosen == rejected:
        raise DataError("`chosen` and `rejected` are equal, so there is nothing to prefer")
    if chosen[0] != rejected[0]:
        raise DataError("`chosen` and `rejected` begin differently; both must answer the same prompt")
    content: dict[str, Any] = {
        "chosen": [*map(identity, chosen)],
        "rejected": [*map(identity, rejected)],
    }
    if tools := _tools(row):
        content["tools"] = tools
    return Document(_content_id(content), chosen, rejected=rejected, tools=tools)


def _whole_conversation(row: Row, key: str) -> tuple[Message, ...]:
    """Return the conversation that ends with the chosen or the rejected answer."""
    value = [row[key]] if isinstance(row[key], dict) else row[key]
    turns = _side_turns(value, "assistant", key)
    if turns and is_answer(read_message(turns[0])):  # an answer: the prompt stands elsewhere
        if not (prompt := next((row[k] for k in ("prompt", "messages", "conversations") if k in row), "")):
            raise DataError(f"`{key}` is an answer without a `prompt`; add that column")
        turns = _side_turns(prompt, "user", "prompt") + turns
    messages = _conversation(turns)
    if not is_learned(messages[-1]) or not plain_text(messages[-1]).strip():
        raise DataError(f"`{key}` must end with a non-empty answer of the assistant")
    return messages


def _turns(row: Row) -> list[Any]:
    """Return the conversation in a row as a list of turns, empty if it has none."""
    for key in ("messages", "conversations"):
        if key in row:
            if not isinstance(row[key], list) or not row[key]:
                raise DataError(f"`{key}` must be a non-empty list of messages")
            return row[key]
    if "prompt" in row and "completion" in row:
        return _side_turns(row["prompt"], "user", "prompt") + _side_turns(
            row["completion"], "assistant", "completion"
        )
    if "instruction" in row and "output" in row:
        question = _string(row["instruction"], "instruction")
        if context := _string(row.get("input", ""), "input"):
            question = f"{question}\n\n{context}"
        answer = _string(row["output"], "output")
        return [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return []


def _side_turns(value: Any, role: str, key: str) -> list[Any]:
    return value if isinstance(value, list) else [{"role": role, "content": _string(value, key)}]


def _tools(row: Row) -> tuple[dict[str, Any], ...]:
    key = "tools" if "tools" in row else "functions"
    return read_tools(row[key], key) if row.get(key) else ()


def _conversation(turns: list[Any]) -> tuple[Message, ...]:
    messages = tuple(map(read_message, turns))
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


def _columns_error(row: Row, form: Form) -> DataError:
    """Return the error of a row in another form: its columns, those needed, and the task that reads it as it is."""
    matching = next((task for columns, task in _TASK_BY_COLUMNS if columns <= row.keys()), "")
    hint = f"; `task: {matching}` reads such rows" if matching and _TASKS[matching] != form else ""
    task = next((f"task {task}" for task, task_form in _TASKS.items() if task_form == form), "general data")
    return DataError(f"has {columns_sentence(row)}, but {task} needs {_COLUMNS[form]}{hint}")


def _content_id(content: Any) -> str:
    body = json.dumps(content, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(body.encode("utf-8", "surrogatepass")).hexdigest()[:16]
