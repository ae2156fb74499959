"""Renaming of the user's columns to those that finetui knows: `data.columns` in a recipe. Torch-free."""

from __future__ import annotations

import difflib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import get_args

from engine.basics.errors import DataError
from engine.data.sources import RawRow, Row
from engine.recipe.fields import Column

# Columns that are read together. A mapped column decides the format, so columns of other formats are dropped.
_FORMATS = (
    {"messages"},
    {"prompt", "completion"},
    {"prompt", "chosen", "rejected"},
    {"instruction", "input", "output"},
    {"text", "label"},
)
# Columns that say something about a row in any format.
_ALONGSIDE = {"system", "history", "label"}
_KNOWN = {*get_args(Column), "conversations", "sentence"} - _ALONGSIDE


def original(known: str, columns: Mapping[Column, str]) -> str:
    """Return the user's name of a column."""
    return next((name for key, name in columns.items() if key == known), known)


def rename(rows: Sequence[RawRow], columns: Mapping[Column, str], source: str) -> list[RawRow]:
    """Return the rows with the mapped columns under the names that finetui knows.

    Raises DataError for a column that no row has; a row that lacks a column which others have stays without it.
    """
    if not columns:
        return list(rows)
    column_names = list(dict.fromkeys(name for raw in rows for name in raw.row))
    for known, name in columns.items():
        if name not in column_names:
            matches = difflib.get_close_matches(name, map(str, column_names), n=1)
            hint = (
                f"did you mean `{matches[0]}`?"
                if matches
                else f"it has {', '.join(f'`{n}`' for n in column_names)}"
            )
            raise DataError(f"{source}: has no column `{name}` (key data.columns.{known}); {hint}")
    kept = set().union(*(names for names in _FORMATS if names & columns.keys()))
    return [replace(raw, row=_rename_row(raw.row, columns, kept)) for raw in rows]


def _rename_row(row: Row, columns: Mapping[Column, str], kept: set[str]) -> Row:
    mapped = set(columns.values())
    others = {
        name: value
        for name, value in row.items()
        if name not in mapped and (name in kept or name not in _KNOWN)
    }
    return others | {known: row[name] for known, name in columns.items() if name in row}
