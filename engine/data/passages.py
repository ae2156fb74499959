"""Which rows are passages of one document: such rows are alike, so a test counts them as one draw. Torch-free."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from engine.data.sources import Row

LONGEST_NAME = 200  # characters; a column `document` may as well be a text to summarise
FEWEST_SOURCES = 20  # a column `source` with fewer names mostly has the data sets that rows are from


def passage_names(rows: Sequence[Row]) -> tuple[str, list[str]]:
    """Return which column names the documents that rows are passages of, and its name for each row; both empty where
    there is none. The column is `document`, or else `source` if it has enough different names.
    """
    for column in ("document", "source"):
        names = [_name(row.get(column)) for row in rows]
        distinct = set(names) - {""}
        if distinct and (column == "document" or len(distinct) >= FEWEST_SOURCES):
            return column, names
    return "", [""] * len(rows)


def _name(value: Any) -> str:
    if isinstance(value, bool) or not isinstance(value, str | int):
        return ""
    name = str(value).strip()
    return name if len(name) <= LONGEST_NAME else ""
