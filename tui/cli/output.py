"""Printing: tables and JSON on stdout, narration on stderr."""

from __future__ import annotations

import json
import math
import sys
from collections.abc import Sequence
from datetime import datetime
from decimal import Decimal
from typing import Any

from rich.console import Console
from rich.table import Table

from tui.lines.text import clean

# Wide enough that nothing is cut when the output goes to a file or a pipe.
PIPE_WIDTH = 400


def console() -> Console:
    return Console(emoji=False) if sys.stdout.isatty() else Console(width=PIPE_WIDTH, emoji=False)


def say(sentence: str) -> None:
    """Narration, on stderr."""
    print(sentence, file=sys.stderr, flush=True)


def plain(text: str) -> str:
    """A text of data or model as a terminal may have it: without escape sequences. Unchanged for files and pipes."""
    return "\n".join(map(clean, text.splitlines())) if sys.stdout.isatty() else text


def print_json(value: Any) -> None:
    """One JSON document on stdout; NaN and infinities become null, times ISO 8601."""
    print(json.dumps(_jsonable(value), indent=2, allow_nan=False))


def print_table(
    rows: Sequence[dict[str, Any]], columns: Sequence[str] | None = None, right: Sequence[str] = ()
) -> None:
    """Rows as a plain table, numbers and the columns in `right` to the right; `columns` chooses and orders."""
    if not rows:
        return
    names = list(columns or rows[0])
    table = Table(box=None, pad_edge=False, header_style="bold", show_edge=False)
    for name in names:
        numeric = name in right or all(isinstance(row[name], int | float | Decimal | None) for row in rows)
        table.add_column(name, justify="right" if numeric else "left", no_wrap=name in ("run", "state"))
    for row in rows:
        table.add_row(*(cell(row[name]) for name in names))
    console().print(table, highlight=False, markup=False)


def print_side_by_side(rows: Sequence[dict[str, Any]]) -> None:
    """Runs as columns, headed by `run` and `name`, and what is known of them as rows: fits 80 columns."""
    heads = [f"#{row['run']} {row['name']}" for row in rows]
    keys = [key for key in rows[0] if key not in ("run", "name")] if rows else []
    lines = [{"": key, **dict(zip(heads, (cell(row[key]) for row in rows), strict=True))} for key in keys]
    print_table(lines, right=heads)


def cell(value: Any) -> str:
    """One value for people: four significant digits, no None."""
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float | Decimal):
        return _number(float(value))
    if isinstance(value, datetime):
        return value.astimezone().strftime("%Y-%m-%d %H:%M:%S")
    if isinstance(value, list | dict):
        return json.dumps(_jsonable(value))
    return plain(str(value))


def _number(value: float) -> str:
    if not math.isfinite(value):
        return str(value)
    if value == int(value) and abs(value) < 1e9:
        return str(int(value))
    return f"{value:.4g}" if abs(value) < 1000 else f"{value:,.0f}"


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
