"""A text whole: whatever a pane or a cell had to cut, wrapped and scrolled."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from textual.app import ComposeResult

from engine.basics.safe_text import one_line
from tui.host import Answer
from tui.lines.text import Line, folded, spread
from tui.screens.base import BaseScreen, textual_bindings
from tui.widgets.panel import Panel


class ReaderScreen(BaseScreen, inherit_bindings=False):
    """`text` says what is to be read; it is asked again at every change, so that a log goes on."""

    room = "reader"
    BINDINGS = textual_bindings("reader")

    def __init__(self, title: str, text: Callable[[], str]) -> None:
        super().__init__()
        self.title_text = title
        self.text = text
        self.first = 0
        self._last = 0  # first line in view at the end

    def compose(self) -> ComposeResult:
        yield Panel(self.paint_header, id="header", classes="line")
        yield Panel(self.paint_text, id="text")
        yield Panel(self.paint_footer, id="footer", classes="line")

    def header_start(self) -> Line:
        return [(f" {one_line(self.title_text)}", "bright")]

    def lay_out(self, width: int, height: int) -> None:
        self.query_one("#text").styles.height = "1fr"

    def paint_text(self, width: int, height: int) -> list[Line]:
        rows = [
            piece
            for line in self.text().expandtabs(4).splitlines()
            for piece in folded(one_line(line), max(1, width - 2))
        ]
        self._last = max(0, len(rows) - height)
        self.first = max(0, min(self.first, self._last))
        lines: list[Line] = [[(f" {row}", "text")] for row in rows[self.first : self.first + height]]
        if len(rows) > height and lines:
            at = f"{self.first + len(lines)}/{len(rows)} "
            lines[-1] = spread(lines[-1], [(at, "faint")], width)
        return lines

    def copies(self) -> Sequence[Answer]:
        return (Answer("t", "text", lambda: self.host.copy(self.text(), "the text")),)

    def move(self, by: int) -> None:
        self.first = max(0, min(self._last, self.first + by))
        self.update_panels()

    def turn_wheel(self, panel: str, lines: int) -> None:
        self.move(lines)
