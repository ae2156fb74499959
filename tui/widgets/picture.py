"""A chart as a picture: the curves of a `Plot` as shapes, and the shapes as SVG or PNG. White ground, for documents."""

from __future__ import annotations

import io
from collections.abc import Iterator
from dataclasses import dataclass
from html import escape
from importlib.util import find_spec

from engine.basics.safe_text import one_line
from finetui.errors import StoreError
from tui.lines.text import cut
from tui.widgets import axis
from tui.widgets.canvas import Series, drawable
from tui.widgets.plot import Plot, ranges, visible, y_ticks

WIDTH, HEIGHT = 960, 540
LEFT, RIGHT, BOTTOM, HEAD, LEGEND = 70, 20, 50, 34, 20
FONT = 14
PER_LINE = 2  # entries of the legend
INK, PALE, GRID = "#222222", "#666666", "#dddddd"
# Okabe and Ito (2008), told apart by colour-blind eyes, on white.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#8c564b")
MARKS = {"bad": "#cc0000", "warn": "#b58900"}

Point = tuple[float, float]


@dataclass(frozen=True)
class Path:
    """Straight lines from point to point."""

    points: tuple[Point, ...]
    colour: str
    width: float = 1.0


@dataclass(frozen=True)
class Label:
    """A line of text; `anchor` says which part of it is at the point: start, middle or end."""

    at: Point  # on the base line
    text: str
    anchor: str = "start"
    colour: str = INK


Shape = Path | Label


def svg(plot: Plot, title: str) -> str:
    """The chart as an SVG document."""
    body = "\n".join(map(_element, _shapes(plot, title)))
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{HEIGHT}" viewBox="0 0 {WIDTH} {HEIGHT}" '
        f'font-family="sans-serif" font-size="{FONT}">\n'
        f'<rect width="100%" height="100%" fill="#ffffff"/>\n{body}\n</svg>\n'
    )


def check_png() -> None:
    """Raises StoreError where nothing can make a PNG."""
    if find_spec("PIL") is None:
        raise StoreError("a PNG needs Pillow: pip install 'finetui[png]', or write --svg FILE", "refused")


def png(plot: Plot, title: str) -> bytes:
    """The chart as PNG, twice as large as the SVG says."""
    from PIL import Image, ImageDraw, ImageFont

    scale = 2
    image = Image.new("RGB", (WIDTH * scale, HEIGHT * scale), "white")
    pen, font = ImageDraw.Draw(image), ImageFont.load_default(FONT * scale)
    for shape in _shapes(plot, title):
        if isinstance(shape, Path):
            points = [(x * scale, y * scale) for x, y in shape.points]
            pen.line(points, fill=shape.colour, width=round(shape.width * scale), joint="curve")
        else:
            at, anchor = (
                (shape.at[0] * scale, shape.at[1] * scale),
                {"start": "ls", "middle": "ms", "end": "rs"},
            )
            pen.text(at, one_line(shape.text), fill=shape.colour, font=font, anchor=anchor[shape.anchor])
    file = io.BytesIO()
    image.save(file, "PNG")
    return file.getvalue()


def _element(shape: Shape) -> str:
    if isinstance(shape, Path):
        points = " ".join(f"{x:.1f},{y:.1f}" for x, y in shape.points)
        return (
            f'<polyline points="{points}" fill="none" stroke="{shape.colour}" stroke-width="{shape.width}"/>'
        )
    (x, y), text = shape.at, escape(one_line(shape.text))
    return f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{shape.anchor}" fill="{shape.colour}">{text}</text>'


# ---- geometry ------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Frame:
    """Where values are in the picture."""

    x: tuple[float, float]
    y: tuple[float, float]
    log: bool
    top: float

    def at(self, x: float, y: float) -> Point:
        return LEFT + self.across(x), self.top + self.down(y)

    def across(self, x: float) -> float:
        return (x - self.x[0]) / (self.x[1] - self.x[0]) * (WIDTH - LEFT - RIGHT)

    def down(self, y: float) -> float:
        share = axis.share_of(y, self.y, log=self.log)
        return (1 - share) * (HEIGHT - BOTTOM - self.top)


def _shapes(plot: Plot, title: str) -> Iterator[Shape]:
    drawn = [series for series in plot.series if any(visible(plot, series))]
    yield Label((LEFT, 22), title)
    if not drawn:
        yield Label((WIDTH / 2, HEIGHT / 2), plot.empty, "middle", PALE)
        return
    x_range, y_range = ranges(plot, drawn)
    frame = _Frame(x_range, y_range, plot.log, HEAD + LEGEND * -(-len(drawn) // PER_LINE))
    yield from _axes(frame)
    for mark in plot.marks:
        if x_range[0] <= mark.x <= x_range[1]:
            ends = (frame.at(mark.x, y_range[0]), frame.at(mark.x, y_range[1]))
            yield Path(ends, MARKS.get(mark.style, PALE))
            yield Label((ends[1][0] + 3, ends[1][1] + FONT), "flag", colour=MARKS.get(mark.style, PALE))
    for series in reversed(drawn):
        yield from _curve(frame, series)
    for place, series in enumerate(drawn):
        yield from _entry(series, place, plot.log)


def _axes(frame: _Frame) -> Iterator[Shape]:
    for tick, label in zip(*y_ticks(frame.y, frame.log, 8), strict=True):
        start, end = frame.at(frame.x[0], tick), frame.at(frame.x[1], tick)
        yield Path((start, end), GRID)
        yield Label((LEFT - 8, start[1] + 5), label, "end", PALE)
    ticks = axis.nice_ticks(*frame.x, 10)
    for tick, label in zip(ticks, axis.tick_labels(ticks), strict=True):
        x, y = frame.at(tick, frame.y[0])
        yield Path(((x, y), (x, y + 5)), INK)
        yield Label((x, y + 20), label, "middle", PALE)
    yield Path(
        (
            frame.at(frame.x[0], frame.y[1]),
            frame.at(frame.x[0], frame.y[0]),
            frame.at(frame.x[1], frame.y[0]),
        ),
        INK,
    )
    yield Label(((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 10), "step", "middle", PALE)


def _curve(frame: _Frame, series: Series) -> Iterator[Shape]:
    """The line, broken where a value is no number; the intervals of evaluations."""
    colour, piece = _colour(series), list[Point]()
    if series.interval:
        for x, low, high in zip(series.x, series.low, series.high, strict=False):
            if drawable(low, frame.log) and drawable(high, frame.log):
                yield Path((frame.at(x, low), frame.at(x, high)), colour)
    for x, y in zip(series.x, series.y, strict=True):
        if frame.x[0] <= x <= frame.x[1] and drawable(y, frame.log):
            piece.append(frame.at(x, y))
            continue
        if piece:
            yield Path(_visible_line(piece), colour, 2)
        piece = []
    if piece:
        yield Path(_visible_line(piece), colour, 2)


def _visible_line(points: list[Point]) -> tuple[Point, ...]:
    """A point alone is a short line."""
    if len(points) > 1:
        return tuple(points)
    (x, y) = points[0]
    return (x - 3, y), (x + 3, y)


def _entry(series: Series, place: int, log: bool) -> Iterator[Shape]:
    column, line = place % PER_LINE, place // PER_LINE
    x, y = LEFT + column * (WIDTH - LEFT - RIGHT) / PER_LINE, HEAD + LEGEND * line + 6
    last = next(value for value in reversed(series.y) if drawable(value, log))
    yield Path(((x, y - 4), (x + 20, y - 4)), _colour(series), 3)
    yield Label((x + 28, y), f"{cut(series.label, 38)}  {axis.value(last)}")


def _colour(series: Series) -> str:
    return COLOURS[series.slot % len(COLOURS)]
