"""Sizes and visibility of what stands on the dashboard."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from textual.containers import Horizontal
from textual.screen import Screen

from tui.screens.dashboard_panes import PANES, ShownPanes
from tui.widgets.panel import Paint, Panel

TINY = 16  # lines: half of a split terminal has no line to spare for the hardware


class Layout(NamedTuple):
    """All that it follows from, so that equal ones look alike."""

    small: bool
    tiny: bool
    whole: bool
    table: int  # lines
    facts: int  # lines of the lower panes
    visible: tuple[int, ...]  # panes; none until something is known: the first paint does not wait for them

    @classmethod
    def of(cls, height: int, runs: int, panes: ShownPanes, small: bool, known: bool) -> Layout:
        table = max(6, min(runs + 4, 9 if small else round(height * 0.34)))
        if small:
            table = min(table, 8, max(4, height // 2))
        facts = max(8, min(13, round(height * 0.24)))
        return cls(small, height < TINY, panes.whole, table, facts, panes.visible(small) if known else ())

    def apply(self, screen: Screen[None]) -> None:
        table = screen.query_one("#table")
        table.set_class(self.whole, "hidden")
        screen.query_one("#tabs").set_class(not self.small, "hidden")
        screen.query_one("#hardware-line").set_class(not self.small or self.tiny, "hidden")
        if not self.visible:
            table.styles.height = "1fr"
            return
        charts, facts = screen.query_one("#charts"), screen.query_one("#facts")
        charts.set_class(not any(index < 3 for index in self.visible), "hidden")
        facts.set_class(not any(index >= 3 for index in self.visible), "hidden")
        table.styles.height = self.table + (0 if self.small else 1)
        for index in range(len(PANES)):
            screen.query_one(f"#pane{index}").set_class(index not in self.visible, "hidden")
        charts.styles.height = "1fr"
        facts.styles.height = self.facts if len(self.visible) > 3 else "1fr"
        screen.set_class(self.small, "-one")


def panes_of(paints: Sequence[Paint]) -> list[Horizontal]:
    """The charts and the lower panes, in their order, hidden until there is something to show."""
    titles = (*PANES[:3], "Hardware, last 10 minutes", "Flags", "Log")
    panes = [
        Panel(paint, id=f"pane{index}", classes="framed pane", title=title)
        for index, (paint, title) in enumerate(zip(paints, titles, strict=True))
    ]
    return [
        Horizontal(*row, id=name, classes="hidden")
        for name, row in (("charts", panes[:3]), ("facts", panes[3:]))
    ]
