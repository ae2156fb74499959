"""What a run is worth at factors between the base model and all that it trained: a chart and a table, as they come."""

from __future__ import annotations

from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from textual.app import ComposeResult

from engine.basics.errors import ExportError
from engine.basics.safe_text import one_line
from engine.runs.home import run_dirs
from finetui.errors import StoreError
from tui.lines import front
from tui.lines.scroll import Scroll
from tui.lines.text import Line, wrap
from tui.reports import Exporting
from tui.screens.base import BaseScreen
from tui.widgets import plot
from tui.widgets.canvas import Mark, Series
from tui.widgets.panel import Panel
from tui.widgets.plot import Plot


class ScaleScreen(BaseScreen, inherit_bindings=False):
    """`finetui fix --scale` with keys. Scoring ends when the screen is left."""

    room = "scale"

    def __init__(self, number: int, name: str) -> None:
        super().__init__()
        self.number, self.name_of_run = number, name
        self.points: list[dict[str, Any]] = []
        self.found: dict[str, Any] | None = None
        self.word = "starting …"  # what is being done, or why there is nothing
        self.failed = False
        self.scroll = Scroll()
        self._path: Path | None = None  # of the run
        self._scoring: Exporting | None = None

    def compose(self) -> ComposeResult:
        yield Panel(self.paint_header, id="header", classes="line")
        yield Panel(self.paint_chart, id="chart", classes="framed", title="Change of the loss by factor")
        yield Panel(self.paint_table, id="table", classes="framed", title="Factors")
        yield Panel(self.paint_footer, id="footer", classes="line")

    def on_mount(self) -> None:
        for name in ("#chart", "#table"):
            self.query_one(name).styles.height = "1fr"
        self._path = next((run.path for run in run_dirs(self.host.home) if run.number == self.number), None)
        if self._path is None:
            self._show_error(f"the directory of run #{self.number} is gone")
            return
        self._scoring = Exporting(self._path, {"kind": "scale"})
        self.run_worker(partial(self._follow, self._scoring), thread=True, exit_on_error=False)

    def on_unmount(self) -> None:
        if self._scoring:
            self._scoring.stop()

    def _follow(self, scoring: Exporting) -> None:
        with suppress(RuntimeError):  # the app has ended meanwhile
            try:
                for entry in scoring.entries():
                    self.app.call_from_thread(self._show, entry)
            except ExportError as error:
                self.app.call_from_thread(self._show_error, str(error))

    def _show(self, entry: dict[str, Any]) -> None:
        if "point" in entry:
            self.points.append(entry["point"])
        elif "done" in entry:
            self.found = entry["done"]
            self.points, self.word = entry["done"]["points"], entry["done"]["message"]
            self.host.in_thread(self._tell_daemon, lambda _: None)
        else:
            self.word = entry["say"]
        self._repaint()

    def _show_error(self, sentence: str) -> None:
        self.word, self.failed = sentence, True
        self._repaint()

    def _repaint(self) -> None:
        if self.is_current:  # else it has been left, and what others want to know must stay
            self.changed()

    # ---- painting -------------------------------------------------------------------------------

    def header_start(self) -> Line:
        return [(f" scale #{self.number} {one_line(self.name_of_run)}", "bright")]

    def paint_chart(self, width: int, height: int) -> list[Line]:
        series, marks = chart_of(self.points, self.found)
        glyphs, rhythm = self.state.view.glyphs, self.app.no_color
        empty = "no factor is scored yet"
        made = Plot(series, marks, x_range=(0.0, 1.0), glyphs=glyphs, rhythm=rhythm, empty=empty)
        return plot.render(made, width, height)

    def paint_table(self, width: int, height: int) -> list[Line]:
        style = "bad" if self.failed else "text" if self.found else "dim"
        lines: list[Line] = [[(line, style)] for line in wrap(one_line(self.word), width)]
        for half, title in (("choose", "the half that chooses"), ("confirm", "the other half")):
            rows = front.rows({"factor": None, **(self.found or {}), "points": self.points}, half)
            if rows:
                lines += [
                    [],
                    [(f"On {title} of the rows, since the base model", "title")],
                    *front.table(rows),
                ]
        return self.scroll.view(lines, height)

    # ---- keys -----------------------------------------------------------------------------------

    def do_write(self) -> None:
        if self.found is None:
            self.host.say(self.word if self.failed else "factors are still being scored", "warn")
        elif not self.found["helps"]:
            self.host.say(f"no factor helps run #{self.number}: nothing is written", "warn")
        else:
            factor = self.found["factor"]
            question = f"Write run #{self.number} at factor {factor:g} to a folder in {Path.cwd()}?"
            self.host.confirm(question, partial(self._write, factor))

    def _write(self, factor: float) -> None:
        path = self._path
        assert path is not None, "it was there when its factors were scored"

        def work(client: Any) -> dict[str, Any]:
            try:
                made = Exporting(path, {"kind": None, "out": None, "factor": factor}).result()
            except ExportError as error:
                raise StoreError(str(error), "refused") from None
            self._tell_daemon(client)
            return made

        self.host.say("writing …", keep=True)
        self.host.in_thread(work, lambda made: self.host.say(f"wrote {made['path']}", "good"))

    def _tell_daemon(self, client: Any) -> None:
        """Have the run's log read into the store now; sooner or later it is read anyway."""
        with suppress(StoreError):
            client.action("look", run=self.number)

    def move(self, by: int) -> None:
        self.scroll.move(by)
        self.update_panels()


def chart_of(
    points: list[dict[str, Any]], found: dict[str, Any] | None
) -> tuple[tuple[Series, ...], tuple[Mark, ...]]:
    """The curves of held-out and general text over the factors that chose, and a line at the chosen one."""
    chosen = [point for point in points if point["half"] == "choose"]
    held = [(point["factor"], point["change"]) for point in chosen]
    general = [(point["factor"], point["general"]) for point in chosen if point["general"]]
    series = [
        Series(
            name,
            slot,
            tuple(factor for factor, _ in rows),
            tuple(part["value"] for _, part in rows),
            tuple(part["value"] if part["lo"] is None else part["lo"] for _, part in rows),
            tuple(part["value"] if part["hi"] is None else part["hi"] for _, part in rows),
            interval=True,
        )
        for slot, (name, rows) in enumerate((("held-out", held), ("general", general)))
        if rows
    ]
    marks = (Mark(found["factor"], "good"),) if found and found["factor"] is not None else ()
    return tuple(series), marks
