"""The lines above a chart: each series with its last value, or with its value under the crosshair."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

from tui.lines.text import Line, line_width
from tui.lines.theme import Glyphs
from tui.widgets import axis
from tui.widgets.canvas import Series, drawable, marker

MOST_ROWS = 4  # of a legend with a crosshair


@dataclass(frozen=True)
class Cross:
    """The crosshair: where it stands, and which point of each series is the nearest (None: it has none in view)."""

    x: float
    points: tuple[int | None, ...]


def cross_at(x: float, series: Sequence[Series], x_range: tuple[float, float], log: bool) -> Cross | None:
    """The crosshair on the point that is nearest to an x, of any series; and what the others have nearest to that."""
    nearest = [_nearest(one, x, x_range, log) for one in series]
    found = [one.x[at] for one, at in zip(series, nearest, strict=True) if at is not None]
    if not found:
        return None
    at = min(found, key=lambda value: abs(value - x))
    return Cross(at, tuple(_nearest(one, at, x_range, log) for one in series))


def _nearest(series: Series, x: float, x_range: tuple[float, float], log: bool) -> int | None:
    """The index of the point nearest to an x, among those that are drawn."""
    start = bisect_left(series.x, x)
    after = range(start, len(series.x))
    before = range(start - 1, -1, -1)
    low, high = x_range
    found = [
        next((at for at in side if low <= series.x[at] <= high and drawable(series.y[at], log)), None)
        for side in (before, after)
    ]
    return min((at for at in found if at is not None), key=lambda at: abs(series.x[at] - x), default=None)


def last_values(drawn: Sequence[Series], log: bool, glyphs: Glyphs, width: int) -> Line:
    """One line; what does not fit is counted."""
    entries = [_entry(series, last_value(series, log), glyphs) for series in drawn]
    return _rows(entries, width, 1)[0]


def last_value(series: Series, log: bool) -> str:
    """What the legend says of a series."""
    return axis.value(next(y for y in reversed(series.values) if drawable(y, log)))


def value_at(series: Series, at: int, x: float) -> str:
    """What it says with a crosshair at `x`: the value of a point, and where that is if it is not there."""
    text = axis.value(series.values[at])
    if series.interval and series.low[at] == series.low[at] and series.high[at] == series.high[at]:
        text += f" [{axis.value(series.low[at])}, {axis.value(series.high[at])}]"
    return text if series.x[at] == x else f"{text} at {axis.position(series.x[at])}"


def values_at(
    cross: Cross, drawn: Sequence[Series], x_name: str, glyphs: Glyphs, width: int, most: int
) -> list[Line]:
    """As many lines as it takes, at most `most`: where the crosshair stands, and the value of every series there. A
    value of another x says of which one.
    """
    entries: list[Line] = [[(f"{axis.position(cross.x)} {x_name or 'steps'}   ", "bright")]]
    for series, at in zip(drawn, cross.points, strict=True):
        if at is None:
            continue
        entries.append(_entry(series, value_at(series, at, cross.x), glyphs))
    return _rows(entries, width, most)


def _entry(series: Series, value: str, glyphs: Glyphs) -> Line:
    return [
        (f"{marker(series.slot, glyphs)} ", f"s{series.slot}"),
        (f"{series.label} ", "text"),
        (f"{value}   ", "dim"),
    ]


def _rows(entries: Sequence[Line], width: int, most: int) -> list[Line]:
    """The entries in lines of exactly `width` columns; those for which there is no room are counted at the end."""
    rows: list[Line] = [[]]
    for index, entry in enumerate(entries):
        rest = len(entries) - index - 1
        last_row = len(rows) == most
        room = width - line_width(rows[-1]) - (3 if rest and last_row else -3)
        if line_width(entry) > room and rows[-1] and not last_row:
            rows.append([])
            room = width - (3 if rest and len(rows) == most else -3)
        if line_width(entry) > room:
            rows[-1].append((f"+{rest + 1}", "dim"))
            break
        rows[-1] += entry
    return [_filled(row, width) for row in rows]


def _filled(line: Line, width: int) -> Line:
    used = line_width(line)
    if used > width:  # only the blanks at the end of the last entry are too many
        text, style = line[-1]
        return [*line[:-1], (text[: len(text) - (used - width)], style)]
    return [*line, (" " * (width - used), "")] if used < width else line
