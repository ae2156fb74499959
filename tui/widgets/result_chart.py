"""A result as curves: which column is x, which are drawn, and which tell the lines apart."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any

from engine.basics.safe_text import one_line
from engine.basics.wording import moment
from tui.lines.arrow_values import values
from tui.lines.tables import is_numeric, plain
from tui.lines.theme import SERIES
from tui.state import ChartView
from tui.widgets.plot import Plot, Series

MOST_POINTS = 800  # of a line; more are put together, with their extremes behind them
_HOUR = 3600.0


@dataclass(frozen=True)
class Curves:
    """Lines by the column that is drawn: the chart shows those of all columns, or of one."""

    x: str
    names: tuple[str, ...]  # columns that can be drawn
    series: tuple[tuple[str, str, tuple[float, ...], tuple[float, ...]], ...]  # column, label, x, y
    left_out: int = 0  # lines beyond the colours that there are

    def plot(self, only: str | None, view: ChartView, *, color: bool) -> Plot:
        shown = [one for one in self.series if only in (None, one[0])]
        series = [_drawn(label, slot, x, y) for slot, (_, label, x, y) in enumerate(shown[:SERIES])]
        return Plot(
            tuple(series), log=view.log, glyphs=view.glyphs, rhythm=not color, empty="nothing to draw"
        )

    def hidden(self, only: str | None) -> int:
        """How many lines have no colour left."""
        return max(0, sum(only in (None, one[0]) for one in self.series) - SERIES)


def of(table: Any, x: str | None) -> Curves | None:
    """The curves of an Arrow table over column `x`; without one, over `step` or its first numeric column. With a single
    numeric column, over the number of the row. None where no column has numbers.

    Columns before x tell lines apart (SELECT run, step, value), unless every row would be a line of its own, or there
    would be more than there are colours.
    """
    names = list(table.column_names)
    numeric = [field.name for field in table.schema if is_numeric(field.type)]
    if not numeric:
        return None
    x = x or _usual_x(table, numeric)
    drawn = [name for name in numeric if name != x]
    if not drawn or x is None:
        x, drawn = None, numeric
    across, label = _values(table, x)
    split = names[: names.index(x)] if x else []
    groups = _groups(table, split) if x else {}
    if groups:
        drawn = [name for name in drawn if name not in split] or drawn
    lines = []
    for name in drawn:
        down = [math.nan if value is None else float(value) for value in table.column(name).to_pylist()]
        for group, rows in (groups or {"": list(range(table.num_rows))}).items():
            points = sorted((across[row], down[row]) for row in rows if math.isfinite(across[row]))
            title = " ".join(filter(None, (group, name if len(drawn) > 1 or not group else "")))
            xs, ys = tuple(x for x, _ in points), tuple(y for _, y in points)
            lines.append((name, one_line(title), xs, ys))
    return Curves(label, tuple(drawn), tuple(lines))


def can_be_x(table: Any, name: str) -> bool:
    type_ = table.schema.field(name).type
    return is_numeric(type_) or str(type_).startswith(("timestamp", "date"))


def _usual_x(table: Any, numeric: Sequence[str]) -> str | None:
    if "step" in numeric:
        return "step"
    if len(numeric) > 1:
        return numeric[0]
    return next((name for name in table.column_names if can_be_x(table, name) and name not in numeric), None)


def _values(table: Any, x: str | None) -> tuple[list[float], str]:
    """Where the points are, and what that is called; times in hours since the first one."""
    if x is None:
        return [float(row + 1) for row in range(table.num_rows)], "row"
    found = values(
        table.column(x)
    )  # a moment that Python lacks, such as an infinite one, is text: it has no place
    times = [value for value in found if isinstance(value, date)]
    if not times:
        return [math.nan if value is None or isinstance(value, str) else float(value) for value in found], x
    first = min(map(_seconds, times))
    zoned = isinstance(times[0], datetime) and times[0].tzinfo is not None
    since = datetime.fromtimestamp(first, UTC if zoned else None)
    hours = [(_seconds(value) - first) / _HOUR if isinstance(value, date) else math.nan for value in found]
    return hours, f"{x}, hours since {moment(since)}"


def _seconds(value: date) -> float:
    moment = value if isinstance(value, datetime) else datetime(value.year, value.month, value.day)
    return moment.timestamp()


def _groups(table: Any, split: Sequence[str]) -> dict[str, list[int]]:
    """Rows by what stands in the columns before x; none where that tells no lines apart."""
    if not split:
        return {}
    columns = [values(table.column(name)) for name in split]
    groups: dict[str, list[int]] = {}
    for row, cells in enumerate(zip(*columns, strict=True)):
        groups.setdefault(
            " ".join(_named(name, cell) for name, cell in zip(split, cells, strict=True)), []
        ).append(row)
        if len(groups) > SERIES:
            return {}
    return groups if 1 < len(groups) < table.num_rows or table.num_rows == 1 else {}


def _named(column: str, value: Any) -> str:
    return f"#{value}" if column == "run" else plain(value)


def _drawn(label: str, slot: int, x: tuple[float, ...], y: tuple[float, ...]) -> Series:
    if len(x) <= MOST_POINTS:
        return Series(label, slot, x, y)
    each = math.ceil(len(x) / MOST_POINTS)
    starts = range(0, len(x), each)
    parts = [[value for value in y[at : at + each] if math.isfinite(value)] or [math.nan] for at in starts]
    return Series(
        label,
        slot,
        tuple(x[at] for at in starts),
        tuple(part[-1] for part in parts),
        tuple(map(min, parts)),
        tuple(map(max, parts)),
    )
