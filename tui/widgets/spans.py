"""What is written to the terminal: the changed cells only, and their styles where these change.

Textual 8.2 crops a changed span on its right but not on its left: every span costs its whole line from the
widget's left edge on, which makes a live dashboard eight times as dear. Same data, both sides cropped.
"""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Console
from rich.control import Control
from rich.segment import Segment
from rich.style import Style
from textual._compositor import ChopsUpdate, CompositorUpdate
from textual.strip import Strip

from tui.lines.text import is_even
from tui.widgets.terse import terse


class SpansUpdate(ChopsUpdate):
    """What changed, as spans `(y, x1, x2)` of lines that are kept in chops (a piece for each widget)."""

    @classmethod
    def of(cls, update: ChopsUpdate) -> SpansUpdate:
        return cls(update.chops, update.spans, update.chop_ends)

    def render_segments(self, console: Console) -> str:
        """The terminal's characters: cells of one style together, each run of cells with its place before it."""
        alike: dict[Style | None, list[str]] = {}
        at: dict[Style | None, tuple[int, int]] = {}  # where the cursor is after the last cell of a style
        uneven: list[str] = []
        for y, start, piece in self._pieces():
            if not is_even(piece.text):
                uneven += _blanked(piece, start, y, console)
                continue
            x = start
            for segment in piece:
                row, column = at.get(segment.style, (-1, 0))
                alike.setdefault(segment.style, []).append(_move(x - column, x, y, y == row) + segment.text)
                x += len(segment.text)
                at[segment.style] = (y, x)
        together = [Segment("".join(cells), style) for style, cells in alike.items()]
        return terse("".join([Strip(together).render(console), *uneven]))

    def _pieces(self) -> Iterator[tuple[int, int, Strip]]:
        """Row, first column and cells of every part of a span."""
        for y, x1, x2 in self.spans:
            for end, (x, strip) in zip(self.chop_ends[y], self.chops[y].items(), strict=False):
                start, stop = max(x, x1), min(end, x2)
                if strip is not None and start < stop:
                    yield y, start, strip.crop(start - x, stop - x)


def _move(by: int, x: int, y: int, same_row: bool) -> str:
    """The shortest way of the cursor to a cell."""
    if not same_row:
        return Control.move_to(x, y).segment.text
    return f"\x1b[{by}C" if by else ""


def _blanked(piece: Strip, x: int, y: int, console: Console) -> list[str]:
    """Cells that a terminal may need fewer columns for: blanks first, so that no old cell is left then."""
    move = Control.move_to(x, y).segment.text
    blank = Strip.blank(piece.cell_length, next(iter(piece)).style)
    return [move, blank.render(console), move, piece.render(console)]


class TerseUpdate(CompositorUpdate):
    """Any other update, with fewer bytes."""

    def __init__(self, update: CompositorUpdate) -> None:
        self._update = update

    def render_segments(self, console: Console) -> str:
        return terse(self._update.render_segments(console))
