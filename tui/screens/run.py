"""One run: all its curves, evaluations, samples, flags, checkpoints, recipe and log."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import Any

from textual.app import ComposeResult
from textual.containers import Horizontal

from engine.basics.safe_text import one_line
from tui.lines import theme
from tui.lines.scroll import visible_top
from tui.lines.text import Line, cut, from_column, line_width, marked, places, squeezed, wrap
from tui.rows import Request, Run, ask
from tui.screens import chart_files
from tui.screens.base import BaseScreen
from tui.screens.place import Place
from tui.screens.reader import ReaderScreen
from tui.state import ChartView
from tui.widgets import chart, curves, details, log_lines, panes, run_table
from tui.widgets.bars import tabs
from tui.widgets.chart import Shown
from tui.widgets.panel import Panel
from tui.widgets.plot import Plot

SIDE_STEP = 16  # columns
WIDE = 1 << 16  # columns that a line is made for where it can be scrolled sideways
SIDEWAYS = ("evals", "checkpoints", "log")
SECTIONS = ("curves", "evals", "samples", "flags", "checkpoints", "recipe", "log")
RECIPE = SECTIONS.index("recipe")  # has the reason of a failure at its end


class RunScreen(BaseScreen, inherit_bindings=False):
    """Sections behind number keys and tab; j and k choose a curve or scroll."""

    room = "run"

    def __init__(self, number: int, key: str, section: int = 0) -> None:
        """`key`: the curve that is chosen first; `section`: which one is shown."""
        super().__init__()
        self.number = number
        self.section = section if 0 <= section < len(SECTIONS) else 0
        self.key = key
        self.keys_top = 0
        self.first_line: int | None = (
            None  # first line of the section in view; None: from the start, a log its end
        )
        self.column = 0  # first column in view, where lines are not wrapped
        self.search = ""
        self._match = -1  # the line that was gone to last
        self._length = self._height = 0  # of the section: its lines, and those in view
        self._found: list[int] = []  # lines that have what is searched for
        self.about_height = 1
        self._is_wide = False  # the curve has the width of the list, too

    def compose(self) -> ComposeResult:
        yield Panel(self.paint_header, id="header", classes="line")
        yield Panel(self.paint_about, id="about", classes="line")
        yield Panel(self.paint_tabs, id="tabs", classes="line")
        with Horizontal(id="body"):
            yield Panel(self.paint_keys, id="keys")
            yield Panel(self.paint_section, id="section")
        yield Panel(self.paint_footer, id="footer", classes="line")

    def on_mount(self) -> None:
        self.query_one("#body").styles.height = "1fr"
        self._show_section(self.section)

    # ---- what is shown --------------------------------------------------------------------------

    def place(self) -> dict[str, Any]:
        return {"screen": "run", "run": self.number, "section": self.section}

    def target(self) -> Run | None:
        return self.snapshot.run(self.number)

    def _chosen(self) -> str:
        return SECTIONS[self.section]

    def _shown(self) -> list[Shown]:
        run = self.target()
        return [Shown(run, self.state.slot(self.number) or 0)] if run else []

    def wants(self) -> Iterable[Request]:
        number, name = self.number, self._chosen()
        if name == "curves":
            yield ask("keys", run=number)
            yield from chart.requests(self._shown(), self.key, self.state.view.x_axis)
        elif name == "evals":
            yield ask("evals", run=number)
            yield ask("baselines", run=number)
            yield ask("slices", run=number)
            yield ask("distance", run=number)
            yield ask("choices", run=number)
            yield ask("drift", run=number)
        elif name == "flags":
            yield ask("flags", run=number)
            yield ask("worst", run=number)
        elif name == "checkpoints":
            yield ask("checkpoints", run=number)
            yield ask("attempts", run=number)
        elif name == "recipe":
            yield ask("params", run=number)
            yield ask("datasets", run=number)
        else:
            yield ask(name, run=number)

    def rows(self, name: str) -> list[dict[str, object]]:
        return self.snapshot.rows(ask(name, run=self.number))

    # ---- painting -------------------------------------------------------------------------------

    def header_start(self) -> Line:
        run = self.target()
        if run is None:
            return [(f" run #{self.number}", "text")]
        look = theme.state_look(run.standing)
        room = max(20, self.size.width - 36)  # its state is always there
        return [
            (f" #{run.number} {squeezed(one_line(run.name), room)}", "bright"),
            (f"   {look.glyph} {run.standing}", look.style),
            (f"   {run.method}", "text"),
            (f" on {one_line(run.model.removeprefix('bundled:'))}" if run.model else "", "dim"),
        ]

    def paint_about(self, width: int, height: int) -> list[Line]:
        return self._about(width)

    def _about(self, width: int) -> list[Line]:
        """What there is to say about the run, whole: why it failed ends with what to do."""
        run = self.target()
        if run is None:
            return []
        text, style = run_table.about(run)
        lines: list[Line] = [[(f" {line}", style)] for line in wrap(one_line(text), max(1, width - 2))]
        most = max(1, self.size.height // 3)
        rest: Line = [(f" … the rest: {self.key_of(f'pane({RECIPE + 1})')}", "faint")]
        return lines if len(lines) <= most else [*lines[: most - 1], rest]

    def changed(self) -> None:
        height = max(1, len(self._about(self.size.width)))
        if height != self.about_height:
            self.about_height = height
            self.query_one("#about").styles.height = height
        super().changed()

    def tab_names(self) -> Sequence[str]:
        return SECTIONS

    def paint_tabs(self, width: int, height: int) -> list[Line]:
        return [tabs(self.room, SECTIONS, self.section, width)]

    def paint_keys(self, width: int, height: int) -> list[Line]:
        rows = self.rows("keys")
        index = self._key_index()
        self.keys_top = visible_top(self.keys_top, index, len(rows), height)
        return details.keys(rows, self.key, width)[self.keys_top : self.keys_top + height]

    def _why_none(self) -> str:
        if not self.snapshot.loaded:
            return "loading …"
        return "this run has not been read yet" if self.snapshot.reading else "this run is gone"

    def paint_section(self, width: int, height: int) -> list[Line]:
        run, name = self.target(), self._chosen()
        if run is None:
            return [[(self._why_none(), "dim")]]
        if name == "curves":
            return curves.lines(self._plot(), width, height)
        if name != "log" and not all(self.snapshot.has(request) for request in self.wants()):
            return [[(" loading …", "dim")]]
        lines = self._lines(run, name, WIDE if name in SIDEWAYS else width - 2)
        head = self._log_head(width) if name == "log" else []
        height -= len(head)
        self._length, self._height = len(lines), height
        last = max(0, len(lines) - height)
        start = min(last, self.first_line) if self.first_line is not None else last if name == "log" else 0
        shown = lines[start : start + height]
        if name in SIDEWAYS:
            widest = max(map(line_width, shown), default=0)
            self.column = max(0, min(self.column, widest - width + 2))
            shown = [from_column(line, self.column) for line in shown]
        self._found = places(lines, self.search, wrapped=name not in SIDEWAYS) if self.search else []
        return [*head, *([(" ", ""), *marked(line, self.search)] for line in shown)]

    def _log_head(self, width: int) -> list[Line]:
        """What of the log is shown, where not all of it is."""
        least, rows = self.state.log_level, self.rows("log")
        if not (shown := log_lines.name(least)):
            return []
        count = len(log_lines.of_level(rows, least))
        others = f"{self.key_of('log_level')} shows others"
        return [[(cut(f" {shown}: {count} of the last {len(rows)} lines; {others}", width), "title")]]

    def _plot(self) -> Plot:
        return curves.make(
            self.snapshot, self._shown(), self.key, self.state.view, color=not self.app.no_color
        )

    def _lines(self, run: Run, name: str, width: int) -> list[Line]:
        if name == "evals":
            baselines, slices, distance = map(self.rows, ("baselines", "slices", "distance"))
            choices, drift = map(self.rows, ("choices", "drift"))
            return details.evals(self.rows(name), baselines, slices, distance, choices, drift, width)
        if name == "samples":
            return details.samples(self.rows("samples"), width)
        if name == "flags":
            return panes.flags(self.rows("flags"), self.rows("worst"), run, width)
        if name == "checkpoints":
            return details.checkpoints(self.rows("checkpoints"), self.rows("attempts"), width)
        if name == "recipe":
            return details.recipe(self.rows("params"), self.rows("datasets"), run, width)
        rows = self.rows("log")
        return log_lines.end(rows, run, self.state.log_level, width, len(rows))

    # ---- keys -----------------------------------------------------------------------------------

    def _show_section(self, index: int) -> None:
        self.section, self.first_line, self.column, self._match = index, None, 0, -1
        keys = self.query_one("#keys")
        keys.set_class(self._chosen() != "curves" or self._is_wide, "hidden")
        keys.styles.width = self._keys_width()
        self.changed()

    def _keys_width(self) -> int:
        """Room for `heldout_few_shot/token_accuracy` and a number, on a small terminal for a part of it."""
        return 30 if self.small else 44

    def lay_out(self, width: int, height: int) -> None:
        self.query_one("#keys").styles.width = self._keys_width()
        self.changed()

    def do_pane(self, number: int) -> None:
        if number <= len(SECTIONS):
            self._show_section(number - 1)

    def do_next_pane(self) -> None:
        self._show_section((self.section + 1) % len(SECTIONS))

    def do_previous_pane(self) -> None:
        self._show_section((self.section - 1) % len(SECTIONS))

    def _key_index(self) -> int:
        keys = [row["key"] for row in self.rows("keys")]
        return keys.index(self.key) if self.key in keys else 0

    def do_metric(self) -> None:
        keys = [str(row["key"]) for row in self.rows("keys")]
        if keys:
            self.key = keys[(self._key_index() + 1) % len(keys)]
            self.changed()

    def do_whole(self) -> None:
        if self._chosen() != "curves":
            reads = self.key_of("read_section")
            self.host.say(
                f"the section {self._chosen()} has the whole screen already; {reads} reads it whole"
            )
            return
        self._is_wide = not self._is_wide
        self._show_section(self.section)

    def do_read_section(self) -> None:
        run, name = self.target(), self._chosen()
        if run is None:
            self.host.say(self._why_none(), "warn")
            return
        lines = details.keys_whole(self.rows("keys")) if name == "curves" else self._lines(run, name, WIDE)
        text = "\n".join("".join(part for part, _ in line).rstrip() for line in lines)
        self.host.open_screen(ReaderScreen(f"#{run.number} {run.name} · {name}", text))

    def no_chart(self) -> str:
        if self._chosen() == "curves":
            return ""
        return f"the section {self._chosen()} has no chart: {self.key_of('pane(1)')} shows the curves"

    def do_save_chart(self) -> None:
        runs = [item.run for item in self._shown()]
        chart_files.ask_where(self, chart_files.of_runs(self.key, self._plot(), runs, self.state.view))

    def click(self, panel: str, row: int, column: int) -> None:
        super().click(panel, row, column)
        if panel == "keys" and self.keys_top + row < len(self.rows("keys")):
            self._go_to_key(self.keys_top + row)

    def _choose_key(self, index: int) -> None:
        keys = [str(row["key"]) for row in self.rows("keys")]
        if keys:
            self.key = keys[max(0, min(len(keys) - 1, index))]

    def places(self) -> Iterable[Place]:
        yield from super().places()
        panel = self.query_one("#keys")
        in_view = self.rows("keys")[self.keys_top : self.keys_top + panel.content_size.height]
        for at, row in enumerate(in_view if panel.display else ()):
            yield Place(
                str(row["key"]), partial(self._go_to_key, self.keys_top + at), self.place_in("#keys", at)
            )

    def _go_to_key(self, index: int) -> None:
        self._choose_key(index)
        self.changed()

    def move(self, by: int) -> None:
        if self._chosen() == "curves":
            self._choose_key(self._key_index() + by)
        else:
            last = max(0, self._length - self._height)
            now = self.first_line if self.first_line is not None else last if self._chosen() == "log" else 0
            now = max(0, min(last, now + by))
            # At its end a log is followed.
            self.first_line = None if self._chosen() == "log" and now == last else now
        self.changed()

    def do_search(self) -> None:
        if self._chosen() == "curves":
            self._show_section(SECTIONS.index("log"))
        self.ask(
            f"search in {self._chosen()}",
            self.search,
            f"{self.key_of('next_match')} the next, {self.key_of('previous_match')} the one before",
            self._search,
            live=True,
        )

    def _search(self, words: str) -> None:
        """Show the first line that has the words, from the top of what is in view on."""
        self.search, self._match = words, -1
        self.changed()
        if words:
            self._go(lambda at, top: at > top)

    def do_back(self) -> None:
        if self.search:  # escape ends a search before it leaves
            self._search("")
        else:
            self.host.leave_screen()

    def do_next_match(self) -> None:
        self._go(lambda at, top: at > top)

    def do_previous_match(self) -> None:
        self._go(lambda at, top: at < top, last=True)

    def _go(self, fits: Callable[[int, int], bool], last: bool = False) -> None:
        """Put a line that has the words on top; behind the last one comes the first."""
        if not self.search:
            self.host.say(f"{self.key_of('search')} searches here")
            return
        if not self._found:
            self.host.say(f"nothing here has {self.search!r}", "warn")
            return
        ahead = [at for at in self._found if fits(at, self._match)] or self._found
        self._match = self.first_line = ahead[-1 if last else 0]
        self.host.say(
            f"{self._found.index(self._match) + 1} of {len(self._found)} lines have {self.search!r}"
        )
        self.changed()

    def do_left(self) -> None:
        self._scroll_sideways(-SIDE_STEP)

    def do_right(self) -> None:
        self._scroll_sideways(SIDE_STEP)

    def _scroll_sideways(self, by: int) -> None:
        if self._chosen() not in SIDEWAYS:
            self.host.say(f"the section {self._chosen()} shows its lines whole")
            return
        self.column = max(0, self.column + by)  # painting keeps it inside
        self.changed()

    def page(self) -> int:
        return max(1, self.query_one("#section").content_size.height // 2)

    def do_reset(self) -> None:
        self.host.set_view(ChartView(glyphs=self.state.view.glyphs, metric=self.state.view.metric))
