"""Partial updates that write the changed cells only.

Textual 8.2 crops a changed span on its right but not on its left: every span costs its whole line from the
widget's left edge on, which makes a live dashboard eight times as dear. Same data, both sides cropped.
"""

from __future__ import annotations

from rich.console import Console
from rich.control import Control
from textual._compositor import ChopsUpdate
from textual.strip import Strip

from tui.lines.text import is_even


class SpansUpdate(ChopsUpdate):
    """What changed, as spans `(y, x1, x2)` of lines that are kept in chops (a piece for each widget)."""

    @classmethod
    def of(cls, update: ChopsUpdate) -> SpansUpdate:
        return cls(update.chops, update.spans, update.chop_ends)

    def render_segments(self, console: Console) -> str:
        """The terminal's characters: for every span its place, then its cells."""
        written: list[str] = []
        for y, x1, x2 in self.spans:
            for end, (x, strip) in zip(self.chop_ends[y], self.chops[y].items(), strict=False):
                start, stop = max(x, x1), min(end, x2)
                if strip is None or start >= stop:
                    continue
                move, piece = Control.move_to(start, y).segment.text, strip.crop(start - x, stop - x)
                # A terminal may need fewer columns for it: no old cell is left then.
                if not is_even(piece.text):
                    written += [move, Strip.blank(stop - start, next(iter(piece)).style).render(console)]
                written += [move, piece.render(console)]
        return "".join(written)
