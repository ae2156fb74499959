"""The examples that a run forgot or learned: ordered by their change between two looks, or from another run on."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import replace
from functools import partial

from textual.app import ComposeResult
from textual.containers import Horizontal

from engine.basics.errors import ExportError
from engine.basics.safe_text import one_line
from finetui.errors import StoreError
from tui.bindings import key_of
from tui.host import Answer, path_or_say
from tui.lines import looks
from tui.lines.cycle import following
from tui.lines.looks import Compared, Looks, Selection
from tui.lines.scroll import Scroll, visible_top
from tui.lines.text import Line, cut, wrap
from tui.reports import Exporting
from tui.rows import Request, Row, Run, ask
from tui.screens.base import PanedScreen
from tui.screens.place import Place
from tui.widgets import changes, example_page
from tui.widgets.example_page import Example
from tui.widgets.panel import Panel

MOST = 2_000  # examples in the list; the command has them all
ONLY_RISES = (
    "the base model wrote these texts itself: their loss can only rise, by how far the run is from it"
)


class ExamplesScreen(PanedScreen, inherit_bindings=False):
    """A list of examples, and the one under the cursor whole: beside it, or on a small terminal in its place."""

    room = "examples"
    panes = ("list", "example")

    def __init__(self, number: int, suite: str | None = None, slice: str | None = None) -> None:
        """`suite`, `slice`: those that are shown first, if the run has them."""
        super().__init__()
        self.number = number
        self.before = number  # the run that the examples come from: another one, or itself
        self.selection = Selection(suite, slice)
        self.best_first = False
        self.words = ""
        self.cursor = self.top = 0
        self.scroll = Scroll()  # of the example
        self._tokens: dict[tuple[str, str], Row] = {}  # what was scored, by suite and example
        self._scoring: Exporting | None = None

    def compose(self) -> ComposeResult:
        yield Panel(self.paint_header, id="header", classes="line")
        yield Panel(self.paint_scope, id="scope")
        yield Panel(self.paint_tabs, id="tabs", classes="line")
        with Horizontal(id="body"):
            yield Panel(self.paint_list, id="pane0", classes="framed pane", title="Examples")
            yield Panel(self.paint_example, id="pane1", classes="framed pane", title="Example")
        yield Panel(self.paint_footer, id="footer", classes="line")

    def on_mount(self) -> None:
        self.query_one("#scope").styles.height = 2
        self.query_one("#body").styles.height = "1fr"

    # ---- what is shown --------------------------------------------------------------------------

    def target(self) -> Run | None:
        return self.snapshot.run(self.number)

    def _looks(self, number: int) -> Looks:
        return Looks(number, self.snapshot.rows(ask("looks", run=number)))

    def _loaded(self) -> bool:
        return all(self.snapshot.has(ask("looks", run=number)) for number in (self.number, self.before))

    def _compared(self) -> Compared:
        """Raises StoreError with the sentence that says why nothing can be compared."""
        after, before = self._looks(self.number), self._looks(self.before)
        return looks.resolve(looks.nearest(self.selection, after, before), after, before)

    def compared(self) -> Compared | None:
        try:
            return self._compared() if self._loaded() else None
        except StoreError:
            return None

    def _request(self, compared: Compared) -> Request:
        return ask("changes", **compared.arguments, words=self.words, best_first=self.best_first, limit=MOST)

    def rows(self) -> list[Row]:
        compared = self.compared()
        return self.snapshot.rows(self._request(compared)) if compared else []

    def _row(self) -> Row | None:
        rows = self.rows()
        return rows[min(self.cursor, len(rows) - 1)] if rows else None

    def _of_example(self, compared: Compared, example: str) -> dict[str, Request]:
        """What is asked about the example under the cursor, by the fields of `Example`."""
        wanted = {
            "text": ask("example_text", example=example),
            "losses": ask("example_losses", run=self.number, suite=compared.suite, example=example),
            "answers": ask("answers", run=self.number, example=example),
            "answers_before": ask("answers", run=self.before, example=example),
        }
        if self.before != self.number:
            of_other = ask("example_losses", run=self.before, suite=compared.suite, example=example)
            wanted["losses_before"] = of_other
        return wanted

    def wants(self) -> Iterable[Request]:
        yield ask("looks", run=self.number)
        yield ask("looks", run=self.before)
        yield ask("flags", run=self.number)
        if compared := self.compared():
            yield self._request(compared)
            if row := self._row():
                yield from self._of_example(compared, row["example"]).values()

    def example(self) -> Example | None:
        """The example under the cursor; None while something of it has not come."""
        compared, row = self.compared(), self._row()
        if compared is None or row is None:
            return None
        wanted = self._of_example(compared, row["example"])
        if not all(map(self.snapshot.has, wanted.values())):
            return None
        found = {name: self.snapshot.rows(request) for name, request in wanted.items()}
        tokens = self._tokens.get((compared.suite, row["example"]))
        return Example(row, **{"losses_before": [], **found}, tokens=tokens)

    # ---- painting -------------------------------------------------------------------------------

    def header_start(self) -> Line:
        run = self.target()
        return [(f" examples of #{self.number} {one_line(run.name) if run else ''}", "bright")]

    def paint_scope(self, width: int, height: int) -> list[Line]:
        compared = self.compared()
        if compared is None:
            return []
        scope = changes.scope(compared, self.snapshot.rows(ask("flags", run=self.number)), width)
        if not self.snapshot.has(self._request(compared)):
            return [scope, [(" loading …", "dim")]]
        text = changes.summary(compared, self.rows(), self.best_first, self.words)
        if compared.suite == "samples":
            text = f"{text}; {ONLY_RISES}"
        return [scope, [(cut(f" {one_line(text)}", width), "dim")]]

    def paint_list(self, width: int, height: int) -> list[Line]:
        if not self._loaded():
            return [[("loading …", "dim")]]
        try:
            self._compared()
        except StoreError as error:
            return [[(line, "dim")] for line in wrap(str(error), width)]
        rows = self.rows()
        if not rows:
            return []
        self.cursor = min(self.cursor, len(rows) - 1)
        cut_off = rows[0]["examples"] - len(rows)
        more = [(cut(f" {cut_off:,} more: finetui examples {self.number} has all", width), "faint")]
        room = max(1, height - 1 - bool(cut_off))
        self.top = visible_top(self.top, self.cursor, len(rows), room)
        slices = changes.slice_width(rows)
        shown = [
            changes.line(row, slices, at == self.cursor, width)
            for at, row in enumerate(rows[self.top : self.top + room], start=self.top)
        ]
        return [changes.head(rows, width), *shown, *([more] if cut_off else [])]

    def paint_example(self, width: int, height: int) -> list[Line]:
        compared, example = self.compared(), self.example()
        if compared is None or example is None:
            return [[("loading …", "dim")]] if self._row() else []
        color, glyphs = not self.app.no_color, self.state.view.glyphs
        lines = example_page.page(example, compared, glyphs, width, color=color)
        return self.scroll.view(lines, height)

    # ---- what is compared -----------------------------------------------------------------------

    def _choose(self, selection: Selection) -> None:
        self.selection = selection
        self._from_the_top()

    def _from_the_top(self) -> None:
        self.cursor = self.top = self.scroll.first = 0
        self.changed()

    def do_suite(self) -> None:
        if compared := self.compared():
            names = looks.suites(self._looks(self.number), self._looks(self.before))
            if len(names) == 1:
                self.host.say(f"{names[0]} is the only suite that can be compared")
            self._choose(replace(self.selection, suite=following(names, compared.suite), slice=None))

    def do_slice(self) -> None:
        if compared := self.compared():
            names = [None, *self._looks(self.number).slices(compared.suite)]
            if len(names) == 1:
                self.host.say(f"suite {compared.suite} is not divided into slices")
            slice = following(names, compared.slice)
            self._choose(replace(self.selection, suite=compared.suite, slice=slice))

    def do_order(self) -> None:
        self.best_first = not self.best_first
        self._from_the_top()

    def do_before_run(self) -> None:
        """From the run itself to the marked ones, one by one, and back."""
        others = [number for number in self.state.marked if number != self.number]
        if not others:
            mark, compare = key_of("mark", "dashboard"), self.key_of("before_run")
            self.host.say(
                f"mark another run with {mark} on the dashboard: {compare} then compares with it", "warn"
            )
            return
        around = [self.number, *others]
        self.before = following(around, self.before if self.before in around else self.number)
        self._choose(replace(self.selection, step_before=None))

    def do_earlier_look(self) -> None:
        self._move_look(-1, "step_after")

    def do_later_look(self) -> None:
        self._move_look(1, "step_after")

    def do_earlier_before(self) -> None:
        self._move_look(-1, "step_before")

    def do_later_before(self) -> None:
        self._move_look(1, "step_before")

    def _move_look(self, by: int, end: str) -> None:
        compared = self.compared()
        if compared is None:
            return
        of = self._looks(self.number if end == "step_after" else self.before)
        steps = list(of.counts(compared.suite, compared.slice))
        at = steps.index(getattr(compared, end)) + by
        ends = {"step_before": compared.step_before, "step_after": compared.step_after}
        if 0 <= at < len(steps):
            ends[end] = steps[at]
        alone = self.before == self.number
        if not 0 <= at < len(steps) or (alone and ends["step_before"] >= ends["step_after"]):
            where = "earlier" if by < 0 else "later"
            self.host.say(f"there is no {where} look to go to: they are at {', '.join(map(str, steps))}")
        else:
            self._choose(Selection(compared.suite, compared.slice, ends["step_before"], ends["step_after"]))

    def do_filter(self) -> None:
        self.ask("only with", self.words, "words of the prompt or the target", self._filter)

    def _filter(self, text: str) -> None:
        self.words = text
        self._from_the_top()

    # ---- tokens ---------------------------------------------------------------------------------

    def do_tokens(self) -> None:
        """Have the tokens of the example scored, by a process that loads the model."""
        compared, row = self.compared(), self._row()
        if compared is None or row is None or (path := path_or_say(self.host, self.number)) is None:
            return
        if self._scoring:
            self.host.say("tokens are being scored already: wait for them", "warn")
            return
        place = (compared.suite, row["example"])
        self._scoring = Exporting(path, {"kind": "tokens", "suite": place[0], "example": place[1]})
        self.host.say("loading the model to score each token …", keep=True)
        self.run_worker(partial(self._wait, self._scoring, place), thread=True, exit_on_error=False)

    def _wait(self, scoring: Exporting, place: tuple[str, str]) -> None:
        try:
            outcome = partial(self._scored, place, scoring.result())
        except ExportError as error:
            outcome = partial(self._not_scored, str(error))
        with suppress(RuntimeError):  # the app has ended meanwhile
            self.app.call_from_thread(outcome)

    def _scored(self, place: tuple[str, str], scored: Row) -> None:
        self._tokens[place] = scored
        self._scoring = None
        self.host.say("")
        if self.is_current:
            self.do_pane(2)

    def _not_scored(self, sentence: str) -> None:
        self._scoring = None
        if self.is_attached:
            self.host.say(sentence, "bad")

    def on_unmount(self) -> None:
        if self._scoring:
            self._scoring.stop()

    # ---- keys -----------------------------------------------------------------------------------

    def do_open(self) -> None:
        self.do_pane(2)

    def do_back(self) -> None:
        if self.pane:
            self.do_pane(1)
        else:
            self.host.leave_screen()

    def do_next_example(self) -> None:
        self._go(1)

    def do_previous_example(self) -> None:
        self._go(-1)

    def _go(self, by: int) -> None:
        self.cursor = max(0, min(len(self.rows()) - 1, self.cursor + by))
        self.scroll.first = 0
        self.changed()

    def move(self, by: int) -> None:
        if self.pane:
            self._scroll(by)
        else:
            self._go(by)

    def _scroll(self, by: int) -> None:
        self.scroll.move(by)
        self.update_panels()

    def click(self, panel: str, row: int, column: int) -> None:
        if panel == "pane0" and 0 < row <= len(self.rows()) - self.top:
            self.cursor, self.scroll.first = self.top + row - 1, 0
        super().click(panel, row, column)

    def places(self) -> Iterable[Place]:
        yield from super().places()
        shown = self.query_one("#pane0")
        rows = self.rows()[self.top : self.top + shown.content_size.height - 1] if shown.display else []
        for at, row in enumerate(rows):
            yield Place(
                row["example"],
                partial(self._go, self.top + at - self.cursor),
                self.place_in("#pane0", 1 + at),
            )

    def turn_wheel(self, panel: str, lines: int) -> None:
        if panel == "pane1":
            self._scroll(lines)
        else:
            self._go(lines)

    def copies(self) -> Sequence[Answer]:
        compared, example = self.compared(), self.example()
        if compared is None or example is None:
            return super().copies()
        whole, text = example_page.plain(example, compared), example.prompt + example.target
        return (
            *super().copies(),
            Answer("e", "example", lambda: self.host.copy(whole, "all there is on the example")),
            Answer("t", "text", lambda: self.host.copy(text, "the example's text")),
        )
