"""A row that remembers which of its keys were read, so that the user can be told of the others. Torch-free."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

EMPTY: tuple[Any, ...] = (None, "", [], {})  # values with which nothing is lost if nothing reads them


class Fields(Mapping[str, Any]):
    """The keys of a row that have a value. To look a value up is to read its key; `in` and `peek` do not count."""

    def __init__(self, row: Mapping[str, Any]) -> None:
        self._values = {key: value for key, value in row.items() if value is not None}
        self.null = [key for key, value in row.items() if value is None]
        self.read: set[str] = set()
        self.unread_inside: set[str] = set()  # keys of an object in the row, such as `input.tools`

    def __getitem__(self, key: str) -> Any:
        value = self._values[key]
        self.read.add(key)
        return value

    def __contains__(self, key: object) -> bool:
        return key in self._values

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)

    def peek(self, key: str) -> Any:
        """Return a value without reading its key; None where there is none."""
        return self._values.get(key)
