"""The first screen: run table, curves, hardware, flags, log."""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial

from textual.app import ComposeResult
from textual.containers import Horizontal
from textual.message import Message
from textual.widget import Widget

from store.states import RunState
from tui import filter as run_filter
from tui.data import Request, Run, ask
from tui.lines import theme
from tui.lines.text import Line, clean, cut, spread
from tui.screens.base import BaseScreen, tabs, textual_bindings
from tui.widgets import chart, panes, run_table
from tui.widgets.chart import SMOOTHING, Shown
from tui.widgets.panel import Panel

PANES = ("training", "held-out", "general", "hardware", "flags", "log")
CHART_KEYS = {"held-out": "heldout/loss", "general": "general/loss"}


class Dashboard(BaseScreen, inherit_bindings=False):
    """Everything at a glance; on a small terminal one pane at a time below the table."""

    room = "dashboard"
    BINDINGS = textual_bindings("dashboard")

    def __init__(self) -> None:
        super().__init__()
        self.cursor: int | None = None  # number of the run under the cursor
        self.top = 0
        self.sort, self.down = self._kept_order()
        self.filter = ""
        self.pane = 0  # shown on a small terminal
        self.large: int | None = None  # the only pane shown on a large one
        self._arranged: tuple[object, ...] = ()
        self._charts: dict[int, list[Line]] = {}
        self._runs: list[Run] = []
        self._places: dict[int, int] = {}  # run number → index in _runs
        self._made_from: tuple[object, ...] | None = None

    def _kept_order(self) -> tuple[str, bool]:
        """How the table was sorted in the session before."""
        match self.app.remembered().get("sort"):
            case [str(name), bool(down)] if name in run_filter.SORTS:
                return name, down
        return "#", True

    def compose(self) -> ComposeResult:
        yield Panel(self.paint_header, id="header", classes="line")
        yield Panel(self.paint_table, id="table", classes="framed", title="Runs")
        yield Panel(self.paint_tabs, id="tabs", classes="line")
        with Horizontal(id="charts"):
            for index, name in enumerate(PANES[:3]):
                painter = partial(self.paint_chart, index)
                yield Panel(painter, id=f"pane{index}", classes="framed pane", title=name)
        with Horizontal(id="facts"):
            yield Panel(self.paint_hardware, id="pane3", classes="framed pane", title="Hardware")
            yield Panel(self.paint_flags, id="pane4", classes="framed pane", title="Flags")
            yield Panel(self.paint_log, id="pane5", classes="framed pane", title="Log")
        yield Panel(self.paint_hardware_line, id="hardware-line", classes="line")
        yield Panel(self.paint_footer, id="footer", classes="line")

    # ---- what is shown --------------------------------------------------------------------------

    def runs(self) -> list[Run]:
        """The runs that pass the filter, in order; made again only when something of it has changed."""
        made_from = (self.snapshot, self.filter, self.sort, self.down)
        if self._made_from is None or any(
            a is not b for a, b in zip(made_from, self._made_from, strict=True)
        ):
            self._made_from, self._runs = made_from, self._arrange_runs()
            self._places = {run.number: at for at, run in enumerate(self._runs)}
        return self._runs

    def _arrange_runs(self) -> list[Run]:
        params = {
            key: {row["run"]: row["value"] for row in self.snapshot.rows(ask("parameter", key=key))}
            for key in run_filter.parameters(self.filter)
        }
        return run_filter.arrange(self.snapshot.runs, self.filter, self.sort, self.down, params)

    def target(self) -> Run | None:
        runs = self.runs()
        return runs[self._index()] if runs else None

    def shown(self) -> list[Shown]:
        """Runs in the charts: the one under the cursor on top, then the marked ones."""
        app, run = self.app, self.target()
        items = [
            Shown(other, slot) for slot, number in enumerate(app.marked) if (other := self._find(number))
        ]
        if run is None:
            return items
        if run.number in app.marked:
            return sorted(items, key=lambda item: item.run.number != run.number)
        return [Shown(run, len(app.marked)), *items]

    def _find(self, number: int) -> Run | None:
        return self.snapshot.run(number)

    def wants(self) -> Iterable[Request]:
        run = self.target()
        shown = self.shown()
        yield ask("hardware")
        for key in run_filter.parameters(self.filter):
            yield ask("parameter", key=key)
        for index in self._visible():
            if index < 3:
                yield from chart.requests(shown, self._key(index))
            elif run and PANES[index] == "flags":
                yield ask("flags", run=run.number)
                yield ask("worst", run=run.number)
            elif run and PANES[index] == "log":
                yield ask("log", run=run.number)
        if run and 0 in self._visible():
            yield ask("keys", run=run.number)

    def changed(self) -> None:
        if self.cursor is None and self.snapshot.runs:
            self.cursor = self._first()
        self._layout()
        for index, name in enumerate((self._metric_title(), *PANES[1:3])):
            self.query_one(f"#pane{index}", Panel).title(self._chart_title(index, name))
        super().changed()

    def _first(self) -> int | None:
        """Where the cursor starts: on the run asked for, else on one that runs, else on top."""
        runs = self.runs()
        if self._find(self.app.select or 0):
            return self.app.select
        running = next((run for run in runs if run.state == RunState.RUNNING), None)
        return running.number if running else runs[0].number if runs else None

    def _key(self, index: int) -> str:
        return self.app.view.metric if index == 0 else CHART_KEYS[PANES[index]]

    def _visible(self) -> list[int]:
        if self.small:
            return [self.pane]
        return [self.large] if self.large is not None else list(range(len(PANES)))

    # ---- layout ---------------------------------------------------------------------------------

    def lay_out(self, width: int, height: int) -> None:
        self._arranged = ()
        self._layout()

    def _layout(self) -> None:
        """Sizes and visibility, touched only when they differ: a layout repaints the whole screen."""
        rows = len(self.snapshot.runs)
        height = self.size.height
        table = max(6, min(rows + 4, 9 if self.small else round(height * 0.34)))
        if self.small:
            table = min(table, 8)
        visible = self._visible()
        facts = max(8, min(13, round(height * 0.24)))
        wanted = (self.small, table, tuple(visible), facts)
        if wanted == self._arranged or not self.is_mounted or not height:
            return
        self._arranged = wanted
        self._part("#table").styles.height = table + (0 if self.small else 1)
        self._part("#tabs").set_class(not self.small, "hidden")
        self._part("#hardware-line").set_class(not self.small, "hidden")
        for index in range(len(PANES)):
            self._part(f"#pane{index}").set_class(index not in visible, "hidden")
        charts, facts_row = self._part("#charts"), self._part("#facts")
        charts.set_class(not any(index < 3 for index in visible), "hidden")
        facts_row.set_class(not any(index >= 3 for index in visible), "hidden")
        charts.styles.height = "1fr"
        facts_row.styles.height = facts if len(visible) > 3 else "1fr"
        self.set_class(self.small, "-one")

    def _part(self, selector: str) -> Widget:
        return self.query_one(selector)

    # ---- painting -------------------------------------------------------------------------------

    def header_start(self) -> Line:
        runs = self.snapshot.runs
        if not self.snapshot.loaded:
            return [(" connecting …", "dim")]
        parts: Line = [(f" {len(runs)} run{'s' if len(runs) != 1 else ''}", "text")]
        for state in (RunState.RUNNING, RunState.QUEUED, RunState.FAILED):
            number = self.snapshot.states.get(state, 0)
            if number:
                parts += [(" · ", "faint"), (f"{number} {state}", theme.state_look(state).style)]
        if self.filter:
            parts += [(" · ", "faint"), (f"filter: {self.filter}", "warn")]
        return parts

    def paint_table(self, width: int, height: int) -> list[Line]:
        runs = self.runs()
        rows = height - 2
        index = self._index()
        self.top = max(0, min(self.top, len(runs) - rows))
        self.top = min(max(self.top, index - rows + 1), index)
        empty = (
            run_table.EMPTY if not self.snapshot.runs else f"No run matches {self.filter!r}: esc shows all"
        )
        slots = {number: slot for slot, number in enumerate(self.app.marked)}
        view = run_table.TableView(
            runs, index, self.top, slots, self.sort, self.down,
            empty if self.snapshot.loaded else "", self.snapshot.etas,
        )  # fmt: skip
        lines = run_table.lines(view, width, height - 1)
        lines += [[] for _ in range(height - 1 - len(lines))]
        more = f"{index + 1}/{len(runs)}" if len(runs) > rows else ""
        return [*lines, spread(self._about(width), [(more, "faint")], width)]

    def _about(self, width: int) -> Line:
        """One line on the run under the cursor: why it waits, what it does, how it ended."""
        run = self.target()
        if run is None:
            return []
        text, style = run_table.about(run)
        return [(f"  #{run.number} ", "dim"), (cut(clean(text), width - 8), style)]

    def paint_tabs(self, width: int, height: int) -> list[Line]:
        return [tabs((self._metric_title(), *PANES[1:]), self.pane, width)]

    def _chart_title(self, index: int, name: str) -> str:
        """What a chart shows and how, above a chart of a large terminal."""
        view = self.app.view
        parts = [f"{name} loss" if name in PANES else name]
        if view.log:
            parts.append("log")
        if view.smooth and index == 0:
            parts.append(f"smoothed {SMOOTHING[view.smooth]:g}")
        return " · ".join(parts)

    def _metric_title(self) -> str:
        metric = self.app.view.metric
        return PANES[0] if metric == chart.FIRST else metric

    def paint_chart(self, index: int, width: int, height: int) -> list[Line]:
        key = self._key(index)
        wanted = chart.requests(self.shown(), key)
        if self.snapshot.loaded and not all(self.snapshot.has(request) for request in wanted):
            return self._charts.get(index, [])  # for a moment the old one, rather than a flash of nothing
        made = chart.make(
            self.snapshot, self.shown(), key, self.app.view, color=not self.app.no_color,
            empty="" if self.snapshot.loaded else " ",
        )  # fmt: skip
        self._charts[index] = chart.lines(made, width, height)
        return self._charts[index]

    def paint_hardware(self, width: int, height: int) -> list[Line]:
        if not self.snapshot.has(ask("hardware")):
            return []
        return panes.hardware(self.snapshot.rows(ask("hardware")), self._busy(), width, height)

    def paint_hardware_line(self, width: int, height: int) -> list[Line]:
        run = self.target()
        line = panes.hardware_line(self.snapshot.rows(ask("hardware")), self._busy())
        flags: Line = (
            [(f"⚑ {run.flags} ", "bad" if run.flag_level == "critical" else "warn")]
            if run and run.flags
            else []
        )
        return [spread([(" ", ""), *line], flags, width)]

    def paint_flags(self, width: int, height: int) -> list[Line]:
        run = self.target()
        if not self.snapshot.loaded:
            return []
        rows, worst = (
            (self.snapshot.rows(ask(name, run=run.number)) if run else []) for name in ("flags", "worst")
        )
        lines = panes.flags(rows, worst, run, width)
        if len(lines) > height:
            lines[height - 1 :] = [[("… the rest: enter, then 4", "faint")]]
        return lines

    def paint_log(self, width: int, height: int) -> list[Line]:
        run = self.target()
        if not self.snapshot.loaded:
            return []
        return panes.log(self.snapshot.rows(ask("log", run=run.number)) if run else [], run, width, height)

    def _busy(self) -> bool:
        return self.snapshot.busy

    # ---- moving ---------------------------------------------------------------------------------

    def _index(self) -> int:
        """Where the cursor is in `runs()`, which is to be called first."""
        return self._places.get(self.cursor, 0) if self.cursor is not None else 0

    def move(self, by: int) -> None:
        runs = self.runs()
        if not runs:
            return
        index = max(0, min(len(runs) - 1, self._index() + by))
        self.cursor = runs[index].number
        self.changed()

    def page(self) -> int:
        return max(1, (self._part("#table").content_size.height - 2) // 2)

    def on_panel_clicked(self, message: Panel.Clicked) -> None:
        runs = self.runs()
        at = self.top + message.row - 1
        if message.panel.id == "table" and message.row >= 1 and at < len(runs):
            self.cursor = runs[at].number
            self.changed()

    def on_panel_scrolled(self, message: Panel.Scrolled) -> None:
        if message.panel.id == "table":
            self.move(message.lines)

    # ---- doing ----------------------------------------------------------------------------------

    def do_open(self) -> None:
        run = self.target()
        if run:
            self.app.open_run(run.number)

    def do_mark(self) -> None:
        run = self.target()
        if run is None:
            return
        marked = self.app.marked
        marked.remove(run.number) if run.number in marked else marked.append(run.number)
        self.move(1)

    def do_unmark(self) -> None:
        self.app.marked.clear()
        self.changed()

    def do_sort(self) -> None:
        names = list(run_filter.SORTS)
        self.sort = names[(names.index(self.sort) + 1) % len(names)]
        self.down = self.sort in ("#", "flags")
        self.changed()

    def do_reverse(self) -> None:
        self.down = not self.down
        self.changed()

    def do_next_pane(self) -> None:
        self._show_pane(1)

    def do_previous_pane(self) -> None:
        self._show_pane(-1)

    def _show_pane(self, by: int) -> None:
        if self.small:
            self.pane = (self.pane + by) % len(PANES)
        else:
            now = -1 if self.large is None else self.large
            following = now + by
            self.large = None if following in (-1, len(PANES)) else following % len(PANES)
        self.changed()

    def do_pane(self, number: int) -> None:
        if number > len(PANES):
            return
        if self.small:
            self.pane = number - 1
        else:
            self.large = None if self.large == number - 1 else number - 1
        self.changed()

    def do_reset(self) -> None:
        self.large = None
        self.app.set_view(chart.ChartView(glyphs=self.app.view.glyphs))

    def do_metric(self) -> None:
        run = self.target()
        rows = self.snapshot.rows(ask("keys", run=run.number)) if run else []
        keys = [row["key"] for row in rows if chart.is_training(row["key"])] or [chart.FIRST]
        now = self.app.view.metric
        self.app.set_metric(keys[(keys.index(now) + 1) % len(keys)] if now in keys else keys[0])

    def do_back(self) -> None:
        if self.filter:
            self.filter = ""
            self.changed()
        elif self.large is not None:
            self.large = None
            self.changed()
        elif self.app.marked:
            self.do_unmark()
        else:
            self.app.do_back()

    def do_filter(self) -> None:
        self.app.run_worker(self._open_filter(), exclusive=True)

    async def _open_filter(self) -> None:
        from tui.widgets.prompt import Prompt

        footer = self._part("#footer")
        footer.add_class("hidden")
        prompt = Prompt(
            "filter", self.filter, "words, state:running, method=lora, lr>1e-4", self.app.ascii_only
        )
        await self.mount(prompt)
        prompt.input.focus()

    def on_prompt_changed(self, message: Message) -> None:
        from tui.widgets.prompt import Prompt

        assert isinstance(message, Prompt.Changed)
        self.filter = message.text.strip()
        if message.done:
            self.query_one(Prompt).remove()
            self._part("#footer").remove_class("hidden")
        self.changed()
