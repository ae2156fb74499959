"""A table as text for other programs: CSV, tab-separated values, JSON, Markdown. Values are whole, not rounded."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Iterable, Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

from engine.basics.safe_text import csv_cell, markdown

Row = Iterable[Any]


def csv_text(names: Sequence[str], rows: Iterable[Row], separator: str = ",", *, header: bool = True) -> str:
    """Rows with CRLF, as RFC 4180 has them; a text that a spreadsheet would take for a formula has `'` before it."""
    text = io.StringIO()
    writer = csv.writer(text, delimiter=separator)
    if header:
        writer.writerow(map(csv_cell, names))
    writer.writerows(map(_csv_value, row) for row in rows)
    return text.getvalue()


def tsv_text(names: Sequence[str], rows: Iterable[Row], *, header: bool = True) -> str:
    """What a spreadsheet takes from a paste as cells."""
    return csv_text(names, rows, "\t", header=header)


def markdown_lines(rows: Iterable[Row]) -> str:
    """Rows of a table in Markdown, a line each."""
    return "".join("| " + " | ".join(markdown(plain(value)) for value in row) + " |\n" for row in rows)


def markdown_head(names: Sequence[str], numeric: Sequence[bool]) -> str:
    """The names of the columns and the line below them, which aligns numbers to the right."""
    return markdown_lines([names]) + "|" + "|".join("---:" if right else "---" for right in numeric) + "|\n"


def json_text(value: Any, indent: int | None = None) -> str:
    """As JSON in ASCII, with every control character escaped; NaN and infinities become null, times ISO 8601."""
    return json.dumps(_jsonable(value), indent=indent, allow_nan=False).replace("\x7f", "\\u007f")


def plain(value: Any) -> str:
    """A value whole, as text; nothing for NULL."""
    if value is None:
        return ""
    if isinstance(value, list | dict):
        return json_text(value)
    return str(value)


def is_numeric(type_: Any) -> bool:
    """Whether an Arrow type is one of numbers."""
    return str(type_).startswith(("int", "uint", "float", "double", "decimal", "halffloat"))


def _csv_value(value: Any) -> Any:
    """A text that a spreadsheet would take for a formula is no formula; numbers stay what they are."""
    if isinstance(value, list | dict):
        return csv_cell(json_text(value))
    return csv_cell(value) if isinstance(value, str) else value


def _jsonable(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _jsonable(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_jsonable(inner) for inner in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    return value if isinstance(value, str | int | float | bool | None) else str(value)
