"""What is decided once in a run and kept in a file, since a resumed attempt must score the same."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from finetui.files import read_regular, write_json

T = TypeVar("T")


def read_or_make(
    path: Path, key: str, of_json: Callable[[Any], T], make: Callable[[], list[T]], may_make: bool
) -> list[T]:
    """Return the list that a run's file holds under `key`, or else make and write it; none if it may not be made.
    `of_json` checks one item, and raises TypeError or ValueError.
    """
    try:
        return [of_json(item) for item in json.loads(read_regular(path))[key]]
    except (OSError, KeyError, TypeError, ValueError):
        pass
    if not may_make:
        return []
    made = make()
    write_json(path, {key: made})
    return made
