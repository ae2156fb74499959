"""Rows of any known format as conversations or plain text.

| columns | meaning |
|---|---|
| `messages` or `conversations` | a list of `{"role", "content"}` (OpenAI) or `{"from", "value"}` (ShareGPT) |
| `prompt`, `completion` | strings, or lists of messages |
| `instruction`, `input` (may be missing or empty), `output` | Alpaca |
| `text` | plain text, every token of which counts |

Torch-free.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from engine.data.sources import DataError, Row

FORMATS = "`messages`, `prompt` and `completion`, `instruction` and `output`, or `text`"

_SHAREGPT_ROLES = {
    "human": "user",
    "user": "user",
    "gpt": "assistant",
    "assistant": "assistant",
    "system": "system",
}

Message = dict[str, str]


@dataclass(frozen=True)
class Document:
    """A row in the one form that the rest works with: a conversation, or plain text (never both)."""

    id: str  # 16 hex digits of the SHA-256 of its content: the same wherever the row stands
    messages: tuple[Message, ...] = ()
    text: str = ""

    @property
    def prompt(self) -> str:
        """For people: what comes before the last answer."""
        before = self.messages[: self._last_answer]
        if len(before) == 1:
            return before[0]["content"]
        return "\n".join(f"{message['role']}: {message['content']}" for message in before)

    @property
    def target(self) -> str:
        """For people: the last answer, or the plain text."""
        return self.messages[self._last_answer]["content"] if self.messages else self.text

    @property
    def turns_before_answer(self) -> list[Message]:
        return list(self.messages[: self._last_answer])

    @property
    def _last_answer(self) -> int:
        return max(
            (i for i, message in enumerate(self.messages) if message["role"] == "assistant"), default=0
        )


def to_documents(rows: Iterable[Row], source: str, *, plain: bool = False) -> list[Document]:
    """Convert rows; `plain` says whether plain text is welcome. Raises DataError naming the row (from 1)."""
    return [to_document(row, f"{source}, row {number}", plain) for number, row in enumerate(rows, start=1)]


def to_document(row: Row, where: str, plain: bool = False) -> Document:
    """Convert one row; `where` begins the message of a DataError."""
    row = {key: value for key, value in row.items() if value is not None}
    if turns := _turns(row, where):
        messages = tuple(_message(turn, where) for turn in turns)
        _check_conversation(messages, where)
        return Document(_content_id([[m["role"], m["content"]] for m in messages]), messages)
    if "text" not in row:
        raise DataError(f"{where}: has {_columns(row)}; finetui reads {FORMATS}")
    if not plain:
        raise DataError(
            f"{where}: has only `text`, which says not what to answer to what; give messages, or prompt and completion"
        )
    text = _string(row["text"], "text", where)
    if not text.strip():
        raise DataError(f"{where}: `text` is empty; remove the row")
    return Document(_content_id(text), text=text)


def _turns(row: Row, where: str) -> list[Any]:
    """The conversation in a row as a list of turns, empty if it has none."""
    for key in ("messages", "conversations"):
        if key in row:
            if not isinstance(row[key], list) or not row[key]:
                raise DataError(f"{where}: `{key}` must be a list of messages that is not empty")
            return row[key]
    if "prompt" in row and "completion" in row:
        return _side(row["prompt"], "user", "prompt", where) + _side(
            row["completion"], "assistant", "completion", where
        )
    if "instruction" in row and "output" in row:
        question = _string(row["instruction"], "instruction", where)
        if context := _string(row.get("input", ""), "input", where):
            question = f"{question}\n\n{context}"
        answer = _string(row["output"], "output", where)
        return [{"role": "user", "content": question}, {"role": "assistant", "content": answer}]
    return []


def _side(value: Any, role: str, key: str, where: str) -> list[Any]:
    return value if isinstance(value, list) else [{"role": role, "content": _string(value, key, where)}]


def _message(turn: Any, where: str) -> Message:
    if not isinstance(turn, dict):
        raise DataError(f"{where}: a message must be an object with `role` and `content`")
    if "from" in turn and "value" in turn:
        role = _SHAREGPT_ROLES.get(str(turn["from"]))
        if role is None:
            raise DataError(f"{where}: unknown speaker {turn['from']!r}; use human, gpt or system")
        return {"role": role, "content": _string(turn["value"], "value", where)}
    if "role" not in turn or "content" not in turn:
        raise DataError(f"{where}: a message has {_columns(turn)}; it needs `role` and `content`")
    return {
        "role": _string(turn["role"], "role", where),
        "content": _string(turn["content"], "content", where),
    }


def _check_conversation(messages: tuple[Message, ...], where: str) -> None:
    answers = [message for message in messages if message["role"] == "assistant"]
    if not answers:
        raise DataError(
            f"{where}: has no assistant message, so there is nothing to learn; add one or remove the row"
        )
    if not any(message["content"].strip() for message in answers):
        raise DataError(f"{where}: every answer is empty; remove the row")


def _string(value: Any, key: str, where: str) -> str:
    if not isinstance(value, str):
        raise DataError(f"{where}: `{key}` must be a string, not {type(value).__name__}")
    return value


def _columns(row: Row) -> str:
    return "the columns " + ", ".join(f"`{key}`" for key in row) if row else "no columns"


def _content_id(content: Any) -> str:
    body = json.dumps(content, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(body.encode("utf-8", "surrogatepass")).hexdigest()[:16]
