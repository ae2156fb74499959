"""A table of any length as lines: only the rows in view are read, so 100,000 rows cost as much as fifty."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from engine.basics.safe_text import one_line
from tui.lines import format
from tui.lines.text import Line, fit, left, right, width_of

MOST = 60  # columns of the screen that one column of the table may take
_LOOKED_AT = 200


@dataclass(frozen=True)
class Grid:
    """Rows by number, through `read(start, stop)`, so that they may live in Arrow."""

    names: tuple[str, ...]
    numeric: tuple[bool, ...]
    widths: tuple[int, ...]
    rows: int
    read: Callable[[int, int], Sequence[Sequence[object]]]


def make(
    names: Sequence[str],
    numeric: Sequence[bool],
    rows: int,
    read: Callable[[int, int], Sequence[Sequence[object]]],
) -> Grid:
    """A grid whose columns are as wide as its first rows need."""
    names = [one_line(name) for name in names]
    widths = _widened([width_of(name) for name in names], read(0, min(rows, _LOOKED_AT)))
    return Grid(tuple(names), tuple(numeric), tuple(widths), rows, read)


def _widened(widths: Sequence[int], rows: Sequence[Sequence[object]]) -> list[int]:
    """The widths that hold these rows too: a later number may be longer than the first ones."""
    wide = list(widths)
    for row in rows:
        for at, cell in enumerate(row):
            wide[at] = max(wide[at], min(MOST, width_of(cell_text(cell))))
    return wide


def cell_text(cell: object) -> str:
    """A cell's text without line breaks and control characters."""
    return one_line(format.value(cell).replace("\n", "⏎ "))


def widths_in_view(grid: Grid, top: int, height: int) -> list[int]:
    """Columns of the screen that each column takes while the rows from `top` are in view."""
    return _widened(grid.widths, grid.read(top, min(grid.rows, top + height - 1)))


def lines(
    grid: Grid, top: int, first: int, cursor: tuple[int, int] | None, width: int, height: int
) -> list[Line]:
    """The header and the rows from `top`, with `first` as the first column; `cursor` is a row and a column."""
    count = len(str(grid.rows))
    rows = grid.read(top, min(grid.rows, top + height - 1))
    widths = _widened(grid.widths, rows)
    row_under, column_under = cursor or (None, None)
    columns = range(min(first, max(0, len(grid.names) - 1)), len(grid.names))
    head: Line = [(" " * (count + 2), "")]
    for at in columns:
        style = "key" if at == column_under else "accent"
        head += [(_aligned(grid.names[at], widths[at], grid.numeric[at]), style), ("  ", "")]
    shown = [fit(head, width)]
    for number, row in enumerate(rows, start=top):
        under = number == row_under
        line: Line = [("▌", "cursor") if under else (" ", ""), (str(number + 1).rjust(count) + " ", "faint")]
        for at in columns:
            text, style = cell_text(row[at]), "faint" if row[at] is None else "bright" if under else "text"
            if under and at == column_under:
                style = "cell"
            line += [(_aligned(text, widths[at], grid.numeric[at]), style), ("  ", "")]
        shown.append(fit(line, width))
    return shown


def _aligned(text: str, width: int, numeric: bool) -> str:
    return right(text, width) if numeric else left(text, width)


def visible_first(first: int, at: int, widths: Sequence[int], width: int) -> int:
    """The first column in view such that column `at` is in view, whole where it has the room."""
    first = min(first, at)
    while first < at and sum(widths[first : at + 1]) + 2 * (at - first) > width:
        first += 1
    return first
