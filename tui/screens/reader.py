"""A text whole: whatever a pane or a cell had to cut, wrapped and scrolled."""

from __future__ import annotations

from collections.abc import Sequence

from textual.app import ComposeResult

from engine.basics.safe_text import one_line
from tui.host import Answer
from tui.lines.scroll import Scroll
from tui.lines.text import Line, block, spread
from tui.screens.base import BaseScreen
from tui.widgets.panel import Panel


class ReaderScreen(BaseScreen, inherit_bindings=False):
    """Opened by what had to cut it."""

    room = "reader"

    def __init__(self, title: str, text: str) -> None:
        super().__init__()
        self.heading, self.text = title, text
        self.scroll = Scroll()

    def compose(self) -> ComposeResult:
        yield Panel(self.paint_header, id="header", classes="line")
        yield Panel(self.paint_text, id="text")
        yield Panel(self.paint_footer, id="footer", classes="line")

    def header_start(self) -> Line:
        return [(f" {one_line(self.heading)}", "bright")]

    def lay_out(self, width: int, height: int) -> None:
        self.query_one("#text").styles.height = "1fr"

    def paint_text(self, width: int, height: int) -> list[Line]:
        rows: list[Line] = [[(f" {row}", "text")] for row in block(self.text, width - 2)]
        lines = self.scroll.view(rows, height)
        if len(rows) > height:
            at = f"{self.scroll.first + len(lines)}/{len(rows)} "
            lines[-1] = spread(lines[-1], [(at, "faint")], width)
        return lines

    def copies(self) -> Sequence[Answer]:
        return (Answer("t", "text", lambda: self.host.copy(self.text, "the text")),)

    def move(self, by: int) -> None:
        self.scroll.move(by)
        self.update_panels()

    def turn_wheel(self, panel: str, lines: int) -> None:
        self.move(lines)
