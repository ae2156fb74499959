"""The user's names of columns as those that finetui knows: `data.columns` in a recipe. Torch-free."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import get_args

from engine.basics.errors import DataError
from engine.data.sources import Raw, Row
from engine.recipe.fields import Column

# What is read together. A mapped column decides, so columns of other formats are set aside.
_FORMATS = (
    {"messages"},
    {"prompt", "completion"},
    {"prompt", "chosen", "rejected"},
    {"instruction", "input", "output"},
    {"text", "label"},
)
_KNOWN = {*get_args(Column), "conversations", "sentence"}


def rename(rows: Sequence[Raw], columns: Mapping[Column, str], source: str) -> list[Raw]:
    """The rows with the mapped columns under the names that finetui knows.

    Raises DataError for a column that no row has; a row without one that others have keeps its gap.
    """
    if not columns:
        return list(rows)
    there = list(dict.fromkeys(name for raw in rows for name in raw.row))
    for known, name in columns.items():
        if name not in there:
            near = difflib.get_close_matches(name, map(str, there), n=1)
            hint = f"did you mean `{near[0]}`?" if near else f"it has {', '.join(f'`{n}`' for n in there)}"
            raise DataError(f"{source}: has no column `{name}` (key data.columns.{known}); {hint}")
    kept = set().union(*(names for names in _FORMATS if names & columns.keys()))
    return [replace(raw, row=_renamed(raw.row, columns, kept)) for raw in rows]


def _renamed(row: Row, columns: Mapping[Column, str], kept: set[str]) -> Row:
    taken = set(columns.values())
    out = {
        name: value
        for name, value in row.items()
        if name not in taken and (name in kept or name not in _KNOWN)
    }
    return out | {known: row[name] for known, name in columns.items() if name in row}
