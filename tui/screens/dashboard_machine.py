"""The machine on the dashboard: its pane, and its line on a small terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tui.lines.text import Line, spread
from tui.rows import Snapshot
from tui.widgets.hardware_asked import HISTORY, LATEST, MACHINE

if TYPE_CHECKING:
    from tui.screens.dashboard import Dashboard
    from tui.widgets.hardware import Hardware


class Machine:
    """What is shown of it. A machine that stands still is not painted again; a key paints it as it is."""

    def __init__(self, screen: Dashboard) -> None:
        self._screen = screen
        self._shown: Hardware | None = None
        self._snapshot: Snapshot | None = None  # of which that is

    def paint(self, width: int, height: int) -> list[Line]:
        """The lines of the pane."""
        screen = self._screen
        if not screen.snapshot.has(LATEST):
            return []
        from tui.widgets import hardware  # not before the first paint

        lines = hardware.lines(self._now(), width, height, whole=screen.shown_panes.whole)
        return screen.shown_panes.in_view(lines, height) if screen.shown_panes.whole else lines

    def paint_line(self, width: int, height: int) -> list[Line]:
        from tui.widgets import hardware

        run = self._screen.target()
        flags: Line = []
        if run and run.flags:
            flags = [(f"⚑ {run.flags} ", "bad" if run.flag_level == "critical" else "warn")]
        return [spread([(" ", ""), *hardware.line(self._now())], flags, width)]

    def _now(self) -> Hardware:
        from tui.widgets.hardware import Hardware, stands_still

        snapshot = self._screen.snapshot
        latest, history, now = (snapshot.rows(one) for one in (LATEST, HISTORY, MACHINE))
        machine = Hardware.of(latest, history, now[0] if now else {}, busy=snapshot.busy)
        has_come = snapshot is not self._snapshot
        self._snapshot = snapshot
        if self._shown is None or not has_come or not stands_still(self._shown, machine):
            self._shown = machine
        return self._shown
