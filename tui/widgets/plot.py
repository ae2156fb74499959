"""Curves as characters: series in, styled lines out. Pure, so that a test can read every cell."""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from dataclasses import dataclass

from tui.lines import format
from tui.lines.text import Line, centered, cut, line_width
from tui.lines.theme import Glyphs
from tui.widgets import axis, legend
from tui.widgets.canvas import Canvas, Mark, Series, drawable

Range = tuple[float, float]

SHORT = 5  # lines of a chart below which the axes take none


@dataclass(frozen=True)
class Plot:
    series: tuple[Series, ...]
    marks: tuple[Mark, ...] = ()
    log: bool = False
    x_range: tuple[float, float] | None = None  # from the data where None
    glyphs: Glyphs = Glyphs.BRAILLE
    rhythm: bool = False  # tell lines apart without colour
    empty: str = "nothing to draw yet"
    x_name: str = ""  # what x counts, said at the end of the axis; steps where empty
    without: str = ""  # which runs have no place on the axis
    outliers: bool = True  # whether the y axis covers values far from all others
    cross: float | None = None  # the x that a crosshair is wanted at


def render(plot: Plot, width: int, height: int) -> list[Line]:
    """`height` lines of `width` columns: legend, curves with a y axis, x axis."""
    if width < 8 or height < 2:
        return [[(" " * width, "")] for _ in range(height)]
    drawn = [series for series in plot.series if any(visible(plot, series))]
    if not drawn:
        return _message(why_empty(plot), width, height)
    x_range, y_range = ranges(plot, drawn)
    has_axes = width >= 20
    short = height < SHORT
    cross = None if plot.cross is None else legend.cross_at(plot.cross, drawn, x_range, plot.log)
    head = _head(plot, drawn, cross, width, height)
    if short and has_axes and cross is None:
        head = [_with_x_range(head[0], drawn, plot, x_range)]
    rows = height - (2 if has_axes and not short else 0) - len(head)
    ticks, labels = _ends(y_range, rows) if short else y_ticks(y_range, plot.log, max(2, rows // 2))
    gutter = max(map(len, labels)) + 2 if has_axes else 0
    canvas = Canvas(width - gutter, rows, plot.glyphs, x_range, y_range, plot.log)
    canvas.grid([] if short else ticks)
    for mark in plot.marks:
        canvas.mark(mark)
    if cross:
        canvas.crosshair(cross.x)
    _draw(canvas, drawn, cross, plot.rhythm)
    body = canvas.lines()
    if has_axes:
        body = _with_y_axis(body, canvas, ticks, labels, gutter)
    if has_axes and not short:
        body += _x_axis(x_range, note(plot, drawn, x_range, y_range), width, gutter, plot.glyphs)
    return [*head, *body]


def _ends(y_range: Range, rows: int) -> tuple[list[float], list[str]]:
    """The ends of the y axis as its ticks, for a chart that has no room for others; both in one row if there is one."""
    low, high = map(axis.value, y_range)
    return ([y_range[1]], [f"{low}–{high}"]) if rows < 2 else (list(y_range), [low, high])


def _with_x_range(head: Line, drawn: list[Series], plot: Plot, x_range: Range) -> Line:
    """The legend with the ends of the x axis behind it, in a chart without a line for that axis."""
    start, end = (format.count(x) if x >= 10_000 else axis.position(x) for x in x_range)
    said = f"{start}–{end} {plot.x_name.partition(',')[0] or 'steps'}"
    width = line_width(head)
    if len(said) + 12 > width:
        return head
    return [*legend.last_values(drawn, plot.log, plot.glyphs, width - len(said) - 1), (f" {said}", "axis")]


def _head(plot: Plot, drawn: list[Series], cross: legend.Cross | None, width: int, height: int) -> list[Line]:
    if cross is None:
        return [legend.last_values(drawn, plot.log, plot.glyphs, width)]
    most = max(1, min(legend.MOST_ROWS, height // 4))
    return legend.values_at(cross, drawn, plot.x_name, plot.glyphs, width, most)


def _draw(canvas: Canvas, drawn: list[Series], cross: legend.Cross | None, rhythm: bool) -> None:
    """The first series comes last, and so is on top."""
    for series in reversed(drawn):
        canvas.spread(series)
    for series in reversed(drawn):
        canvas.draw(series, rhythm)
    for series in reversed(drawn):
        canvas.markers(series)
    for series, at in zip(drawn, cross.points if cross else (), strict=False):
        if at is not None:
            canvas.point(series, series.x[at], series.y[at])


# ---- what is visible -----------------------------------------------------------------------------


def visible(plot: Plot, series: Series) -> Iterator[bool]:
    """Of each point, whether it is drawn."""
    for x, y in zip(series.x, series.y, strict=True):
        inside = plot.x_range is None or plot.x_range[0] <= x <= plot.x_range[1]
        yield inside and drawable(y, plot.log)


def why_empty(plot: Plot) -> str:
    """What is said in the place of curves."""
    values = [y for series in plot.series for y in series.y]
    if values and not any(map(math.isfinite, values)):
        return "only NaN or infinite values"
    if plot.log and values and not any(drawable(y, True) for y in values):
        return "nothing above 0 to draw on a log scale"
    return plot.empty


def ranges(plot: Plot, drawn: list[Series]) -> tuple[Range, Range]:
    """From where to where the x axis goes, and the y axis."""
    x_low = min(series.x[0] for series in drawn)
    x_high = max(series.x[-1] for series in drawn)
    start, end = plot.x_range or (x_low, x_high)
    if end <= start:
        start, end = start - 0.5, start + 0.5
    values: list[float] = []
    for series in drawn:
        inside = slice(bisect_left(series.x, start), bisect_right(series.x, end))
        for column in (series.y, series.low, series.high):
            values += [y for y in column[inside] if drawable(y, plot.log)]
    low, high = (min(values), max(values)) if plot.outliers else axis.without_outliers(values)
    return (start, end), axis.padded(low, high, plot.log)


def note(plot: Plot, drawn: list[Series], x_range: Range, y_range: Range) -> str:
    """What the axes alone do not say: what x counts, and how many points have no place in the range."""
    outside = 0
    if not plot.outliers:
        outside = sum(
            x_range[0] <= x <= x_range[1] and drawable(y, plot.log) and not y_range[0] <= y <= y_range[1]
            for series in drawn
            for x, y in zip(series.x, series.y, strict=True)
        )
    left_out = f"{outside} point{'' if outside == 1 else 's'} outside" if outside else ""
    return " · ".join(filter(None, (plot.x_name, plot.without, left_out)))


def y_ticks(y_range: tuple[float, float], log: bool, most: int) -> tuple[list[float], list[str]]:
    """At most so many ticks of the y axis, and their labels."""
    ticks = axis.log_ticks(*y_range, most) if log else axis.nice_ticks(*y_range, min(most, 8))
    if len(ticks) < 2:  # one says nothing of the scale
        return list(y_range), [axis.value(end) for end in y_range]
    if log and all(map(axis.is_round, ticks)):
        return ticks, [label for tick in ticks for label in axis.tick_labels([tick])]
    return ticks, axis.tick_labels(ticks)


# ---- around the canvas ---------------------------------------------------------------------------


def _message(text: str, width: int, height: int) -> list[Line]:
    lines: list[Line] = [[(" " * width, "")] for _ in range(height)]
    shown = cut(text, width)
    lines[height // 2] = [(centered(shown, width), "dim")]
    return lines


def _with_y_axis(
    body: list[Line], canvas: Canvas, ticks: list[float], labels: list[str], gutter: int
) -> list[Line]:
    bar, tee = ("|", "+") if canvas.glyphs is Glyphs.ASCII else ("│", "┤")
    by_row = {canvas.row_of(tick): label for tick, label in zip(ticks, labels, strict=True)}
    return [
        [
            (by_row.get(row, "").rjust(gutter - 2) + " ", "axis"),
            (tee if row in by_row else bar, "axis"),
            *line,
        ]
        for row, line in enumerate(body)
    ]


def _x_axis(x_range: Range, note: str, width: int, gutter: int, glyphs: Glyphs) -> list[Line]:
    dash, corner, tick_char = ("-", "+", "+") if glyphs is Glyphs.ASCII else ("─", "╰", "┬")
    columns = width - gutter
    ticks = axis.nice_ticks(*x_range, max(3, columns // 12))
    labels = axis.tick_labels(ticks)
    rule, text = [dash] * columns, [" "] * width
    free_from = 0
    start, end = x_range
    for tick, label in zip(ticks, labels, strict=True):
        column = round((tick - start) / (end - start) * (columns - 1))
        rule[column] = tick_char
        left = max(0, min(width - len(label), gutter + column - len(label) // 2))
        if left >= free_from:
            text[left : left + len(label)] = label
            free_from = left + len(label) + 2
    if note:
        said = f" {cut(note, columns - 4)} "
        rule[columns - len(said) :] = said
    return [
        [(" " * (gutter - 1), "axis"), (corner + "".join(rule), "axis")],
        [("".join(text), "axis")],
    ]
