"""A chart as a picture: what the screen draws of a `Plot` as shapes, and the shapes as SVG or PNG. White ground, for
documents.
"""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from html import escape
from importlib.util import find_spec

from engine.basics.safe_text import one_line
from finetui.errors import StoreError
from tui.lines.text import cut
from tui.widgets import axis, legend
from tui.widgets.canvas import Point, Series, clip, drawable
from tui.widgets.plot import Plot, note, ranges, visible, why_empty, y_ticks

WIDTH, HEIGHT = 960, 540
LEFT, RIGHT, BOTTOM, HEAD, LEGEND = 70, 20, 50, 34, 20
FONT = 14
PER_LINE = 2  # entries of the legend
INK, PALE, GRID = "#222222", "#666666", "#dddddd"
# Okabe and Ito (2008), told apart by colour-blind eyes, on white.
COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#000000", "#8c564b")
MARKS = {"bad": "#cc0000", "warn": "#b58900"}


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
        raise StoreError("a PNG needs Pillow: pip install 'finetui[png]', or write an SVG", "refused")


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

    @property
    def edges(self) -> tuple[float, float, float, float]:
        """Left, top, right, bottom."""
        return LEFT, self.top, WIDTH - RIGHT, HEIGHT - BOTTOM

    def at(self, x: float, y: float) -> Point:
        return LEFT + self.across(x), self.top + self.down(y)

    def across(self, x: float) -> float:
        return (x - self.x[0]) / (self.x[1] - self.x[0]) * (WIDTH - LEFT - RIGHT)

    def down(self, y: float) -> float:
        share = axis.share_of(y, self.y, log=self.log)
        return (1 - share) * (HEIGHT - BOTTOM - self.top)


def _shapes(plot: Plot, title: str) -> Iterator[Shape]:
    drawn = [series for series in plot.series if any(visible(plot, series))]
    if not drawn:
        yield Label((LEFT, 22), title)
        yield Label((WIDTH / 2, HEIGHT / 2), why_empty(plot), "middle", PALE)
        return
    x_range, y_range = ranges(plot, drawn)
    cross = None if plot.cross is None else legend.cross_at(plot.cross, drawn, x_range, plot.log)
    where = f" · at {axis.position(cross.x)} {plot.x_name or 'steps'}" if cross else ""
    yield Label((LEFT, 22), title + where)
    frame = _Frame(x_range, y_range, plot.log, HEAD + LEGEND * -(-len(drawn) // PER_LINE))
    yield from _axes(frame, note(plot, drawn, x_range, y_range) or "step")
    for mark in plot.marks:
        if x_range[0] <= mark.x <= x_range[1]:
            ends = (frame.at(mark.x, y_range[0]), frame.at(mark.x, y_range[1]))
            yield Path(ends, MARKS.get(mark.style, PALE))
            yield Label((ends[1][0] + 3, ends[1][1] + FONT), "flag", colour=MARKS.get(mark.style, PALE))
    if cross:
        yield Path((frame.at(cross.x, y_range[0]), frame.at(cross.x, y_range[1])), INK)
    for series in reversed(drawn):
        yield from _spread(frame, series)
    for series in reversed(drawn):
        yield from _line(frame, series.y, series, _colour(series), 2)
    for place, series in enumerate(drawn):
        yield from _entry(series, place, _said(series, place, cross, plot.log))


def _said(series: Series, place: int, cross: legend.Cross | None, log: bool) -> str:
    """What the legend has beside the name of a series; nothing under a crosshair where it has no point in view."""
    if cross is None:
        return legend.last_value(series, log)
    at = cross.points[place]
    return "" if at is None else legend.value_at(series, at, cross.x)


def _axes(frame: _Frame, across: str) -> Iterator[Shape]:
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
    yield Label(((LEFT + WIDTH - RIGHT) / 2, HEIGHT - 10), across, "middle", PALE)


def _spread(frame: _Frame, series: Series) -> Iterator[Shape]:
    """The intervals of evaluations; faint, the extremes behind each point, or the values behind a smoothed line."""
    if series.raw:
        yield from _line(frame, series.raw, series, _faint(series), 1)
        return
    colour, width = (_colour(series), 1) if series.interval else (_faint(series), 2)
    for x, low, high in zip(series.x, series.low, series.high, strict=False):
        known = low < high and drawable(low, frame.log) and drawable(high, frame.log)
        if known and (part := clip(frame.at(x, low), frame.at(x, high), frame.edges)):
            yield Path(part, colour, width)


def _line(
    frame: _Frame, values: Sequence[float], series: Series, colour: str, width: float
) -> Iterator[Shape]:
    """Through the values, as far as it is within the frame; broken where a value is no number."""
    piece, previous = list[Point](), None
    for x, y in zip(series.x, values, strict=True):
        point = frame.at(x, y) if drawable(y, frame.log) else None
        part = clip(previous or point, point, frame.edges) if point else None
        if piece and (part is None or part[0] != piece[-1]):
            yield Path(_visible_line(piece), colour, width)
            piece = []
        if part:
            piece += part[bool(piece) :] if part[0] != part[1] else part[: not piece]
        previous = point
    if piece:
        yield Path(_visible_line(piece), colour, width)


def _visible_line(points: list[Point]) -> tuple[Point, ...]:
    """A point alone is a short line."""
    if len(points) > 1:
        return tuple(points)
    (x, y) = points[0]
    return (x - 3, y), (x + 3, y)


def _entry(series: Series, place: int, said: str) -> Iterator[Shape]:
    column, line = place % PER_LINE, place // PER_LINE
    x, y = LEFT + column * (WIDTH - LEFT - RIGHT) / PER_LINE, HEAD + LEGEND * line + 6
    yield Path(((x, y - 4), (x + 20, y - 4)), _colour(series), 3)
    yield Label((x + 28, y), f"{cut(series.label, 38)}  {said}")


def _colour(series: Series) -> str:
    return COLOURS[series.slot % len(COLOURS)]


def _faint(series: Series) -> str:
    """Its colour, most of it white."""
    colour = _colour(series)
    parts = (int(colour[at : at + 2], 16) for at in (1, 3, 5))
    return "#" + "".join(f"{round(0.3 * part + 0.7 * 255):02x}" for part in parts)
