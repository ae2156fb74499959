"""A table as text for other programs: CSV, tab-separated values, JSON, Markdown. Values are whole, not rounded."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from engine.basics.safe_text import csv_cell, lines, markdown, one_line
from finetui.log import spelled
from tui.lines import format

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
    """As JSON in ASCII, with every control character escaped; times are ISO 8601. NaN and infinities are "NaN",
    "Infinity" and "-Infinity", as in logs: null is a value that is not there.
    """
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
    if isinstance(value, float):
        return spelled(value)
    if isinstance(value, datetime):
        return value.isoformat()
    if isinstance(value, Decimal):
        return int(value) if value == value.to_integral_value() else float(value)
    return value if isinstance(value, str | int | float | bool | None) else str(value)


@dataclass(frozen=True)
class Table:
    """A table that people read, too: numbers as the screen has them, and each row whole as text."""

    title: str
    names: tuple[str, ...]
    rows: Sequence[Sequence[object]]

    def markdown(self) -> str:
        """With a title; a line break of a cell is `<br>`."""
        width = range(len(self.names))
        cells = [[_markdown_cell(cell) for cell in row] for row in self.rows]
        body = [
            " | ".join(row)
            for row in ([markdown(name) for name in self.names], ["---" for _ in width], *cells)
        ]
        return "\n".join([f"**{markdown(self.title)}**", "", *(f"| {line} |" for line in body)]) + "\n"

    def csv(self) -> str:
        """Numbers with all their digits; an absent value is empty."""
        rows = ([lines(cell) if isinstance(cell, str) else cell for cell in row] for row in self.rows)
        return csv_text(self.names, rows)

    def text(self) -> str:
        """Row by row, each cell whole under the name of its column; what is absent is left out."""
        return "\n\n".join(
            "\n".join(
                _block(name, cell) for name, cell in zip(self.names, row, strict=True) if cell is not None
            )
            for row in self.rows
        )


def _markdown_cell(cell: object) -> str:
    return "<br>".join(markdown(line) for line in lines(format.value(cell)).split("\n"))


def _block(name: str, cell: object) -> str:
    text = lines(format.value(cell))
    return f"{one_line(name)}:\n{text}" if "\n" in text else f"{one_line(name)}: {text}"
