"""Curves as characters: series in, styled lines out. Pure, so that a test can read every cell.

A cell holds 2x4 dots in braille, 1x2 as half blocks, 1x1 in ASCII. Dots of several series may share a cell;
the cell then has the style of the series drawn last, which is the first one given (the selected run).
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass

from tui.lines.text import Line, centered, cut, line_width
from tui.lines.theme import Glyphs
from tui.widgets import axis

MARKERS = "●■▲◆○□△◇"
ASCII_MARKERS = "*+ox#@%&"
# Without colour a line is told by its rhythm: dots drawn of every so many.
RHYTHMS = ((1, 1), (4, 7), (1, 3), (6, 8), (2, 4), (8, 11), (1, 5), (3, 4))
_BRAILLE_BIT = ((0x01, 0x08), (0x02, 0x10), (0x04, 0x20), (0x40, 0x80))


@dataclass(frozen=True)
class Series:
    """One curve. `x` rises. `low`/`high` are the extremes behind each point, or its confidence interval."""

    label: str
    slot: int  # which colour, marker and rhythm
    x: tuple[float, ...]
    y: tuple[float, ...]
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()
    last: float | None = None  # said in the legend; the last of `y` where None
    interval: bool = False  # low and high are an interval: drawn as whiskers, points get markers


@dataclass(frozen=True)
class Mark:
    """A vertical line: a flag raised at this x."""

    x: float
    style: str


@dataclass(frozen=True)
class Plot:
    series: tuple[Series, ...]
    marks: tuple[Mark, ...] = ()
    log: bool = False
    x_range: tuple[float, float] | None = None  # from the data where None
    glyphs: Glyphs = Glyphs.BRAILLE
    rhythm: bool = False  # tell lines apart without colour
    empty: str = "nothing to draw yet"


def render(plot: Plot, width: int, height: int) -> list[Line]:
    """`height` lines of `width` columns: legend, curves with a y axis, x axis."""
    if width < 8 or height < 2:
        return [[(" " * width, "")] for _ in range(height)]
    drawn = [series for series in plot.series if any(visible(plot, series))]
    if not drawn:
        return _message(_why_empty(plot), width, height)
    x_range, y_range = ranges(plot, drawn)
    has_axis = height >= 5 and width >= 20
    rows = height - (2 if has_axis else 0) - 1
    ticks, labels = y_ticks(y_range, plot.log, max(2, rows // 2))
    gutter = max(map(len, labels)) + 2 if has_axis else 0
    canvas = Canvas(width - gutter, rows, plot.glyphs, x_range, y_range, plot.log)
    canvas.grid(ticks)
    for mark in plot.marks:
        canvas.mark(mark)
    for series in reversed(drawn):
        canvas.spread(series)
    for series in reversed(drawn):
        canvas.draw(series, plot.rhythm)
    for series in reversed(drawn):
        canvas.markers(series)
    body = canvas.lines()
    if has_axis:
        body = _with_y_axis(body, canvas, ticks, labels, gutter)
        body += _x_axis(x_range, width, gutter, plot.glyphs)
    return [_legend(plot, drawn, width), *body]


# ---- what is visible -----------------------------------------------------------------------------


def visible(plot: Plot, series: Series) -> Iterator[bool]:
    """Of each point, whether it is drawn."""
    for x, y in zip(series.x, series.y, strict=True):
        inside = plot.x_range is None or plot.x_range[0] <= x <= plot.x_range[1]
        yield inside and drawable(y, plot.log)


def drawable(y: float, log: bool) -> bool:
    """Whether a value has a place on the axis."""
    return math.isfinite(y) and (y > 0 or not log)


def _why_empty(plot: Plot) -> str:
    values = [y for series in plot.series for y in series.y]
    if values and not any(map(math.isfinite, values)):
        return "only NaN or infinite values"
    if plot.log and values and not any(drawable(y, True) for y in values):
        return "nothing above 0 to draw on a log scale"
    return plot.empty


def ranges(plot: Plot, drawn: list[Series]) -> tuple[tuple[float, float], tuple[float, float]]:
    """From where to where the x axis goes, and the y axis."""
    x_low = min(series.x[0] for series in drawn)
    x_high = max(series.x[-1] for series in drawn)
    start, end = plot.x_range or (x_low, x_high)
    if end <= start:
        start, end = start - 0.5, start + 0.5
    values: list[float] = []
    for series in drawn:
        for column in (series.y, series.low, series.high):
            pairs = zip(series.x, column, strict=False)
            values += [y for x, y in pairs if start <= x <= end and drawable(y, plot.log)]
    return (start, end), axis.padded(min(values), max(values), plot.log)


def y_ticks(y_range: tuple[float, float], log: bool, most: int) -> tuple[list[float], list[str]]:
    """At most so many ticks of the y axis, and their labels."""
    ticks = axis.log_ticks(*y_range, most) if log else axis.nice_ticks(*y_range, min(most, 8))
    if log and all(map(axis.is_round, ticks)):
        return ticks, [label for tick in ticks for label in axis.tick_labels([tick])]
    return ticks, axis.tick_labels(ticks)


# ---- dots ----------------------------------------------------------------------------------------


class Canvas:
    """A grid of cells that holds dots, each with the slot of the series that owns it."""

    def __init__(
        self,
        columns: int,
        rows: int,
        glyphs: Glyphs,
        x_range: tuple[float, float],
        y_range: tuple[float, float],
        log: bool,
    ) -> None:
        self.columns, self.rows, self.glyphs, self.log = columns, rows, glyphs, log
        self._across, self._down = glyphs.value
        self._x0, self._x1 = x_range
        self._y0, self._y1 = map(self._scale, y_range)
        self._bits = [[0] * columns for _ in range(rows)]
        self._chars = [[" "] * columns for _ in range(rows)]
        self._styles = [[""] * columns for _ in range(rows)]

    def _scale(self, y: float) -> float:
        return math.log10(y) if self.log else y

    def dot_x(self, x: float) -> float:
        return (x - self._x0) / (self._x1 - self._x0) * (self.columns * self._across - 1)

    def dot_y(self, y: float) -> int:
        """Row of dots of a value, from the top; the axis covers all values that are drawn."""
        share = (self._y1 - self._scale(y)) / (self._y1 - self._y0)
        return round(share * (self.rows * self._down - 1))

    def row_of(self, y: float) -> int:
        return max(0, min(self.rows - 1, self.dot_y(y) // self._down))

    def grid(self, ticks: list[float]) -> None:
        char = "." if self.glyphs is Glyphs.ASCII else "┈"
        for tick in ticks:
            row = self.row_of(tick)
            for column in range(self.columns):
                if self.glyphs is not Glyphs.ASCII or column % 4 == 0:
                    self._chars[row][column], self._styles[row][column] = char, "grid"

    def mark(self, mark: Mark) -> None:
        if not self._x0 <= mark.x <= self._x1:
            return
        column = int(self.dot_x(mark.x)) // self._across
        line, top = ("|", "!") if self.glyphs is Glyphs.ASCII else ("┊", "⚑")
        for row in range(self.rows):
            self._chars[row][column], self._styles[row][column] = (line if row else top), mark.style

    def spread(self, series: Series) -> None:
        """The interval or the extremes behind every point, faint; below all lines."""
        faint = f"s{series.slot}-faint"
        for x, low, high in zip(series.x, series.low, series.high, strict=False):
            if self._x0 <= x <= self._x1 and drawable(low, self.log) and drawable(high, self.log):
                self._vertical(x, low, high, series.slot, faint)

    def draw(self, series: Series, rhythm: bool) -> None:
        """The line through the points."""
        line = f"s{series.slot}"
        previous: tuple[float, float] | None = None
        travelled = 0
        for x, y in zip(series.x, series.y, strict=True):
            if not drawable(y, self.log):
                previous = None
                continue
            point = (self.dot_x(x), self._exact_y(y))
            travelled = self._segment(previous or point, point, series.slot, line, rhythm, travelled)
            previous = point

    def markers(self, series: Series) -> None:
        """The series' own marker on its last point; on every point where the points are few."""
        shapes = ASCII_MARKERS if self.glyphs is Glyphs.ASCII else MARKERS
        inside = [
            (x, y)
            for x, y in zip(series.x, series.y, strict=True)
            if self._x0 <= x <= self._x1 and drawable(y, self.log)
        ]
        if series.interval and len(inside) <= self.columns // 3:
            dot = shapes[series.slot % len(shapes)] if self.glyphs is Glyphs.ASCII else "•"
            for x, y in inside[:-1]:
                self._put(x, y, dot, f"s{series.slot}")
        for x, y in inside[-1:]:
            self._put(x, y, shapes[series.slot % len(shapes)], f"s{series.slot}")

    def lines(self) -> list[Line]:
        """The cells, neighbours of one style joined."""
        return [self._line(row) for row in range(self.rows)]

    def _line(self, row: int) -> Line:
        line: Line = []
        text, current = "", ""
        for column in range(self.columns):
            char, style = self._chars[row][column], self._styles[row][column]
            if style != current and text:
                line.append((text, current))
                text = ""
            text, current = text + char, style
        return [*line, (text, current)]

    def _exact_y(self, y: float) -> float:
        share = (self._y1 - self._scale(y)) / (self._y1 - self._y0)
        return share * (self.rows * self._down - 1)

    def _put(self, x: float, y: float, char: str, style: str) -> None:
        column = min(self.columns - 1, round(self.dot_x(x)) // self._across)
        row = self.row_of(y)
        self._chars[row][column], self._styles[row][column] = char, style

    def _vertical(self, x: float, low: float, high: float, slot: int, style: str) -> None:
        column = round(self.dot_x(x))
        for dot in range(self.dot_y(high), self.dot_y(low) + 1):
            self._dot(column, dot, slot, style)

    def _segment(
        self,
        start: tuple[float, float],
        end: tuple[float, float],
        slot: int,
        style: str,
        rhythm: bool,
        travelled: int,
    ) -> int:
        """A straight line of dots; returns how many dots the series' line has run through so far."""
        clipped = self._clip(start, end)
        if clipped is None:
            return travelled
        (x0, y0), (x1, y1) = clipped
        count = max(1, round(max(abs(x1 - x0), abs(y1 - y0))))
        on, every = RHYTHMS[slot % len(RHYTHMS)]
        for index in range(count + 1):
            if not rhythm or (travelled + index) % every < on:
                share = index / count
                self._dot(round(x0 + (x1 - x0) * share), round(y0 + (y1 - y0) * share), slot, style)
        return travelled + count

    def _clip(
        self, start: tuple[float, float], end: tuple[float, float]
    ) -> tuple[tuple[float, float], tuple[float, float]] | None:
        """The part of a segment inside the edges, None when there is none. A spike outside a zoomed window may be
        millions of dots away.
        """
        (x0, y0), (x1, y1) = start, end
        first, last = 0.0, 1.0  # shares of the segment (Liang and Barsky, 1984)
        for from_, by, most in (
            (x0, x1 - x0, self.columns * self._across - 1),
            (y0, y1 - y0, self.rows * self._down - 1),
        ):
            if not by:
                if not 0 <= from_ <= most:
                    return None
                continue
            enter, leave = sorted((-from_ / by, (most - from_) / by))
            first, last = max(first, enter), min(last, leave)
        if first > last:
            return None
        return (x0 + first * (x1 - x0), y0 + first * (y1 - y0)), (
            x0 + last * (x1 - x0),
            y0 + last * (y1 - y0),
        )

    def _dot(self, x: int, y: int, slot: int, style: str) -> None:
        column, row = x // self._across, y // self._down
        if not (0 <= column < self.columns and 0 <= row < self.rows):
            return
        if self._styles[row][column].endswith("-faint") and not style.endswith("-faint"):
            self._bits[row][column] = 0  # a line stands alone in its cells, so that it stays thin
        if self.glyphs is Glyphs.BRAILLE:
            self._bits[row][column] |= _BRAILLE_BIT[y % 4][x % 2]
            char = chr(0x2800 + self._bits[row][column])
        elif self.glyphs is Glyphs.BLOCK:
            self._bits[row][column] |= 1 << (y % 2)
            char = " ▀▄█"[self._bits[row][column]]
        else:
            char = ASCII_MARKERS[slot % len(ASCII_MARKERS)]
        self._chars[row][column], self._styles[row][column] = char, style


# ---- around the canvas ---------------------------------------------------------------------------


def _message(text: str, width: int, height: int) -> list[Line]:
    lines: list[Line] = [[(" " * width, "")] for _ in range(height)]
    shown = cut(text, width)
    lines[height // 2] = [(centered(shown, width), "dim")]
    return lines


def _legend(plot: Plot, drawn: list[Series], width: int) -> Line:
    ascii_only = plot.glyphs is Glyphs.ASCII
    shapes = ASCII_MARKERS if ascii_only else MARKERS
    line: Line = []
    for index, series in enumerate(drawn):
        last = (
            next(y for y in reversed(series.y) if drawable(y, plot.log))
            if series.last is None
            else series.last
        )
        entry: Line = [
            (f"{shapes[series.slot % len(shapes)]} ", f"s{series.slot}"),
            (f"{series.label} ", "text"),
            (f"{axis_value(last)}   ", "dim"),
        ]
        rest = len(drawn) - index - 1
        room = width - line_width(line) - line_width(entry) - (3 if rest else -3)
        if room < 0:
            line.append((f"+{rest + 1}", "dim"))
            break
        line += entry
    used = line_width(line)
    if used > width:  # only the blanks at the end of the last entry are too many
        text, style = line[-1]
        line[-1] = (text[: len(text) - (used - width)], style)
    elif used < width:
        line.append((" " * (width - used), ""))
    return line


def axis_value(value: float) -> str:
    """Four significant digits, short."""
    if value and (abs(value) < 1e-3 or abs(value) >= 1e6):
        return f"{value:.2e}".replace("e-0", "e-").replace("e+0", "e")
    return f"{value:.4g}"


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


def _x_axis(x_range: tuple[float, float], width: int, gutter: int, glyphs: Glyphs) -> list[Line]:
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
    return [
        [(" " * (gutter - 1), "axis"), (corner + "".join(rule), "axis")],
        [("".join(text), "axis")],
    ]
