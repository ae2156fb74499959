"""Marked runs side by side: curves in one chart, metrics with paired differences, recipe differences."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import product

from textual.app import ComposeResult
from textual.containers import Horizontal

from tui.lines.text import Line, cut
from tui.rows import Request, Run, ask
from tui.screens.base import PanedScreen, pane_index, textual_bindings
from tui.state import ChartView
from tui.widgets import chart, comparison
from tui.widgets.chart import Shown
from tui.widgets.panel import Panel

START_KEY = "heldout/loss"


class CompareScreen(PanedScreen, inherit_bindings=False):
    """The first marked run is the one that the others are measured against."""

    room = "compare"
    panes = ("curves", "metrics", "recipes")
    BINDINGS = textual_bindings("compare")

    def __init__(self, numbers: tuple[int, ...]) -> None:
        super().__init__()
        self.numbers = numbers
        self.key = START_KEY
        self.scrolled = [0, 0, 0]
        self._lengths = [0, 0, 0]

    def compose(self) -> ComposeResult:
        yield Panel(self.paint_header, id="header", classes="line")
        yield Panel(self.paint_tabs, id="tabs", classes="line")
        with Horizontal(id="top"):
            yield Panel(self.paint_chart, id="pane0", classes="framed pane", title=START_KEY)
            yield Panel(self.paint_recipes, id="pane2", classes="framed pane", title="Recipe differences")
        yield Panel(self.paint_metrics, id="pane1", classes="framed pane", title="Metrics")
        yield Panel(self.paint_footer, id="footer", classes="line")

    # ---- what is shown --------------------------------------------------------------------------

    def runs(self) -> list[Run]:
        return [run for number in self.numbers if (run := self.snapshot.run(number))]

    def _shown(self) -> list[Shown]:
        return [Shown(run, slot) for slot, run in enumerate(self.runs())]

    def wants(self) -> Iterable[Request]:
        yield ask("compare_metrics", runs=self.numbers)
        yield ask("params_diff", runs=self.numbers)
        yield from chart.requests(self._shown(), self.key)
        for number, suite in product(self.numbers[1:], comparison.PAIRED_SUITES):
            yield ask("paired", a=self.numbers[0], b=number, suite=suite)

    def _paired(self) -> comparison.Paired:
        paired = {}
        for number, suite in product(self.numbers[1:], comparison.PAIRED_SUITES):
            rows = self.snapshot.rows(ask("paired", a=self.numbers[0], b=number, suite=suite))
            if rows:
                paired[number, suite] = rows[0]
        return paired

    def _metric_rows(self) -> list[dict[str, object]]:
        return self.snapshot.rows(ask("compare_metrics", runs=self.numbers))

    # ---- painting -------------------------------------------------------------------------------

    def lay_out(self, width: int, height: int) -> None:
        top, metrics = self.query_one("#top"), self.query_one("#pane1")
        top.styles.height = "1fr"
        metrics.styles.height = "1fr" if self.small else max(9, min(20, round(height * 0.4)))
        self.query_one("#tabs").set_class(not self.small, "hidden")
        for index in range(3):
            self.query_one(f"#pane{index}").set_class(self.small and index != self.pane, "hidden")
        self.query_one("#pane2").styles.width = "1fr" if self.small else min(60, width // 3)
        top.set_class(self.small and self.pane == 1, "hidden")

    def header_start(self) -> Line:
        names = ", ".join(f"#{number}" for number in self.numbers)
        return [(f" comparing {names}", "bright")]

    def paint_chart(self, width: int, height: int) -> list[Line]:
        made = chart.make(
            self.snapshot, self._shown(), self.key, self.state.view, color=not self.app.no_color
        )
        head: list[Line] = [[(self.key, "dim")]] if self.small else []
        return [*head, *chart.lines(made, width, height - len(head))]

    def paint_metrics(self, width: int, height: int) -> list[Line]:
        paired = self._paired()
        lines = comparison.metrics(self._metric_rows(), self.runs(), paired, width)
        note: Line = [(cut(comparison.explanation(self.runs(), paired), width), "faint")]
        return [*self._scroll(1, lines, height - 1), note]

    def paint_recipes(self, width: int, height: int) -> list[Line]:
        request = ask("params_diff", runs=self.numbers)
        if not self.snapshot.has(request):
            return [[("loading …", "dim")]]
        return self._scroll(2, comparison.recipes(self.snapshot.rows(request), self.runs(), width), height)

    def _scroll(self, pane: int, lines: list[Line], height: int) -> list[Line]:
        """The lines in view; the first one, which names the runs, stays."""
        self._lengths[pane] = max(0, len(lines) - height)
        start = self.scrolled[pane] = min(self.scrolled[pane], self._lengths[pane])
        shown = [*lines[:1], *lines[1 + start : start + height]]
        return [*shown, *([] for _ in range(height - len(shown)))]

    # ---- keys -----------------------------------------------------------------------------------

    def do_metric(self) -> None:
        keys = list(dict.fromkeys(str(row["key"]) for row in self._metric_rows()))
        if keys:
            self.key = keys[(keys.index(self.key) + 1) % len(keys)] if self.key in keys else keys[0]
            self.query_one("#pane0", Panel).title(self.key)
            self.changed()

    def page(self) -> int:
        return 8

    def move(self, by: int) -> None:
        """On a small terminal the pane in view scrolls, on a large one the metrics."""
        self._scroll_pane(self.pane if self.small or self.pane == 2 else 1, by)

    def turn_wheel(self, panel: str, lines: int) -> None:
        if panel.startswith("pane"):
            self._scroll_pane(pane_index(panel), lines)

    def _scroll_pane(self, pane: int, by: int) -> None:
        self.scrolled[pane] = max(0, min(self._lengths[pane], self.scrolled[pane] + by))
        self.update_panels()

    def do_reset(self) -> None:
        self.host.set_view(ChartView(glyphs=self.state.view.glyphs, metric=self.state.view.metric))
