"""The one widget: a rectangle of lines that repaints only the cells that changed.

The compositor writes every dirty region to the terminal without comparing cells, so the comparison is made
here: a live chart then costs some hundred bytes a second, a pane where nothing changed none.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import repeat
from operator import itemgetter

from rich.segment import Segment
from textual import events
from textual.content import Content
from textual.geometry import Region
from textual.message import Message
from textual.strip import Strip
from textual.widget import Widget

from engine.basics.safe_text import one_line
from tui.lines import theme
from tui.lines.text import Line, fit, graphemes, is_even

Paint = Callable[[int, int], list[Line]]  # width, height → lines

# Unchanged cells between two changed ones: repainting up to so many is cheaper than moving the cursor.
_GAP = 4


class Panel(Widget):
    """Shows what `paint(width, height)` returns; call `repaint()` after the data have changed."""

    class Clicked(Message):
        """A mouse press on a row; `row` counts from the first line."""

        def __init__(self, panel: Panel, row: int, column: int) -> None:
            super().__init__()
            self.panel, self.row, self.column = panel, row, column

    class Scrolled(Message):
        """The mouse wheel, by `lines` (negative is up)."""

        def __init__(self, panel: Panel, lines: int) -> None:
            super().__init__()
            self.panel, self.lines = panel, lines

    def __init__(self, paint: Paint, *, title: str = "", id: str | None = None, classes: str = "") -> None:
        super().__init__(id=id, classes=classes)
        self._paint = paint
        self._lines: list[Line] = []
        self.painted: list[Region] = []  # regions of the last repaint, for tests
        self._title = title
        if title:
            self.border_title = title

    def repaint(self) -> None:
        """Ask for the lines again and refresh the cells that differ."""
        width, height = self.content_size
        if not width or not height:
            return
        lines = [fit(_safe(line), width) for line in self._paint(width, height)[:height]]
        lines += [[(" " * width, "")] for _ in range(height - len(lines))]
        old, self._lines = self._lines, lines
        if len(old) != height or (old and sum(len(text) for text, _ in old[0]) == 0):
            self.painted = [Region(0, 0, width, height)]
            self.refresh()
            return
        self.painted = [
            Region(start, row, end - start, 1)
            for row, (before, after) in enumerate(zip(old, lines, strict=True))
            for start, end in changed_spans(before, after)
        ]
        if self.painted:
            self.refresh(*self.painted)

    def is_painted(self) -> bool:
        """Whether its lines are made for the size that it has."""
        width, height = self.content_size
        return not width or len(self._lines) == height

    def title(self, text: str) -> None:
        """Set the title in the border; costs a repaint of the widget only when it differs."""
        shown = theme.to_ascii(text) if getattr(self.app, "ascii_only", False) else text
        if self._title != shown:
            self._title = shown
            self.border_title = Content(one_line(shown))  # a string would be markup

    def text(self) -> str:
        """What is shown, without styles (tests, copying)."""
        return "\n".join("".join(text for text, _ in line).rstrip() for line in self._lines)

    def on_resize(self, _: events.Resize) -> None:
        self._lines = []
        self.repaint()

    def on_show(self, _: events.Show) -> None:
        self.repaint()

    def on_mouse_down(self, event: events.MouseDown) -> None:
        offset = event.get_content_offset(self)
        if offset is not None:
            self.post_message(self.Clicked(self, offset.y, offset.x))

    def on_mouse_scroll_down(self, _: events.MouseScrollDown) -> None:
        self.post_message(self.Scrolled(self, 3))

    def on_mouse_scroll_up(self, _: events.MouseScrollUp) -> None:
        self.post_message(self.Scrolled(self, -3))

    def render_line(self, y: int) -> Strip:
        if y >= len(self._lines):
            return Strip.blank(self.content_size.width, theme.style("", not self.app.no_color))
        ascii_only = getattr(self.app, "ascii_only", False)
        color = not self.app.no_color
        line = self._lines[y]
        cursor = bool(line) and line[0][1] == "cursor"
        segments = [
            Segment(theme.to_ascii(text) if ascii_only else text, theme.style(name, color, cursor))
            for text, name in line
            if text
        ]
        return Strip(segments, sum(segment.cell_length for segment in segments))


def _safe(line: Line) -> Line:
    """The line as a terminal may have it: the edge of the screen, whatever a widget has put into its lines."""
    if all(text.isprintable() for text, _ in line):
        return line
    return [(one_line(text), style) for text, style in line]


def changed_spans(before: Line, after: Line) -> Iterator[tuple[int, int]]:
    """Column ranges [start, end) in which two lines of one width differ; near ones are joined.

    Terminals differ in how wide a letter with marks is. So nothing behind the first one is written at a place of its
    own: all from there on is one range, which the terminal lays out as it did the whole line.
    """
    if before == after:
        return
    (old, old_unsure), (new, new_unsure) = _cells(before), _cells(after)
    if len(old) != len(new) or (before and after and (before[0][1] == "cursor") != (after[0][1] == "cursor")):
        yield 0, max(len(old), len(new))
        return
    unsure = min(old_unsure, new_unsure)
    changed = [column for column, (one, other) in enumerate(zip(old, new, strict=True)) if one != other]
    yield from _joined(column for column in changed if column < unsure)
    if changed and changed[-1] >= unsure:
        yield unsure, len(new)


def _joined(columns: Iterable[int]) -> Iterator[tuple[int, int]]:
    start = end = -1
    for column in columns:
        if start >= 0 and column - end > _GAP:
            yield start, end
            start = -1
        if start < 0:
            start = column
        end = column + 1
    if start >= 0:
        yield start, end


_Cell = tuple[str, str, int]  # character, style, which of the character's columns


def _cells(line: Line) -> tuple[list[_Cell], int]:
    """The columns of a line, and the first one that has a letter with marks (their number where none has)."""
    cells: list[_Cell] = []
    at, unsure = 0, -1
    for text, style in filter(itemgetter(0), line):
        if is_even(text):  # nearly always, and several times as fast
            at = len(cells) + len(text) - 1
            cells += zip(text, repeat(style), repeat(0))
            continue
        for grapheme, columns in graphemes(text):
            if columns:
                at = len(cells)
                cells += [(grapheme, style, half) for half in range(columns)]
            elif cells:  # a mark in another style than its letter
                cells[at:] = [(cell[0] + grapheme, *cell[1:]) for cell in cells[at:]]
            if unsure < 0 and cells and len(cells[at][0]) > 1:
                unsure = at
    return cells, unsure if unsure >= 0 else len(cells)
