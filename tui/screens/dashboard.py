"""The first screen: run table, curves, hardware, flags, log."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING

from textual.app import ComposeResult

from engine.basics.safe_text import one_line
from store.states import RunState
from tui import bindings
from tui.lines import sweeps, theme
from tui.lines.cycle import following
from tui.lines.log_levels import Level
from tui.lines.scroll import visible_top
from tui.lines.text import Line, cut, spread
from tui.rows import Request, Run, ask
from tui.run_list import RunList
from tui.screens import table_questions
from tui.screens.base import BaseScreen, pane_index
from tui.screens.dashboard_charts import Charts
from tui.screens.dashboard_layout import Layout, panes_of
from tui.screens.dashboard_machine import Machine
from tui.screens.dashboard_panes import PANES, ShownPanes
from tui.state import FIRST_METRIC, ChartView
from tui.widgets import log_lines, run_table
from tui.widgets.bars import tabs
from tui.widgets.hardware_asked import HISTORY, LATEST, MACHINE
from tui.widgets.panel import Panel

if TYPE_CHECKING:
    from tui.screens.place import Place
    from tui.widgets.chart import Shown

MOST_CURVES = theme.SERIES  # of marked runs: more than there are colours tell nothing


class Dashboard(BaseScreen, inherit_bindings=False):
    """Everything at a glance; on a small terminal one pane at a time below the table."""

    room = "dashboard"

    def __init__(self, panes: object = None) -> None:
        """`panes`: how they were arranged in the session before."""
        super().__init__()
        self.top = 0
        self.shown_panes = ShownPanes.of(panes)
        self._arranged: Layout | None = None
        self._is_due = False  # what follows the cursor
        self._being_laid_out = 0  # layouts that no panel has its new size of yet
        self._has_panes = False
        self.charts = Charts(self)
        self.machine = Machine(self)

    def compose(self) -> ComposeResult:
        yield Panel(self.paint_header, id="header", classes="line")
        yield Panel(self.paint_table, id="table", classes="framed", title="Runs")
        yield Panel(self.paint_tabs, id="tabs", classes="line hidden")
        yield Panel(self.machine.paint_line, id="hardware-line", classes="line hidden")
        yield Panel(self.paint_footer, id="footer", classes="line")

    def on_mount(self) -> None:
        self.call_after_refresh(self._mount_panes)

    async def _mount_panes(self) -> None:
        """What has nothing to show yet: the first paint does not wait for it."""
        charts = [partial(self.charts.paint, index) for index in range(3)]
        panes = panes_of([*charts, self.machine.paint, self.paint_flags, self.paint_log])
        await self.mount(*panes, before="#hardware-line")
        self._has_panes = True
        self.changed()

    # ---- what is shown --------------------------------------------------------------------------

    @property
    def run_list(self) -> RunList:
        return self.state.run_list

    def runs(self) -> list[Run]:
        """The runs that pass the filter and are in view, in order."""
        return self.run_list.runs(self.snapshot)

    def target(self) -> Run | None:
        return self.run_list.target(self.snapshot)

    def members(self) -> tuple[Run, ...]:
        return self.run_list.members(self.snapshot)

    def is_grouped(self) -> bool:
        return bool(self.run_list.by)

    def is_filtered(self) -> bool:
        return bool(self.run_list.filter)

    def on_head(self) -> bool:
        return self.run_list.head(self.snapshot) is not None

    def group(self) -> tuple[Run, ...]:
        run, marked = self.target(), self.state.marked
        if run is None or run.number not in marked or len(marked) < 2 or self.members():
            return ()
        return tuple(one for number in marked if (one := self.snapshot.run(number)))

    def shown(self) -> list[Shown]:
        """Runs in the charts: the one under the cursor on top, then the first of those that are marked."""
        from tui.widgets.chart import Shown  # not before the first paint

        marked, run = self.state.marked[:MOST_CURVES], self.target()
        items = [
            Shown(other, slot) for slot, number in enumerate(marked) if (other := self.snapshot.run(number))
        ]
        if run is None:
            return items
        if run.number in marked:
            return sorted(items, key=lambda item: item.run.number != run.number)
        return [Shown(run, len(marked)), *items]

    def wants(self) -> Iterable[Request]:
        run = self.target()
        yield LATEST
        yield from self.run_list.wants()
        for index in self._visible():
            if index < 3:
                yield from self.charts.requests(index)
            elif PANES[index] == "hardware":
                yield HISTORY
                yield MACHINE
            elif run and PANES[index] == "flags":
                yield ask("flags", run=run.number)
                yield ask("worst", run=run.number)
            elif run and PANES[index] == "log":
                yield ask("log", run=run.number)
        if run and 0 in self._visible():
            yield ask("keys", run=run.number)

    def changed(self) -> None:
        self.run_list.start(self.snapshot)
        self._layout()
        part = " – a part: the logs are still being read" if self.snapshot.reading else ""
        self.query_one("#table", Panel).title(f"Runs{part}")
        if self._has_panes:
            for index in range(3):
                self.query_one(f"#pane{index}", Panel).title(self.charts.title(index))
            shown = log_lines.name(self.state.log_level)
            self.query_one("#pane5", Panel).title(f"Log · {shown}" if shown else "Log")
        super().changed()

    def update_panels(self) -> None:
        self._fit_footer()
        charts = [index for index in self._visible() if index < 3] if self._has_panes else []
        later = self.charts.follow(charts)
        for panel in self.query(Panel):
            if panel.id not in later:
                panel.repaint()

    def is_painted(self) -> bool:
        return self._has_panes and not (self.charts.due or self._being_laid_out) and super().is_painted()

    def is_cursor_due(self) -> bool:
        """Whether the cursor has moved and is not seen there yet."""
        return self._is_due

    def _visible(self) -> tuple[int, ...]:
        return self.shown_panes.visible(self.small)

    # ---- layout ---------------------------------------------------------------------------------

    def lay_out(self, width: int, height: int) -> None:
        self._arranged = None
        self._layout()

    def _layout(self) -> None:
        """Touched only when it differs: a layout repaints the whole screen."""
        height = self.size.height
        known = self._has_panes and (self.snapshot.loaded or bool(self.snapshot.trouble))
        wanted = Layout.of(height, len(self.snapshot.runs), self.shown_panes, self.small, known)
        if wanted != self._arranged and self.is_mounted and height:
            self._arranged = wanted
            wanted.apply(self)
            self._being_laid_out += 1
            self.call_after_refresh(self._laid_out)

    def _laid_out(self) -> None:
        self._being_laid_out -= 1

    # ---- painting -------------------------------------------------------------------------------

    def header_start(self) -> Line:
        runs = self.snapshot.runs
        if not self.snapshot.loaded:
            return [] if self.snapshot.trouble else [(" connecting …", "dim")]
        so_far, style = (" so far", "warn") if self.snapshot.reading else ("", "text")
        parts: Line = [(f" {sweeps.in_words(len(runs))}{so_far}", style)]
        for state in (RunState.RUNNING, RunState.QUEUED, RunState.FAILED):
            number = self.snapshot.states.get(state, 0)
            if number:
                parts += [(" · ", "faint"), (f"{number} {state}", theme.state_look(state).style)]
        if self.run_list.filter:
            fuzzy = self.run_list.lines(self.snapshot) and self.run_list.is_fuzzy
            word = "fuzzy" if fuzzy else "filter"
            parts += [(" · ", "faint"), (f"{word}: {self.run_list.filter}", "warn")]
        if unknown := self.run_list.unknown(self.snapshot):
            parts += [(" · ", "faint"), (unknown, "bad")]
        return parts

    def paint_table(self, width: int, height: int) -> list[Line]:
        lines_of_runs = self.run_list.lines(self.snapshot)
        rows = height - 2
        index = self.run_list.index(self.snapshot)
        self.top = visible_top(self.top, index, len(lines_of_runs), rows)
        none = self._none_matches()
        first = run_table.READING if self.snapshot.reading else run_table.empty()
        empty = none if self.snapshot.runs else first
        slots = {number: slot for slot, number in enumerate(self.state.marked)}
        view = run_table.TableView(
            lines_of_runs, index, self.top, slots, self.run_list.sort, self.run_list.down,
            empty if self.snapshot.loaded else "", self.snapshot.etas, self.snapshot.highest,
            self.run_list.values(self.snapshot), self.run_list.by == "state",
        )  # fmt: skip
        lines = run_table.lines(view, width, height - 1)
        lines += [[] for _ in range(height - 1 - len(lines))]
        more = f"{index + 1}/{len(lines_of_runs)}" if len(lines_of_runs) > rows else ""
        return [*lines, spread(self._about(width), [(more, "faint")], width)]

    def _none_matches(self) -> str:
        """Also why, where the filter can match no run: the header has not always room for it."""
        why = self.run_list.unknown(self.snapshot)
        return f"No run matches {self.run_list.filter!r}{f' ({why})' if why else ''}: esc shows all"

    def _about(self, width: int) -> Line:
        """One line on the run under the cursor: why it waits, what it does, how it ended."""
        run = self.target()
        if run is None:
            return []
        text, style = run_table.about(run)
        if head := self.run_list.head(self.snapshot):
            turn = "closes" if head.is_open else "opens"
            keys = ", ".join(map(self.key_of, ("cancel", "pause", "hold")))
            words = f"  {self.key_of('sweep')} {turn} the group; {keys} and others mean all of it"
            return [(cut(words, width - 8), "dim")]
        if members := self.members():
            text = f"{sweeps.summary([one.state for one in members])} · {self.key_of('sweep')} shows them · {text}"
        return [(f"  #{run.number} ", "dim"), (cut(one_line(text), width - 8), style)]

    def tab_names(self) -> Sequence[str]:
        log = {Level.WARNING: "log: warnings", Level.ERROR: "log: errors"}.get(self.state.log_level, "log")
        return (self.charts.metric_title(), *PANES[1:5], log)

    def paint_tabs(self, width: int, height: int) -> list[Line]:
        return [tabs(self.room, self.tab_names(), self.shown_panes.pane, width)]

    def paint_flags(self, width: int, height: int) -> list[Line]:
        run = self.target()
        if not self.snapshot.loaded:
            return []
        from tui.widgets import panes  # not before the first paint

        rows, worst = (
            (self.snapshot.rows(ask(name, run=run.number)) if run else []) for name in ("flags", "worst")
        )
        lines = panes.flags(rows, worst, run, width)
        if self.shown_panes.whole:
            return self.shown_panes.in_view(lines, height)
        if len(lines) > height:
            there = bindings.key_of("pane(4)", "run")  # the run's flags
            lines[height - 1 :] = [[(f"… the rest: {self.key_of('open')}, then {there}", "faint")]]
        return lines

    def paint_log(self, width: int, height: int) -> list[Line]:
        run = self.target()
        if not self.snapshot.loaded:
            return []
        rows = self.snapshot.rows(ask("log", run=run.number)) if run else []
        least = self.state.log_level
        if self.shown_panes.whole:
            lines = log_lines.whole(rows, run, least, width)
            return self.shown_panes.in_view(lines, height, from_end=True)
        return log_lines.end(rows, run, least, width, height)

    # ---- moving ---------------------------------------------------------------------------------

    def move(self, by: int) -> None:
        if self.shown_panes.whole:
            self.shown_panes.scroll(by)
            self.changed()
            return
        if self.snapshot.loaded:
            self._place(self.run_list.index(self.snapshot) + by)
        else:
            self.host.say(bindings.LOADING, "warn")

    def _place(self, index: int) -> None:
        """The cursor is painted first: the charts of eight runs take longer than an answer to a key may."""
        self.run_list.place(self.snapshot, index)
        self.query_one("#table", Panel).repaint()
        if not self._is_due:
            self._is_due = True
            self.call_after_refresh(self._follow)

    def _follow(self) -> None:
        """Let all else show the run under the cursor, once for all keys that were pressed meanwhile."""
        self._is_due = False
        self.changed()

    def page(self) -> int:
        if self.shown_panes.whole and self._has_panes:
            return max(1, self.query_one(f"#pane{self.shown_panes.pane}").content_size.height // 2)
        return max(1, self._rows_in_view() // 2)

    def _rows_in_view(self) -> int:
        return self.query_one("#table").content_size.height - 2

    def click(self, panel: str, row: int, column: int) -> None:
        super().click(panel, row, column)
        at = self.top + row - 1
        lines = self.run_list.lines(self.snapshot)
        if panel == "table" and 1 <= row <= self._rows_in_view() and at < len(lines):
            self._place(at)
        elif panel.startswith("pane") and not self.small:  # a small terminal shows it already
            self.do_pane(pane_index(panel) + 1)

    def turn_wheel(self, panel: str, lines: int) -> None:
        if panel == "table":
            self.move(lines)

    def places(self) -> Iterable[Place]:
        from tui.screens.place import Place

        yield from super().places()
        lines = self.run_list.lines(self.snapshot)
        for at, line in enumerate(lines[self.top : self.top + max(0, self._rows_in_view())]):
            name = f"#{line.number}" if isinstance(line, Run) else line.name
            yield Place(name, partial(self._place, self.top + at), self.place_in("#table", 1 + at))

    # ---- doing ----------------------------------------------------------------------------------

    def do_mark(self) -> None:
        run, head = self.target(), self.run_list.head(self.snapshot)
        if run is None:
            return
        numbers = dict.fromkeys(one.number for one in head.runs) if head else {run.number: None}
        if numbers.keys() <= set(self.state.marked):
            self.state.mark([number for number in self.state.marked if number not in numbers])
        else:
            self.state.mark([*self.state.marked, *numbers])
        self.move(1)

    def do_mark_all(self) -> None:
        """Mark each run that is shown; of a sweep or a group in one line, all of its runs."""
        self.state.mark([*self.state.marked, *self.run_list.all_runs(self.snapshot)])
        marked = len(self.state.marked)
        now = "1 run is" if marked == 1 else f"{marked} runs are"
        self.host.say(f"{now} marked; {self.key_of('unmark')} unmarks them")
        self.changed()

    def do_unmark(self) -> None:
        again = f"; {self.key_of('undo')} marks them again" if self.state.marked else ""
        self.state.mark(())
        self.host.say(f"no run is marked{again}")
        self.changed()

    def do_sweep(self) -> None:
        self.run_list.turn(self.snapshot)
        self.changed()

    def do_sort(self) -> None:
        self.run_list.sort_by_next()
        self.changed()

    def do_reverse(self) -> None:
        self.run_list.reverse()
        self.changed()

    def do_whole(self) -> None:
        self.shown_panes.turn_whole()
        self.changed()

    def do_next_pane(self) -> None:
        self._show_pane(1)

    def do_previous_pane(self) -> None:
        self._show_pane(-1)

    def _show_pane(self, by: int) -> None:
        self.shown_panes.go_on(by, self.small)
        self.changed()

    def do_pane(self, number: int) -> None:
        if number <= len(PANES):
            self.shown_panes.choose(number - 1, self.small)
            self.changed()

    def do_reset(self) -> None:
        self.shown_panes.reset()
        self.host.set_view(ChartView(glyphs=self.state.view.glyphs))

    def no_chart(self) -> str:
        if min(pane := self._visible()) < 3:
            return ""
        one, two, three = (self.key_of(f"pane({number})") for number in (1, 2, 3))
        return f"there is no chart in {PANES[pane[0]]}: {one}, {two} and {three} show one"

    def do_save_chart(self) -> None:
        from tui.screens import chart_files  # not before the first paint

        chart_files.offer(self, [self.charts.picture(index) for index in self._visible() if index < 3])

    def do_metric(self) -> None:
        from tui.widgets import chart  # not before the first paint

        run = self.target()
        rows = self.snapshot.rows(ask("keys", run=run.number)) if run else []
        keys = [row["key"] for row in rows if chart.is_training(row["key"])] or [FIRST_METRIC]
        self.host.set_view(replace(self.state.view, metric=following(keys, self.state.view.metric)))

    def do_back(self) -> None:
        if self.shown_panes.whole:
            self.do_whole()
        elif self.run_list.filter:
            self.run_list.filter = ""
            self.changed()
        elif self.shown_panes.large is not None:
            self.shown_panes.large = None
            self.changed()
        elif self.state.marked:
            self.do_unmark()
        else:
            self.host.leave_screen()

    def do_columns(self) -> None:
        table_questions.ask_columns(self)

    def do_groups(self) -> None:
        table_questions.ask_groups(self)

    def do_filter(self) -> None:
        table_questions.ask_filter(self)
