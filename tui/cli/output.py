"""Printing: text, tables and JSON on stdout, narration on stderr.

Nothing else in this package prints (ruff's T20), so that nothing comes to a terminal but through here: names, reasons,
data and answers of models are made safe by engine/basics/safe_text.py. guarded.py does it for what libraries print.
"""

from __future__ import annotations

import math
import os
import shutil
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from decimal import Decimal
from typing import TYPE_CHECKING, Any, TextIO

from engine.basics import safe_text
from engine.basics.safe_text import one_line
from engine.basics.wording import NONE, moment
from tui.cli.guarded import Guarded
from tui.lines.tables import json_text
from tui.lines.text import distinct, squeezed, width_of

if TYPE_CHECKING:  # else imported where something is drawn: most commands print what needs none of it
    from rich.console import Console

GAP = 2  # columns of the terminal between two of a table
# Wide enough that nothing is cut when the output goes to a file or a pipe.
PIPE_WIDTH = 400
TELL_S = 10.0  # between two lines on how far something is, where they stay


def drawable(text: str, stream: TextIO | None = None) -> str:
    """The text in ASCII, in as many columns, where NO_UNICODE is set or the terminal has nothing else; a pipe has what
    is written, unless NO_UNICODE says otherwise.
    """
    if text.isascii() or not (os.environ.get("NO_UNICODE") or (stream or sys.stdout).isatty()):
        return text
    from tui.lines import theme

    return text if theme.terminal_has_unicode() else theme.to_ascii(text)


def console() -> Console:
    from rich.console import Console

    return Console(emoji=False) if sys.stdout.isatty() else Console(width=PIPE_WIDTH, emoji=False)


def drawing_console() -> Console:
    """For what is drawn anew in its place, by moving the cursor, which a guarded stream lets nobody do: the texts have
    to be safe before.
    """
    from rich.console import Console

    return Console(file=sys.stdout.stream if isinstance(sys.stdout, Guarded) else sys.stdout, emoji=False)


def out(line: str = "", *, flush: bool = False) -> None:
    """One line on stdout."""
    print(drawable(one_line(line)), flush=flush)


def out_text(text: str) -> None:
    """A text of several lines on stdout."""
    print(drawable(safe_text.lines(text)))


def out_coloured(text: str, styles: Sequence[tuple[str, str]]) -> None:
    """A text of several lines, what matches an expression in its style: (expression, style)."""
    from rich.text import Text

    shown = Text(drawable(safe_text.lines(text)))
    for expression, style in styles:
        shown.highlight_regex(expression, style)
    console().print(shown, highlight=False)


def out_raw(text: str) -> None:
    """A piece of data or of a log: for files and pipes as it is, for a terminal made safe."""
    sys.stdout.write(safe_text.lines(text) if sys.stdout.isatty() else text)


def out_path(path: object) -> None:
    """A path: for files and pipes as it is, for a terminal in one line."""
    sys.stdout.write(f"{one_line(str(path)) if sys.stdout.isatty() else path}\n")


def say(sentence: str) -> None:
    """Narration, one line on stderr."""
    print(drawable(one_line(sentence), sys.stderr), file=sys.stderr, flush=True)


def waiting() -> Callable[[str], None]:
    """What tells how far something is that a command waits for: on a terminal in one line, which is gone when an empty
    text ends it; elsewhere in a line now and then.
    """
    next_at = 0.0

    def tell(sentence: str) -> None:
        nonlocal next_at
        if sys.stderr.isatty():
            stream = sys.stderr.stream if isinstance(sys.stderr, Guarded) else sys.stderr
            room = shutil.get_terminal_size().columns - 1
            stream.write("\r\x1b[2K" + squeezed(one_line(sentence), room))
            stream.flush()
        elif sentence and time.monotonic() >= next_at:
            next_at = time.monotonic() + TELL_S
            say(sentence)

    return tell


def complain(error: object) -> None:
    """Why a command ends, on stderr; further lines are indented, so that none looks like one of finetui's own."""
    text = safe_text.lines(str(error)).replace("\n", "\n  ")
    print(f"finetui: {drawable(text, sys.stderr)}", file=sys.stderr, flush=True)


def print_json(value: Any) -> None:
    """One JSON document on stdout, as `json_text` writes it."""
    print(json_text(value, indent=2))


def print_json_line(value: Any) -> None:
    """One JSON document in one line, at once: of those that go on, as it comes."""
    print(json_text(value), flush=True)


def print_table(
    rows: Sequence[dict[str, Any]], columns: Sequence[str] | None = None, right: Sequence[str] = ()
) -> None:
    """Rows as a plain table, numbers and the columns in `right` to the right; `columns` chooses and orders."""
    if not rows:
        return
    names = list(columns or rows[0])
    numeric = {
        name for name in names if all(isinstance(row[name], int | float | Decimal | None) for row in rows)
    }
    to_right = [name in right or name in numeric for name in names]
    cells = [list(map(one_line, names)), *([cell(row[name]) for name in names] for row in rows)]
    lines = [list(map(drawable, texts)) for texts in cells]
    widths = [max(map(width_of, column)) for column in zip(*lines, strict=True)]
    if sum(widths) + GAP * (len(widths) - 1) > columns_of_output():
        _print_wrapped(names, lines, to_right)
        return
    bold = ("\x1b[1m", "\x1b[0m") if _is_styled() else ("", "")
    for at, texts in enumerate(lines):
        padded = map(_padded, texts, widths, to_right)
        start, end = bold if at == 0 else ("", "")
        print(f"{start}{(' ' * GAP).join(padded)}{end}")


def _padded(text: str, width: int, right: bool) -> str:
    blank = " " * (width - width_of(text))
    return blank + text if right else text + blank


def _print_wrapped(names: Sequence[str], lines: Sequence[Sequence[str]], to_right: Sequence[bool]) -> None:
    """A table that is wider than the output: its cells go on below."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold", show_edge=False)
    for name, head, right in zip(names, lines[0], to_right, strict=True):
        table.add_column(head, justify="right" if right else "left", no_wrap=name in ("run", "state"))
    for texts in lines[1:]:
        table.add_row(*texts)
    console().print(table, highlight=False, markup=False)


def columns_of_output() -> int:
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else PIPE_WIDTH


def _is_styled() -> bool:
    return sys.stdout.isatty() and os.environ.get("TERM", "") not in ("", "dumb", "unknown")


def print_listing(
    rows: Sequence[dict[str, Any]],
    columns: Sequence[str],
    least: Mapping[str, int],
    dispensable: Sequence[str],
) -> None:
    """A table of one line a row. On a terminal, columns without a value are left out; where it is still too narrow,
    those of `least` are cut, to so many columns of the terminal at least, and then the dispensable ones go.
    """
    if not sys.stdout.isatty() or not rows:
        print_table(rows, columns)
        return
    right = [name for name in columns if all(isinstance(row[name], int | float | None) for row in rows)]
    cells = {name: [cell(row[name]) for row in rows] for name in columns}
    widths = {
        name: max(map(width_of, [name, *texts]))
        for name, texts in cells.items()
        if any(text not in ("", NONE) for text in texts)
    }
    room, leaving = columns_of_output(), list(dispensable)
    while (excess := sum(widths.values()) + GAP * (len(widths) - 1) - room) > 0:
        name = next((name for name, most in least.items() if widths.get(name, 0) > most), None)
        if name is not None:
            widths[name] = max(least[name], widths[name] - excess)
        elif leaving:
            widths.pop(leaving.pop(0), None)
        else:
            break
    # Runs of a sweep may differ in the middle of their names.
    shown = {name: distinct(dict.fromkeys(cells[name]), width) for name, width in widths.items()}
    print_table(
        [{name: shown[name][cells[name][at]] for name in widths} for at in range(len(rows))], right=right
    )


def print_side_by_side(rows: Sequence[dict[str, Any]]) -> None:
    """Runs as columns, headed by `run` and `name`, and what is known of them as rows: fits 80 columns."""
    heads = [f"#{row['run']} {row['name']}" for row in rows]
    keys = [key for key in rows[0] if key not in ("run", "name")] if rows else []
    lines = [{"": key, **dict(zip(heads, (cell(row[key]) for row in rows), strict=True))} for key in keys]
    print_table(lines, right=heads)


def cell(value: Any) -> str:
    """One value for people, in one line: four significant digits, no None."""
    if value is None:
        return NONE
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Decimal) and value == value.to_integral_value():
        return str(int(value)) if abs(value) < 1_000_000_000 else f"{int(value):,}"
    if isinstance(value, float | Decimal):
        return _number(float(value))
    if isinstance(value, datetime):
        return moment(value)
    if isinstance(value, list | dict):
        return json_text(value)
    return one_line(str(value).replace("\n", "⏎ "))


def _number(value: float) -> str:
    if not math.isfinite(value):
        return str(value)
    if value == int(value) and abs(value) < 1e9:
        return str(int(value))
    return f"{value:.4g}" if abs(value) < 1000 else f"{value:,.0f}"
