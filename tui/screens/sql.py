"""SQL over everything: an editor, results of any length, the tables with their comments, a history."""

from __future__ import annotations

import time
import uuid
from dataclasses import dataclass
from typing import Any

from textual import events
from textual.app import ComposeResult
from textual.containers import Horizontal
from textual.widgets import TextArea

from tui.lines.text import Line, cut, fit, left, unique, width_of, wrap
from tui.screens.base import BaseScreen, textual_bindings
from tui.widgets import grid
from tui.widgets.panel import Panel

ROW_LIMIT = 100_000
HISTORY = 200
SCHEMA = """
SELECT table_name, column_name, data_type, comment FROM duckdb_columns()
WHERE NOT internal ORDER BY table_name, column_index"""
EXAMPLES = (
    "FROM leaderboard",
    "SELECT run, name, state, method, step, total_steps FROM runs ORDER BY run DESC",
    "SELECT step, value FROM curve(1, 'train/loss')",
    "SELECT run, step, suite, key, value, lo, hi, n FROM evals ORDER BY run, step",
    "FROM compare(1, 2)",
    "SELECT example, prompt, before, after, increase FROM forgotten(1) LIMIT 20",
    "SELECT run, flag, level, since_step, effect, lo, hi, message FROM flags ORDER BY t DESC",
    "SELECT key, list(run || ': ' || value ORDER BY run) AS runs FROM params GROUP BY key "
    "HAVING count(DISTINCT value) > 1 ORDER BY key",
    "SELECT to_timestamp(t) AS at, key, value FROM system_metrics ORDER BY t DESC LIMIT 200",
    "DESCRIBE metrics",
)


@dataclass(frozen=True)
class Column:
    """A line of the list of tables."""

    table: str
    name: str
    type: str
    comment: str


class Editor(TextArea):
    """Enter runs a query of one line or one that ends with `;`, else it starts a new line."""

    async def _on_key(self, event: events.Key) -> None:
        screen = self.screen
        assert isinstance(screen, SqlScreen)
        if event.key == "enter" and ("\n" not in self.text or self.text.rstrip().endswith(";")):
            event.stop()
            event.prevent_default()
            screen.do_execute()
        elif event.key in ("alt+enter", "shift+enter", "ctrl+o"):
            event.stop()
            event.prevent_default()
            self.insert("\n")
        elif event.key == "escape":
            event.stop()
            event.prevent_default()
            screen.do_back()
        else:
            await super()._on_key(event)


class SqlScreen(BaseScreen, inherit_bindings=False):
    """Queries run in a thread and can be stopped; the screen stays alive meanwhile."""

    room = "sql"
    BINDINGS = textual_bindings("sql")

    def __init__(self, history: list[str]) -> None:
        """`history`: earlier queries, the last one last."""
        super().__init__()
        self.result: grid.Grid | None = None
        self.outcome: Line = [("enter runs the query · f2 for ready-made ones · tab to the results", "dim")]
        self.top = self.cursor = self.column = 0
        self.columns: list[Column] = []
        self.table_top = self.table_cursor = 0
        self.active = "editor"
        self.running: str | None = None  # id of the query that runs
        self.example = -1
        self.history = history
        self.at = len(self.history)
        self.draft = ""

    def compose(self) -> ComposeResult:
        yield Panel(self.paint_header, id="header", classes="line")
        with Horizontal(id="top"):
            editor = Editor(EXAMPLES[0], id="editor", classes="framed", tab_behavior="focus", soft_wrap=True)
            editor.cursor_blink = False
            editor.border_title = "Query"
            yield editor
            yield Panel(self.paint_tables, id="tables", classes="framed", title="Tables")
        yield Panel(self.paint_result, id="results", classes="framed", title="Results")
        yield Panel(self.paint_outcome, id="outcome", classes="line")
        yield Panel(self.paint_footer, id="footer", classes="line")

    def on_mount(self) -> None:
        editor = self.query_one(Editor)
        editor.move_cursor(editor.document.end)
        self._activate("editor")
        self.host.in_thread(lambda client: client.query(SCHEMA, limit=10_000).to_pylist(), self._show_schema)

    def header_start(self) -> Line:
        return [(" SQL", "bright"), ("  read only", "dim")]

    # ---- layout and painting --------------------------------------------------------------------

    def lay_out(self, width: int, height: int) -> None:
        self.query_one("#top").styles.height = 6 if self.small else max(8, min(14, height // 4))
        self._activate(self.active)

    def _activate(self, name: str) -> None:
        """Give a pane the keys; on a small terminal the tables take the place of the results."""
        self.active = name
        tables, results = self.query_one("#tables"), self.query_one("#results", Panel)
        tables.styles.width = 64
        tables.set_class(self.small, "hidden")
        results.title("Tables" if self.small and name == "tables" else "Results")
        for part in ("editor", "tables", "results"):
            self.query_one(f"#{part}").set_class(part == name, "-active")
        if name == "editor":
            self.query_one(Editor).focus()
        else:
            self.set_focus(None)
        self.update_panels()

    def paint_outcome(self, width: int, height: int) -> list[Line]:
        return [[(" ", ""), *self.outcome]]

    def paint_result(self, width: int, height: int) -> list[Line]:
        if self.small and self.active == "tables":
            return self.paint_tables(width, height)
        if self.result is None:
            return []
        self.top = grid.visible_top(self.top, self.cursor, self.result.rows, max(1, height - 1))
        cursor = self.cursor if self.active == "results" else None
        return grid.lines(self.result, self.top, self.column, cursor, width, height)

    def paint_tables(self, width: int, height: int) -> list[Line]:
        if not self.columns:
            return [[("loading …", "dim")]]
        self.table_top = grid.visible_top(self.table_top, self.table_cursor, len(self.columns), height)
        shown = self.columns[self.table_top : self.table_top + height]
        return [self._table_line(column, at, width) for at, column in enumerate(shown, start=self.table_top)]

    def _table_line(self, column: Column, at: int, width: int) -> Line:
        under = self.active == "tables" and at == self.table_cursor
        mark = ("▌", "cursor") if under else (" ", "")
        if not column.name:
            return fit([mark, (left(column.table, 16), "key"), (column.comment, "dim")], width)
        name, kind = left(f"  {column.name}", 18), left(column.type.lower(), 9)
        return fit(
            [mark, (name, "bright" if under else "text"), (kind, "faint"), (column.comment, "dim")], width
        )

    def _show_schema(self, rows: list[dict[str, Any]]) -> None:
        from store.schema import TABLES, VIEWS

        comments = {name: about[0] for name, about in TABLES.items()}
        comments.update({name: about[0] for name, about in VIEWS.items()})
        self.columns = []
        for row in rows:
            table = row["table_name"]
            if not self.columns or self.columns[-1].table != table:
                self.columns.append(Column(table, "", "", comments.get(table, "")))
            self.columns.append(Column(table, row["column_name"], row["data_type"], row["comment"] or ""))
        self.update_panels()

    # ---- running --------------------------------------------------------------------------------

    def do_execute(self) -> None:
        sql = self.query_one(Editor).text.strip().rstrip(";")
        if self.running:
            self.host.say("a query is running: esc stops it", "warn")
            return
        if not sql:
            self.outcome = [("there is no query to run", "warn")]
            self.update_panels()
            return
        self._keep(sql)
        self.running = query_id = str(uuid.uuid4())
        self.outcome = [("running … esc stops it", "accent")]
        self.update_panels()
        started = time.monotonic()
        self.host.in_thread(
            lambda client: client.query(sql, limit=ROW_LIMIT, query_id=query_id),
            lambda table: self._show_table(table, time.monotonic() - started),
            self._show_error,
        )

    def _show_table(self, table: Any, seconds: float) -> None:
        from finetui.client import note

        self.running = None
        self.top = self.cursor = self.column = 0
        numeric = [
            str(field.type).startswith(("int", "uint", "float", "double", "decimal"))
            for field in table.schema
        ]

        def read(start: int, stop: int) -> list[tuple[object, ...]]:
            part = table.slice(start, max(0, stop - start)).to_pydict() if table.num_columns else {}
            return list(zip(*part.values(), strict=True))

        limits = note(table)
        names = [name or " " for name in unique(table.column_names)]
        table = table.rename_columns(names)
        self.result = grid.make(names, numeric, table.num_rows, read)
        rows = f"{table.num_rows:,} row{'s' if table.num_rows != 1 else ''}"
        more = f" · {limits}" if limits else ""
        self.outcome = [(f"{rows} in {1000 * seconds:.0f} ms{more}", "good" if not more else "warn")]
        if self.is_attached:
            self.update_panels()

    def _show_error(self, sentence: str) -> None:
        self.running = None
        width = max(20, self.size.width - 2)
        self.outcome = [(cut(" ".join(sentence.split()), width), "bad")]
        self.result = None
        self._error_lines(sentence, width)
        if self.is_attached:
            self.update_panels()

    def _error_lines(self, sentence: str, width: int) -> None:
        """A sentence too long for one line is shown whole in the place of the results."""
        if width_of(sentence) <= width:
            return
        lines = wrap(sentence, width - 4)
        self.result = grid.Grid(("what went wrong",), (False,), (width - 6,), len(lines), lambda a, b: [
            (line,) for line in lines[a:b]
        ])  # fmt: skip

    def do_stop(self) -> None:
        if self.running is None:
            self.host.say("no query is running", "warn")
            return
        query_id = self.running
        self.outcome = [("stopping …", "accent")]
        self.host.in_thread(lambda client: client.cancel_query(query_id), lambda _: None)
        self.update_panels()

    # ---- history and examples -------------------------------------------------------------------

    def _keep(self, sql: str) -> None:
        self.history = [*[text for text in self.history if text != sql][-HISTORY:], sql]
        self.at, self.draft = len(self.history), ""
        self.host.remember(queries=self.history)

    def do_older(self) -> None:
        self._recall(-1)

    def do_newer(self) -> None:
        self._recall(1)

    def _recall(self, by: int) -> None:
        if self.at == len(self.history):
            self.draft = self.query_one(Editor).text
        following = self.at + by
        if not 0 <= following <= len(self.history):
            self.host.say("the history ends here" if self.history else "no queries yet", "dim")
            return
        self.at = following
        self._fill(self.draft if following == len(self.history) else self.history[following])

    def do_examples(self) -> None:
        self.example = (self.example + 1) % len(EXAMPLES)
        self._fill(EXAMPLES[self.example])

    def _fill(self, sql: str) -> None:
        editor = self.query_one(Editor)
        editor.load_text(sql)
        editor.move_cursor(editor.document.end)
        self._activate("editor")

    # ---- moving ---------------------------------------------------------------------------------

    def do_next_pane(self) -> None:
        order = ("editor", "results", "tables")
        self._activate(order[(order.index(self.active) + 1) % 3])

    def do_previous_pane(self) -> None:
        order = ("editor", "results", "tables")
        self._activate(order[(order.index(self.active) - 1) % 3])

    def do_back(self) -> None:
        if self.running:
            self.do_stop()
        elif self.active != "editor":
            self._activate("editor")
        else:
            self.host.leave_screen()

    def move(self, by: int) -> None:
        if self.active == "results" and self.result:
            self.cursor = max(0, min(self.result.rows - 1, self.cursor + by))
        elif self.active == "tables":
            self.table_cursor = max(0, min(len(self.columns) - 1, self.table_cursor + by))
        self.update_panels()

    def do_open(self) -> None:
        """Enter on a table or column puts its name into the query; on a result row nothing."""
        if self.active == "tables" and self.columns:
            chosen = self.columns[self.table_cursor]
            editor = self.query_one(Editor)
            self._activate("editor")
            if chosen.name:
                editor.insert(chosen.name)
            else:
                self._fill(f"FROM {chosen.table}")

    def do_left(self) -> None:
        self.column = max(0, self.column - 1)
        self.update_panels()

    def do_right(self) -> None:
        if self.result:
            self.column = min(len(self.result.names) - 1, self.column + 1)
            self.update_panels()

    def page(self) -> int:
        part = "#tables" if self.active == "tables" and not self.small else "#results"
        return max(1, self.query_one(part).content_size.height // 2)

    # ---- the mouse ------------------------------------------------------------------------------

    def _activate_clicked(self, panel: str) -> bool:
        """Give the results or the tables the keys; False for another panel. On a small terminal both have one panel."""
        if panel not in ("results", "tables"):
            return False
        if not (self.small and self.active == "tables"):
            self._activate(panel)
        return True

    def on_descendant_focus(self, _: events.DescendantFocus) -> None:
        """A click into the editor gives it the keys."""
        if self.active != "editor":
            self._activate("editor")

    def click(self, panel: str, row: int, column: int) -> None:
        if not self._activate_clicked(panel):
            return
        if self.active == "tables":
            self.table_cursor = max(0, min(len(self.columns) - 1, self.table_top + row))
        elif self.result and row:  # below the names of the columns
            self.cursor = max(0, min(self.result.rows - 1, self.top + row - 1))
        self.update_panels()

    def turn_wheel(self, panel: str, lines: int) -> None:
        if self._activate_clicked(panel):
            self.move(lines)
