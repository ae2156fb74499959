"""Values of a program's own as what JSON can hold."""

from __future__ import annotations

import dataclasses
import enum
from collections.abc import Mapping
from typing import Any

from finetui.log import spelled

DEEPEST = 20
LONGEST_TEXT = 10_000


def plain(value: Any, depth: int = 0) -> Any:
    """Return the same as dictionaries, lists, texts and numbers; what is none of these as its text."""
    if value is None or (isinstance(value, bool | int | str | float) and not isinstance(value, enum.Enum)):
        return value[:LONGEST_TEXT] if isinstance(value, str) else spelled(value)
    if depth >= DEEPEST:
        return f"{type(value).__name__}, nested too deeply"
    try:
        return _plain(value, depth + 1)
    except Exception:  # whatever a class of the user's raises
        return type(value).__name__


def _plain(value: Any, depth: int) -> Any:
    if isinstance(value, enum.Enum):
        return plain(value.value, depth)
    if isinstance(value, Mapping):
        return {str(key): plain(inner, depth) for key, inner in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(inner, depth) for inner in value]
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        fields = dataclasses.fields(value)
        return {field.name: plain(getattr(value, field.name), depth) for field in fields}
    if type(value).__name__ in ("Namespace", "SimpleNamespace"):  # argparse and the like
        return plain(vars(value), depth)
    if hasattr(value, "item") and getattr(value, "size", None) in (None, 1):
        return plain(value.item(), depth)
    if hasattr(value, "tolist"):
        return plain(value.tolist(), depth)
    return str(value)[:LONGEST_TEXT]
