"""The data of a run: what `finetui data` prints, with the loss mask of its examples in colour."""

from __future__ import annotations

import time
from contextlib import suppress
from functools import partial
from typing import Any

from textual.app import ComposeResult
from textual.containers import Horizontal

from engine.basics.errors import DataError
from engine.basics.safe_text import one_line
from tui.lines.scroll import Scroll
from tui.lines.text import Line, wrap
from tui.reports import Reporting
from tui.screens.base import PanedScreen, pane_index
from tui.widgets import data_page
from tui.widgets.panel import Panel


class DataScreen(PanedScreen, inherit_bindings=False):
    """The report on one side, examples on the other; on a small terminal one of them at a time."""

    room = "data"
    panes = ("report", "examples")

    def __init__(self, title: str, *arguments: str, stdin: str = "") -> None:
        """`arguments`, `stdin`: those of `tui.reports.Reporting`."""
        super().__init__()
        self.heading = title
        self.arguments, self.stdin = arguments, stdin
        self.report: dict[str, Any] | None = None
        self.trouble = ""  # why there is no report
        self.at = 0  # the example shown
        self.scrolled = [Scroll() for _ in self.panes]
        self._reporting: Reporting | None = None
        self.since = time.monotonic()

    def compose(self) -> ComposeResult:
        yield Panel(self.paint_header, id="header", classes="line")
        yield Panel(self.paint_tabs, id="tabs", classes="line")
        with Horizontal(id="body"):
            yield Panel(self.paint_report, id="pane0", classes="framed pane", title="Data")
            yield Panel(
                self.paint_example, id="pane1", classes="framed pane", title=f"Examples: {self._legend()}"
            )
        yield Panel(self.paint_footer, id="footer", classes="line")

    def on_mount(self) -> None:
        self.query_one("#body").styles.height = "1fr"
        self.begin()

    def begin(self) -> None:
        """Have the report made."""
        self._reporting = Reporting(*self.arguments, stdin=self.stdin)
        self.run_worker(self._wait, thread=True, exit_on_error=False)
        self._clock = self.set_interval(1, self.update_panels)

    def on_unmount(self) -> None:
        if self._reporting and self.report is None:
            self._reporting.stop()

    def _wait(self) -> None:
        assert self._reporting is not None
        try:
            outcome = partial(self.show_report, self._reporting.result())
        except DataError as error:
            outcome = partial(self.show_trouble, str(error))
        with suppress(RuntimeError):  # the app has ended meanwhile
            self.app.call_from_thread(outcome)

    def show_report(self, report: dict[str, Any]) -> None:
        self.report = report
        self._clock.stop()
        self.changed()

    def show_trouble(self, sentence: str) -> None:
        self.trouble = sentence
        self._clock.stop()
        self.changed()

    def _legend(self) -> str:
        return "what is learned stands between « and »" if self.app.no_color else "what is learned is green"

    # ---- painting -------------------------------------------------------------------------------

    def header_start(self) -> Line:
        line: Line = [(f" data of {one_line(self.heading)}", "bright")]
        return [*line, *data_page.summary(self.report)] if self.report else line

    def paint_report(self, width: int, height: int) -> list[Line]:
        if self.trouble:
            return [[(line, "bad")] for line in wrap(one_line(self.trouble), width)]
        if self.report is None:
            return self._wait_lines()
        return self.scrolled[0].view(data_page.facts(self.report, width), height)

    def _wait_lines(self) -> list[Line]:
        took = f"{time.monotonic() - self.since:.0f} s"
        return [[(f"reading, tokenising and comparing every row … {took}", "dim")]]

    def paint_example(self, width: int, height: int) -> list[Line]:
        examples = self._examples()
        if self.report is None:
            return [] if self.trouble or not self.small else self._wait_lines()
        if not examples:
            return [[("no row can be shown", "dim")]]
        lines = data_page.examples(examples, self.at, width, marks=self.app.no_color)
        return self.scrolled[1].view(lines, height)

    def _examples(self) -> list[dict[str, Any]]:
        return self.report["examples"] if self.report else []

    # ---- keys -----------------------------------------------------------------------------------

    def do_next_example(self) -> None:
        self._show_example(1)

    def do_previous_example(self) -> None:
        self._show_example(-1)

    def _show_example(self, by: int) -> None:
        examples = self._examples()
        if not examples:
            return
        if not self.small or self.pane == 1:  # else the one that was chosen is only brought to view
            self.at = (self.at + by) % len(examples)
            self.scrolled[1].first = 0
        self.do_pane(2)

    def move(self, by: int) -> None:
        self._scroll_pane(self.pane, by)

    def turn_wheel(self, panel: str, lines: int) -> None:
        if panel.startswith("pane"):
            self._scroll_pane(pane_index(panel), lines)

    def _scroll_pane(self, pane: int, by: int) -> None:
        self.scrolled[pane].move(by)
        self.update_panels()
