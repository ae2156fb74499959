"""The cells that curves are drawn on, and the curves: no text, no axis.

A cell holds 2x4 dots in braille, 1x2 as half blocks, 1x1 in ASCII. Dots of several series may share a cell; the cell
then has the style of the series drawn last.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from tui.lines.text import Line
from tui.lines.theme import ASCII_MARKERS, MARKERS, Glyphs

# Without colour a line is told by its rhythm: dots drawn of every so many.
RHYTHMS = ((1, 1), (4, 7), (1, 3), (6, 8), (2, 4), (8, 11), (1, 5), (3, 4))
_BRAILLE_BITS = ((0x01, 0x02, 0x04, 0x40), (0x08, 0x10, 0x20, 0x80))  # of both columns, from the top
# The bits of a cell by which of a column's four dots are set.
_BRAILLE = tuple(
    tuple(sum(bit for row, bit in enumerate(column) if dots >> row & 1) for dots in range(16))
    for column in _BRAILLE_BITS
)


@dataclass(frozen=True)
class Series:
    """One curve. `x` rises. `low`/`high` are the extremes behind each point, or its confidence interval."""

    label: str
    slot: int  # which colour, marker and rhythm
    x: tuple[float, ...]
    y: tuple[float, ...]
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()
    raw: tuple[float, ...] = ()  # the values to say, where `y` is smoothed
    interval: bool = False  # low and high are an interval: drawn as whiskers, points get markers

    @property
    def values(self) -> tuple[float, ...]:
        """What was measured at each x."""
        return self.raw or self.y


@dataclass(frozen=True)
class Mark:
    """A vertical line: a flag raised at this x."""

    x: float
    style: str


def drawable(y: float, log: bool) -> bool:
    """Whether a value has a place on the axis."""
    return math.isfinite(y) and (y > 0 or not log)


def marker(slot: int, glyphs: Glyphs) -> str:
    """The mark of a series' last point, by which the legend names it."""
    shapes = ASCII_MARKERS if glyphs is Glyphs.ASCII else MARKERS
    return shapes[slot % len(shapes)]


Point = tuple[float, float]


def clip(start: Point, end: Point, edges: tuple[float, float, float, float]) -> tuple[Point, Point] | None:
    """The part of a segment inside the edges (left, top, right, bottom), None when there is none. A spike outside a
    zoomed window may be millions of dots away.
    """
    (x0, y0), (x1, y1) = start, end
    left, top, right, bottom = edges
    if left <= x0 <= right and left <= x1 <= right and top <= y0 <= bottom and top <= y1 <= bottom:
        return start, end
    first, last = 0.0, 1.0  # shares of the segment (Liang and Barsky, 1984)
    for at, by, least, most in ((x0, x1 - x0, left, right), (y0, y1 - y0, top, bottom)):
        if not by:
            if not least <= at <= most:
                return None
            continue
        enter, leave = sorted(((least - at) / by, (most - at) / by))
        first, last = max(first, enter), min(last, leave)
    if first > last:
        return None
    inside_start = (x0 + first * (x1 - x0), y0 + first * (y1 - y0)) if first else start
    return inside_start, (x0 + last * (x1 - x0), y0 + last * (y1 - y0)) if last < 1 else end


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
        line, top = ("|", "!") if self.glyphs is Glyphs.ASCII else ("┊", "⚑")
        self._stand(mark.x, line, top, mark.style)

    def crosshair(self, x: float) -> None:
        line = ":" if self.glyphs is Glyphs.ASCII else "│"
        self._stand(x, line, line, "bright")

    def _stand(self, x: float, line: str, top: str, style: str) -> None:
        """A vertical line."""
        if not self._x0 <= x <= self._x1:
            return
        column = int(self.dot_x(x)) // self._across
        for row in range(self.rows):
            self._chars[row][column], self._styles[row][column] = (line if row else top), style

    def spread(self, series: Series) -> None:
        """The interval or the extremes behind every point, faint; below all lines."""
        dots = self._no_dots()
        highest = self.rows * self._down - 1
        places = zip(series.x, self._down_to(series.low), self._down_to(series.high), strict=False)
        for x, low, high in places:
            if self._x0 <= x <= self._x1 and math.isfinite(low) and math.isfinite(high):
                first, last = max(0, round(high)), min(highest, round(low))
                if first <= last:
                    dots[round(self.dot_x(x))] |= (1 << last + 1) - (1 << first)
        self._add(dots, series.slot, f"s{series.slot}-faint")

    def draw(self, series: Series, rhythm: bool) -> None:
        """The line through the points."""
        dots = self._no_dots()
        on, every = RHYTHMS[series.slot % len(RHYTHMS)]
        edges = (0, 0, self.columns * self._across - 1, self.rows * self._down - 1)
        previous: Point | None = None
        travelled = 0  # dots that the line has run through so far
        for x, y in zip(series.x, self._down_to(series.y), strict=True):
            if not math.isfinite(y):
                previous = None
                continue
            point = (self.dot_x(x), y)
            inside = clip(previous or point, point, edges)
            previous = point
            if inside is None:
                continue
            (x0, y0), (x1, y1) = inside
            width, height = x1 - x0, y1 - y0
            count = round(max(abs(width), abs(height))) or 1
            if count == 1 and not rhythm:  # nearly always: a curve has more points than there are columns
                dots[round(x0)] |= 1 << round(y0)
                dots[round(x1)] |= 1 << round(y1)
                continue
            for index in range(count + 1):
                if not rhythm or (travelled + index) % every < on:
                    share = index / count
                    dots[round(x0 + width * share)] |= 1 << round(y0 + height * share)
            travelled += count
        self._add(dots, series.slot, f"s{series.slot}")

    def markers(self, series: Series) -> None:
        """The series' own marker on its last point; on every point where the points are few."""
        pairs = zip(reversed(series.x), reversed(series.y), strict=True)
        inside = ((x, y) for x, y in pairs if self._x0 <= x <= self._x1 and drawable(y, self.log))
        last = next(inside, None)
        if last is None:
            return
        if series.interval and len(others := list(inside)) < self.columns // 3:
            dot = marker(series.slot, self.glyphs) if self.glyphs is Glyphs.ASCII else "•"
            for x, y in reversed(others):
                self._put(x, y, dot, f"s{series.slot}")
        self.point(series, *last)

    def point(self, series: Series, x: float, y: float) -> None:
        """The series' own marker on one of its points."""
        self._put(x, y, marker(series.slot, self.glyphs), f"s{series.slot}")

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

    def _down_to(self, values: Sequence[float]) -> list[float]:
        """Where values are in rows of dots, from the top; not finite where a value has no place on the axis."""
        top, whole, dots = self._y1, self._y1 - self._y0, self.rows * self._down - 1
        if self.log:
            values = [math.log10(y) if drawable(y, True) else math.nan for y in values]
        return [(top - y) / whole * dots for y in values]

    def _put(self, x: float, y: float, char: str, style: str) -> None:
        if not self._y0 <= self._scale(y) <= self._y1:  # an outlier, left out of the range
            return
        column = min(self.columns - 1, round(self.dot_x(x)) // self._across)
        row = self.row_of(y)
        self._chars[row][column], self._styles[row][column] = char, style

    def _no_dots(self) -> list[int]:
        """The dots of one series: an integer for each column of dots, a bit for each row from the top. To put them into
        the cells together takes a third of the time that each dot would alone.
        """
        return [0] * (self.columns * self._across)

    def _add(self, dots: list[int], slot: int, style: str) -> None:
        """Put the dots of a series into the cells."""
        is_line, mask = not style.endswith("-faint"), (1 << self._down) - 1
        for x, left in enumerate(dots):
            column, side, row = x // self._across, x % self._across, 0
            while left:
                if not left & mask:  # on to the first cell that has any
                    empty = ((left & -left).bit_length() - 1) // self._down
                    row, left = row + empty, left >> empty * self._down
                bits, styles = self._bits[row], self._styles[row]
                if is_line and styles[column].endswith("-faint"):
                    bits[column] = 0  # a line stands alone in its cells, so that it stays thin
                part = left & mask
                bits[column] |= _BRAILLE[side][part] if self.glyphs is Glyphs.BRAILLE else part
                self._chars[row][column] = self._char(bits[column], slot)
                styles[column] = style
                row, left = row + 1, left >> self._down

    def _char(self, bits: int, slot: int) -> str:
        if self.glyphs is Glyphs.BRAILLE:
            return chr(0x2800 + bits)
        return " ▀▄█"[bits] if self.glyphs is Glyphs.BLOCK else ASCII_MARKERS[slot % len(ASCII_MARKERS)]
