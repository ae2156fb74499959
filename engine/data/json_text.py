"""Conversations that are JSON text in a column of text, as CSV has them and often Parquet. Torch-free."""

from __future__ import annotations

import ast
from collections.abc import Mapping
from typing import Any

from engine.basics.errors import DataError
from engine.data.readers import DECODER, TwiceError

# Text under these names can only mean a list.
LISTS = ("messages", "conversations", "preferred_output", "non_preferred_output")
# Text under these is an answer or a question, unless it is a list of messages.
SIDES = ("prompt", "completion", "chosen", "rejected")


def parse_json_text(row: Mapping[str, Any], columnar: bool) -> Mapping[str, Any]:
    """Return a row with the lists that stand as text in it; `columnar`: its file has columns of text, so that a
    `prompt` or an answer may be such a list, too. Raises DataError.
    """
    parsed = {key: _parse(row[key], key) for key in LISTS if _is_text(row.get(key))}
    if _is_text(row.get("history")) and row["history"].lstrip().startswith("["):
        parsed["history"] = _parse(row["history"], "history")
    if columnar:
        parsed |= {key: _parse(row[key], key) for key in SIDES if _looks_like_messages(row.get(key))}
        if "preferred_output" in row and _is_text(row.get("input")):
            parsed["input"] = _parse(row["input"], "input")
    return {**row, **parsed} if parsed else row


def _is_text(value: Any) -> bool:
    return isinstance(value, str) and bool(value.strip())


def _looks_like_messages(value: Any) -> bool:
    """Whether a text begins and ends as a list of messages does, as JSON or as Python writes it."""
    if not isinstance(value, str):
        return False
    text = value.strip()
    begins = text.startswith("[") and text[1:].lstrip().startswith("{")
    return (
        begins
        and text.endswith("]")
        and any(f"{q}{key}{q}" in text for key in ("role", "from") for q in "\"'")
    )


def _parse(text: str, key: str) -> Any:
    try:
        return DECODER.decode(text)
    except TwiceError as error:
        raise DataError(f"`{key}` has an object that {error}; remove one of them") from None
    except (ValueError, RecursionError) as error:
        problem = error
    try:  # as pandas writes a column of lists
        return ast.literal_eval(text.strip())
    except (ValueError, SyntaxError, MemoryError, RecursionError):
        raise DataError(
            f"`{key}` is text that is not JSON ({problem}); write the list of messages as JSON"
        ) from None
