"""Marked runs side by side: curves in one chart, metrics with paired differences, recipe differences, samples, and the
examples on which they disagree.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

from textual.app import ComposeResult
from textual.containers import Horizontal

from finetui.errors import StoreError
from tui.bindings import key_of
from tui.host import Answer
from tui.lines.cycle import following
from tui.lines.scroll import Scroll
from tui.lines.tables import Table
from tui.lines.text import Line, cut, width_of, wrap
from tui.rows import Request, Run, ask
from tui.screens import chart_files
from tui.screens.base import PanedScreen, pane_index
from tui.screens.chart_files import Picture
from tui.screens.reader import ReaderScreen
from tui.screens.sample_search import SampleSearch
from tui.state import ChartView
from tui.widgets import chart, comparable, compared_tables, comparison, curves, disagreements, samples_beside
from tui.widgets.chart import Shown
from tui.widgets.disagreements import Example
from tui.widgets.panel import Panel
from tui.widgets.plot import Plot
from tui.widgets.samples_beside import Chosen, Written
from tui.widgets.sides import Sides

START_KEY = "heldout/loss"
CURVES, METRICS, RECIPES, SAMPLES, EXAMPLES = range(5)
LOWER = (METRICS, SAMPLES, EXAMPLES)  # of these a large terminal shows one, below curves and recipes
NOTE_LINES = 3  # of what is not comparable


class CompareScreen(PanedScreen, inherit_bindings=False):
    """One run is the reference, which the others are measured against: the first one that was marked, or another."""

    room = "compare"
    panes = ("curves", "metrics", "recipes", "samples", "examples")

    def __init__(self, numbers: tuple[int, ...]) -> None:
        super().__init__()
        self.numbers = numbers
        self.key = START_KEY
        self.sides = Sides.of(numbers)
        self.only_differing = False
        self.prompt = Chosen()
        self.search = SampleSearch(self)
        self.suites = 0  # index into disagreements.SUITES
        self.example = 0
        self.lower = METRICS
        self.scrolled = [Scroll() for _ in self.panes]

    def compose(self) -> ComposeResult:
        yield Panel(self.paint_header, id="header", classes="line")
        yield Panel(self.paint_tabs, id="tabs", classes="line")
        yield Panel(self.paint_note, id="note", classes="line hidden")
        with Horizontal(id="top"):
            yield Panel(self.paint_chart, id="pane0", classes="framed pane", title=START_KEY)
            yield Panel(self.paint_recipes, id="pane2", classes="framed pane", title="Recipe differences")
        yield Panel(self.paint_metrics, id="pane1", classes="framed pane", title="Metrics")
        yield Panel(self.paint_samples, id="pane3", classes="framed pane", title="Samples")
        yield Panel(self.paint_examples, id="pane4", classes="framed pane", title="Examples")
        yield Panel(self.paint_footer, id="footer", classes="line")

    # ---- what is shown --------------------------------------------------------------------------

    def place(self) -> dict[str, Any]:
        return {"screen": "compare", "runs": list(self.numbers)}

    def runs(self) -> list[Run]:
        return [run for number in self.numbers if (run := self.snapshot.run(number))]

    def _shown(self) -> list[Shown]:
        shown = [Shown(run, slot) for slot, run in enumerate(self.runs())]
        return sorted(shown, key=lambda item: item.run.number != self.sides.chosen)

    def wants(self) -> Iterable[Request]:
        yield ask("compare_metrics", runs=self.numbers)
        yield ask("params_diff", runs=self.numbers)
        yield self._shared()
        yield from chart.requests(self._shown(), self.key, self.state.view.x_axis)
        for number, suite in product(self.sides.others, comparison.PAIRED_SUITES):
            yield self._pair(number, suite)
        if self.is_in_view(SAMPLES):
            yield from (ask("samples", run=number) for number in self.numbers)
        if self.is_in_view(EXAMPLES):
            yield ask("disagreements", runs=self.numbers)

    def _shared(self) -> Request:
        return ask("shared_examples", a=self.sides.reference, runs=self.numbers)

    def _pair(self, number: int, suite: str) -> Request:
        return ask("paired", a=self.sides.reference, b=number, suite=suite)

    def _paired(self) -> comparison.Paired:
        paired = {}
        for number, suite in product(self.sides.others, comparison.PAIRED_SUITES):
            if rows := self.snapshot.rows(self._pair(number, suite)):
                paired[number, suite] = rows[0]
        return paired

    def _metric_rows(self) -> list[dict[str, object]]:
        return self.snapshot.rows(ask("compare_metrics", runs=self.numbers))

    def _metrics_shown(self) -> list[dict[str, object]]:
        rows = self._metric_rows()
        return comparison.differing(rows, self.runs(), self._paired()) if self.only_differing else rows

    def written(self) -> Written:
        return {number: self.snapshot.rows(ask("samples", run=number)) for number in self.sides.order}

    def _examples(self) -> list[Example]:
        rows = self.snapshot.rows(ask("disagreements", runs=self.numbers))
        return disagreements.examples(rows, disagreements.SUITES[self.suites][1])

    def _plot(self) -> Plot:
        return curves.make(
            self.snapshot, self._shown(), self.key, self.state.view, color=not self.app.no_color
        )

    def _note(self) -> str:
        return comparable.sentence(self.runs(), self.sides.reference, self.snapshot.rows(self._shared()))

    def is_in_view(self, pane: int) -> bool:
        return super().is_in_view(pane) if self.small else pane in (CURVES, RECIPES, self.lower)

    # ---- painting -------------------------------------------------------------------------------

    def lay_out(self, width: int, height: int) -> None:
        self.show_panes()
        top = self.query_one("#top")
        top.set_class(self.small and self.pane in LOWER, "hidden")
        top.styles.height = "1fr"
        share = 0.4 if self.lower == METRICS else 0.6
        for index in LOWER:
            lower = max(9, min(20 if index == METRICS else height, round(height * share)))
            self.query_one(f"#pane{index}").styles.height = "1fr" if self.small else lower
        self.query_one("#pane2").styles.width = "1fr" if self.small else min(60, width // 3)

    def changed(self) -> None:
        note = self.query_one("#note")
        lines = wrap(self._note(), max(10, self.size.width - 2))[:NOTE_LINES]
        note.set_class(lines == [""], "hidden")
        note.styles.height = len(lines)
        self.query_one("#pane0", Panel).title(self.key)
        super().changed()

    def header_start(self) -> Line:
        names = ", ".join(f"#{number}" for number in self.numbers)
        return [(f" comparing {names}", "bright"), (f"  against #{self.sides.reference}", "text")]

    def paint_note(self, width: int, height: int) -> list[Line]:
        lines = wrap(self._note(), max(10, width - 2))
        if len(lines) > height:
            rest = f" … {self.key_of('read_pane')}: all"
            lines = [*lines[: height - 1], f"{cut(lines[height - 1], width - 4 - width_of(rest))}{rest}"]
        return [[(f" {line}", "warn")] for line in lines]

    def paint_chart(self, width: int, height: int) -> list[Line]:
        head: list[Line] = [[(self.key, "dim")]] if self.small else []
        return [*head, *curves.lines(self._plot(), width, height - len(head))]

    def paint_metrics(self, width: int, height: int) -> list[Line]:
        rows, paired = self._metrics_shown(), self._paired()
        lines = comparison.metrics(rows, self.runs(), self.sides, paired, width)
        said = comparison.explanation(self.sides.reference, paired)
        if left_out := len({row["key"] for row in self._metric_rows()} - {row["key"] for row in rows}):
            said = f"{left_out} metrics that do not differ are left out; {said}"
        return [*self._scroll(METRICS, lines, height - 1), [(cut(said, width), "faint")]]

    def paint_recipes(self, width: int, height: int) -> list[Line]:
        request = ask("params_diff", runs=self.numbers)
        if not self.snapshot.has(request):
            return [[("loading …", "dim")]]
        lines = comparison.recipes(self.snapshot.rows(request), self.runs(), self.sides, width)
        return self._scroll(RECIPES, lines, height)

    def paint_samples(self, width: int, height: int) -> list[Line]:
        if not all(self.snapshot.has(ask("samples", run=number)) for number in self.numbers):
            return [[("loading …", "dim")]]
        lines = samples_beside.lines(self.written(), self.runs(), self.sides, self.prompt, width)
        return self.search.show(self._scroll(SAMPLES, lines, height))

    def paint_examples(self, width: int, height: int) -> list[Line]:
        if not self.snapshot.has(ask("disagreements", runs=self.numbers)):
            return [[("loading …", "dim")]]
        found = self._examples()
        self.example = max(0, min(self.example, len(found) - 1))
        of = disagreements.SUITES[self.suites][0]
        lines = disagreements.lines(found, self.example, self.runs(), self.sides, of, width, height - 1)
        return [*lines, [(cut(disagreements.LEGEND, width), "faint")]]

    def _scroll(self, pane: int, lines: list[Line], height: int) -> list[Line]:
        """The lines in view; the first one, which names the runs, stays."""
        shown = [*lines[:1], *self.scrolled[pane].view(lines[1:], height - 1)]
        return [*shown, *([] for _ in range(height - len(shown)))]

    # ---- which runs, against which --------------------------------------------------------------

    def _turn(self, sides: Sides, sentence: str = "") -> None:
        self.sides = sides
        self.changed()
        if sentence:
            self.host.say(sentence)

    def do_left(self) -> None:
        self._turn(self.sides.moved(-1))

    def do_right(self) -> None:
        self._turn(self.sides.moved(1))

    def do_reference(self) -> None:
        number = self.sides.chosen
        self._turn(self.sides.measured_against_chosen(), f"measured against #{number}")

    def do_pin(self) -> None:
        number = self.sides.chosen
        let_go = number in self.sides.pinned
        self._turn(self.sides.pin(), f"#{number} {'moves again' if let_go else 'stays in view'}")

    # ---- keys of one pane, which they bring into view -------------------------------------------

    def _bring(self, pane: int) -> None:
        if not self.is_in_view(pane) or self.pane != pane:
            self.do_pane(pane + 1)
        else:
            self.changed()

    def do_pane(self, number: int) -> None:
        if number - 1 in LOWER:
            self.lower = number - 1
        super().do_pane(number)

    def do_differing(self) -> None:
        self.only_differing = not self.only_differing
        self._bring(METRICS)

    def do_next_prompt(self) -> None:
        self._step_prompt(1)

    def do_previous_prompt(self) -> None:
        self._step_prompt(-1)

    def _step_prompt(self, by: int) -> None:
        last = len(samples_beside.prompts(self.written())) - 1
        self.prompt = replace(self.prompt, prompt=max(0, min(last, self.prompt.prompt + by)))
        self.scrolled[SAMPLES].first = 0
        self._bring(SAMPLES)

    def show_samples(self, wanted: Callable[[Line], bool]) -> None:
        """The prompt that was gone to, from the first line on that is wanted."""
        width = self.query_one("#pane3").content_size.width or self.size.width
        lines = samples_beside.lines(self.written(), self.runs(), self.sides, self.prompt, width)
        self.scrolled[SAMPLES].first = next((at for at, line in enumerate(lines[1:]) if wanted(line)), 0)
        self._bring(SAMPLES)

    def do_search(self) -> None:
        self._bring(SAMPLES)
        self.search.ask()

    def do_next_match(self) -> None:
        self.search.go_on(1)

    def do_previous_match(self) -> None:
        self.search.go_on(-1)

    def do_back(self) -> None:
        if self.search.end():  # escape ends a search before it leaves
            self.update_panels()
        else:
            self.host.leave_screen()

    def do_earlier_sample(self) -> None:
        self._step_sample(1)

    def do_later_sample(self) -> None:
        self._step_sample(-1)

    def _step_sample(self, by: int) -> None:
        """Through the steps at which a run wrote; first, and after the latest one, each run's last."""
        steps: list[int | None] = [None, *samples_beside.steps(self.written())]
        at = steps.index(self.prompt.step) if self.prompt.step in steps else 0
        self.prompt = replace(self.prompt, step=steps[max(0, min(len(steps) - 1, at + by))])
        self._bring(SAMPLES)

    def do_suites(self) -> None:
        self.suites = (self.suites + 1) % len(disagreements.SUITES)
        self.example = 0
        self._bring(EXAMPLES)

    def do_metric(self) -> None:
        keys = list(dict.fromkeys(str(row["key"]) for row in self._metric_rows()))
        if keys:
            self.key = following(keys, self.key)
            self.changed()

    # ---- whole, copied, saved -------------------------------------------------------------------

    def do_read_pane(self) -> None:
        """The pane whole: what it had to cut, and every run."""
        pane, found = self.pane, self._examples()
        if pane == EXAMPLES and found:
            text = disagreements.whole(found[self.example], self.runs(), self.sides)
        elif pane == SAMPLES:
            text = samples_beside.whole(self.written(), self.runs(), self.sides, self.prompt)
        else:
            text = self._table().text()
        parts = [part for part in (self._note(), text) if part]
        self.host.open_screen(ReaderScreen(self.panes[pane], "\n\n".join(parts) or "nothing yet"))

    def _table(self) -> Table:
        """What the pane shows, of all runs."""
        if self.pane == METRICS:
            return compared_tables.metrics(self._metrics_shown(), self.sides, self._paired())
        if self.pane == RECIPES:
            rows = self.snapshot.rows(ask("params_diff", runs=self.numbers))
            return compared_tables.recipes(rows, self.sides)
        if self.pane == SAMPLES:
            return compared_tables.samples(self.written(), self.sides, self.prompt)
        if self.pane == EXAMPLES:
            return compared_tables.examples(self._examples(), self.sides)
        return compared_tables.curves(self.key, self._plot())

    def _picture(self) -> Picture:
        return chart_files.of_runs(self.key, self._plot(), self.runs(), self.state.view)

    def copies(self) -> Sequence[Answer]:
        pane = self.panes[self.pane]
        return (
            Answer("m", "Markdown", lambda: self.host.copy(self._table().markdown(), f"{pane} as Markdown")),
            Answer("c", "CSV", lambda: self.host.copy(self._table().csv(), f"{pane} as CSV")),
            Answer("t", "chart", lambda: self.host.copy(self._picture().text(), f"the chart of {self.key}")),
        )

    def do_write(self) -> None:
        pane = self.panes[self.pane]
        self.host.choose(
            f"save {pane} to a file:",
            (
                Answer("m", "Markdown", lambda: self._ask_where(pane, "md", self._table().markdown())),
                Answer("c", "CSV", lambda: self._ask_where(pane, "csv", self._table().csv())),
                Answer("p", "picture", lambda: chart_files.ask_where(self, self._picture())),
                Answer("t", "chart text", lambda: chart_files.ask_where(self, self._picture(), ".txt")),
            ),
        )

    def _ask_where(self, what: str, ending: str, text: str) -> None:
        name = f"{what}-{'-'.join(map(str, self.numbers))}.{ending}"
        self.ask_path(
            "save as", name, "a path; nothing is overwritten", _new, lambda path: self._save(path, text)
        )

    def _save(self, path: Path, text: str) -> None:
        if self.write_file(path, text):
            self.host.say(f"saved {path}", "good")

    # ---- moving ---------------------------------------------------------------------------------

    def page(self) -> int:
        return 8

    def move(self, by: int) -> None:
        """The pane in view scrolls, and on a large terminal with the curves chosen the one below them."""
        self._move_in(self.lower if self.pane == CURVES and not self.small else self.pane, by)

    def turn_wheel(self, panel: str, lines: int) -> None:
        if panel.startswith("pane"):
            self._move_in(pane_index(panel), lines)

    def _move_in(self, pane: int, by: int) -> None:
        if pane == EXAMPLES:
            self.example = max(0, min(len(self._examples()) - 1, self.example + by))
        else:
            self.scrolled[pane].move(by)
        self.update_panels()

    def do_reset(self) -> None:
        self.host.set_view(ChartView(glyphs=self.state.view.glyphs, metric=self.state.view.metric))


def _new(name: str) -> Path:
    """The file of a name that is still free. Raises StoreError."""
    path = Path(name).expanduser().absolute()
    if path.exists():
        raise StoreError(
            f"{path} is there already: {key_of('write', 'compare')} again, and another name", "file"
        )
    return path
