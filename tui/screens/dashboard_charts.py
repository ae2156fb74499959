"""The three charts of the dashboard: which metric each has, its title, its lines, and what is saved of it."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from tui.lines.text import Line
from tui.rows import Request
from tui.screens.dashboard_panes import PANES
from tui.state import FIRST_METRIC, SMOOTHING
from tui.widgets.panel import Panel

if TYPE_CHECKING:
    from tui.screens.chart_files import Picture
    from tui.screens.dashboard import Dashboard
    from tui.widgets.plot import Plot

TURN_S = 0.001  # after which keys that were pressed meanwhile have been taken


class Charts:
    """Of the runs that the dashboard shows; `index` counts its panes."""

    def __init__(self, screen: Dashboard) -> None:
        self._screen = screen
        self._painted: dict[int, list[Line]] = {}
        self.due: list[int] = []  # those that are still to be painted, in their order

    def follow(self, later: Sequence[int]) -> set[str]:
        """Paint these charts after all else, each in a turn of the event loop of its own, so that a key does not wait
        for all of them. Returns the names of their panels.
        """
        if later and not self.due:
            self._screen.set_timer(TURN_S, self._paint_next)
        self.due += [index for index in later if index not in self.due]
        return {f"pane{index}" for index in later}

    def _paint_next(self) -> None:
        if self._screen.is_cursor_due():
            self._screen.set_timer(TURN_S, self._paint_next)
            return
        self._screen.query_one(f"#pane{self.due.pop(0)}", Panel).repaint()
        if self.due:
            self._screen.set_timer(TURN_S, self._paint_next)

    def key(self, index: int) -> str:
        """The metric that a chart shows."""
        if index == 0:
            return self._screen.state.view.metric
        if PANES[index] == "general":
            return "general/loss"
        from store.best import judged_by  # not before the first paint

        run = self._screen.target()
        return judged_by(run.task if run else None).metric

    def requests(self, index: int) -> list[Request]:
        """The answers that a chart needs."""
        screen = self._screen
        if not screen.snapshot.loaded:
            return []
        from tui.widgets import chart

        return chart.requests(screen.shown(), self.key(index), screen.state.view.x_axis)

    def metric_title(self) -> str:
        """What the first chart is called."""
        metric = self._screen.state.view.metric
        return PANES[0] if metric == FIRST_METRIC else metric

    def title(self, index: int) -> str:
        """What a chart shows and how, above a chart of a large terminal."""
        view, name = self._screen.state.view, PANES[index] if index else self.metric_title()
        parts = [f"{name} loss" if name in PANES else name]
        if view.log:
            parts.append("log")
        if view.smooth and index == 0:
            parts.append(f"smoothed {SMOOTHING[view.smooth]:g}")
        return " · ".join(parts)

    def paint(self, index: int, width: int, height: int) -> list[Line]:
        """The lines of a chart."""
        screen = self._screen
        if not screen.snapshot.loaded:
            return []
        if not all(map(screen.snapshot.has, self.requests(index))):
            return self._painted.get(index, [])  # for a moment the old one, rather than a flash of nothing
        from tui.widgets import curves  # not before the first paint

        self._painted[index] = curves.lines(self._plot(index), width, height)
        return self._painted[index]

    def picture(self, index: int) -> Picture:
        """A chart to be saved."""
        from tui.screens import chart_files  # not before the first paint

        screen = self._screen
        runs = [item.run for item in screen.shown()]
        return chart_files.of_runs(self.key(index), self._plot(index), runs, screen.state.view)

    def _plot(self, index: int) -> Plot:
        from tui.widgets import curves

        screen = self._screen
        return curves.make(
            screen.snapshot, screen.shown(), self.key(index), screen.state.view,
            color=not screen.app.no_color,
        )  # fmt: skip
