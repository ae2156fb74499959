"""SQL over everything: an editor that completes, results of any length, the tables with their comments, a chart."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterable, Sequence
from functools import partial
from typing import Any

from textual import events
from textual.app import ComposeResult
from textual.containers import Horizontal
from textual.message import Message
from textual.widgets import TextArea

from engine.basics.safe_text import one_line
from tui.host import Answer
from tui.lines.cycle import following
from tui.lines.scroll import visible_top
from tui.lines.text import Line, cut, wrap
from tui.screens.base import BaseScreen
from tui.screens.place import Place
from tui.screens.queries import EXAMPLES, QueriesScreen
from tui.screens.reader import ReaderScreen
from tui.screens.sql_results import Results
from tui.widgets import result, schema_list
from tui.widgets.completion import Item
from tui.widgets.editor import Completion, Editor
from tui.widgets.panel import Panel
from tui.widgets.prompt import Prompt

ROW_LIMIT = 100_000
HISTORY = 200
PANES = ("editor", "results", "tables")


class SqlScreen(BaseScreen, inherit_bindings=False):
    """Queries run in a thread and can be stopped; the screen stays alive meanwhile."""

    room = "sql"
    begins_with_line = True
    AUTO_FOCUS = ""  # or Textual would give the editor the keys whenever a screen above is closed

    def __init__(self, history: list[str], saved: dict[str, str]) -> None:
        """`history`: earlier queries, the last one last. `saved`: those with a name."""
        super().__init__()
        self.results = Results(self)
        self.outcome: Line = [
            (
                f"enter runs the query · {self.key_of('queries')} for saved and ready-made ones"
                f" · {self.key_of('next_pane')} to the results",
                "dim",
            )
        ]
        self.schema = schema_list.Schema()
        self.table_top = self.table_cursor = 0
        self.active = "editor"
        self.running: str | None = None  # id of the query that runs
        self.known = (
            ""  # what stood in the editor at first, was run, or was said to stay: escape leaves it at once
        )
        self.history, self.saved = history, saved
        self.at = len(self.history)
        self.draft = ""
        self.failed = ""  # the query that was run last, if it failed

    def compose(self) -> ComposeResult:
        completion = Completion()
        yield Panel(self.paint_header, id="header", classes="line")
        with Horizontal(id="top"):
            editor = Editor(self.state.query or EXAMPLES[0], completion)
            editor.border_title = "Query"
            yield editor
            yield Panel(self.paint_tables, id="tables", classes="framed", title="Tables")
        yield Panel(self.paint_result, id="results", classes="framed", title="Results")
        yield Panel(self.paint_outcome, id="outcome", classes="line")
        yield Panel(self.paint_footer, id="footer", classes="line")
        yield completion

    def place(self) -> dict[str, Any]:
        return {"screen": "sql"}

    @property
    def editor(self) -> Editor:
        return self.query_one(Editor)

    def on_mount(self) -> None:
        self.known = self.editor.text.strip()
        self.editor.move_cursor(self.editor.document.end)
        if not self.state.query:  # only a suggestion: what is typed takes its place
            self.editor.select_all()
        self.activate("editor")
        self.host.line_is_there()
        self.host.in_thread(schema_list.read, self._show_schema)

    def on_text_area_changed(self, event: TextArea.Changed) -> None:
        self.state.query = event.text_area.text  # for when the screen is opened again

    def header_start(self) -> Line:
        return [(" SQL", "bright"), ("  read only", "dim")]

    # ---- layout and painting --------------------------------------------------------------------

    def lay_out(self, width: int, height: int) -> None:
        lines = min(6, height // 3) if self.small else max(12, min(18, height // 3))
        self.query_one("#top").styles.height = lines
        self.activate(self.active)

    def is_typing(self) -> bool:
        return self.active == "editor"

    def activate(self, name: str) -> None:
        """Give a pane the keys; on a small terminal the tables take the place of the results."""
        self.active = name
        side, results = self.query_one("#tables"), self.query_one("#results", Panel)
        side.styles.width = 64
        side.set_class(self.small, "hidden")
        results.title("Tables" if self.small and name == "tables" else self.results.title())
        for part in PANES:
            self.query_one(f"#{part}").set_class(part == name, "-active")
        if name == "editor":
            self.editor.focus()
        else:
            self.set_focus(None)
        self.update_panels()

    def _outcome_lines(self, width: int) -> list[Line]:
        """An error in as many lines as it takes, up to a sixth of the screen."""
        text, style = self.outcome[0]
        if style != "bad" or self.results.result is None:
            return [[(" ", ""), (cut(text, width - 2), style)]]
        most, wrapped = self._error_lines(text, width)
        if len(wrapped) > most:
            wrapped = [*wrapped[: most - 1], f"{cut(wrapped[most - 1], width - 28)} … enter in the results"]
        return [[(f" {line}", style)] for line in wrapped]

    def _error_lines(self, text: str, width: int) -> tuple[int, list[str]]:
        """How many lines an error may have, and those that it takes."""
        return max(1, self.size.height // 6), wrap(text, max(20, width - 2))

    def is_error_cut(self) -> bool:
        """Whether the error has more lines than are shown."""
        most, wrapped = self._error_lines(self.outcome[0][0], self.size.width)
        return len(wrapped) > most

    def paint_outcome(self, width: int, height: int) -> list[Line]:
        return self._outcome_lines(width)

    def paint_result(self, width: int, height: int) -> list[Line]:
        if self.small and self.active == "tables":
            return self.paint_tables(width, height)
        return self.results.paint(width, height, active=self.active == "results")

    def paint_tables(self, width: int, height: int) -> list[Line]:
        lines = self.schema.lines
        if not lines:
            return [[("loading …", "dim")]]
        room = max(1, height - schema_list.DESCRIBED)
        self.table_top = visible_top(self.table_top, self.table_cursor, len(lines), room)
        under = self.table_cursor if self.active == "tables" else None
        shown = schema_list.list_lines(lines, self.table_top, under, width, room)
        return [
            *shown,
            *schema_list.description_lines(self.under_cursor(), self.schema, width, height - room),
        ]

    def _show_schema(self, schema: schema_list.Schema) -> None:
        self.schema = schema
        if self.is_attached:
            self.editor.learn(schema.names)
            self.update_panels()

    # ---- describing -----------------------------------------------------------------------------

    def under_cursor(self) -> Item | None:
        """The table, column, macro or function under the cursor of the pane that has the keys."""
        if self.active == "tables" and self.schema.lines:
            return schema_list.item_of(self.schema.lines[self.table_cursor])
        if self.active == "results":
            return self.schema.names.known(self.results.column_name() or "")
        return self.editor.completion.item() or self.schema.names.known(self.editor.word())

    def on_text_area_selection_changed(self) -> None:
        self.query_one("#tables", Panel).repaint()

    def on_completion_moved(self) -> None:
        self.query_one("#tables", Panel).repaint()

    def do_describe(self) -> None:
        item = self.under_cursor()
        if item is None or item.kind in ("keyword", "value"):
            self.host.say("there is no table, column or function under the cursor", "warn")
        else:
            head, text = schema_list.head_of(item, self.schema), schema_list.described(item, self.schema)
            self.host.open_screen(ReaderScreen(head, text))

    # ---- running --------------------------------------------------------------------------------

    def on_editor_submitted(self) -> None:
        self.do_execute()

    def on_editor_left(self) -> None:
        self.do_back()

    def editor_sql(self) -> str:
        """The query as it is run."""
        return self.editor.text.strip().rstrip(";")

    def do_execute(self) -> None:
        sql = self.editor_sql()
        if self.running:
            self.host.say("a query is running: esc stops it", "warn")
            return
        if not sql:
            self.outcome = [("there is no query to run", "warn")]
            self.update_panels()
            return
        self._keep(sql)
        self.failed = ""
        self.known = self.editor.text.strip()
        self.running = query_id = str(uuid.uuid4())
        self.outcome = [("running … esc stops it", "accent")]
        self.update_panels()
        started = time.monotonic()
        self.host.in_thread(
            lambda client: result.of(sql, client.query(sql, limit=ROW_LIMIT, query_id=query_id)),
            lambda made: self._show_result(made, time.monotonic() - started),
            lambda sentence: self._show_error(sql, sentence),
        )

    def _show_result(self, made: result.Result, seconds: float) -> None:
        self.running = None
        self.results.show(made)
        more = f" · {made.lacks}" if made.lacks else ""
        self.outcome = [(f"{made.count()} in {1000 * seconds:.0f} ms{more}", "good" if not more else "warn")]
        self._show_outcome()

    def _show_error(self, sql: str, sentence: str) -> None:
        self.running = None
        self.failed = sql
        self.outcome = [(" ".join(sentence.split()), "bad")]
        self.results.fail(sentence, max(20, self.size.width - 2))
        self._show_outcome()

    def _show_outcome(self) -> None:
        if self.is_attached:
            self.query_one("#outcome").styles.height = len(self._outcome_lines(self.size.width))
            self.activate(self.active)

    def do_stop(self) -> None:
        if self.running is None:
            self.host.say("no query is running", "warn")
            return
        query_id = self.running
        self.outcome = [("stopping …", "accent")]
        self.host.in_thread(lambda client: client.cancel_query(query_id), lambda _: None)
        self.update_panels()

    # ---- history and saved queries --------------------------------------------------------------

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
            self.draft = self.editor.text
        following = self.at + by
        if not 0 <= following <= len(self.history):
            self.host.say("the history ends here" if self.history else "no queries yet", "dim")
            return
        self.at = following
        self._fill(self.draft if following == len(self.history) else self.history[following])

    def do_queries(self) -> None:
        self.host.open_screen(QueriesScreen(self.saved, self.history, self._fill))

    def do_save_query(self) -> None:
        sql = self.editor.text.strip()
        if not sql:
            self.host.say("there is no query to save", "warn")
        elif self.editor_sql() == self.failed:
            self.host.confirm("This query has failed. Save it all the same?", lambda: self._ask_name(sql))
        else:
            self._ask_name(sql)

    def _ask_name(self, sql: str) -> None:
        hint = f"losses of last week; {self.key_of('queries')} has it from then on"
        self.ask("name of the query", "", hint, lambda name: self._save(name, sql))

    def _save(self, name: str, sql: str) -> None:
        def save() -> None:
            self.saved[name] = sql
            self.host.remember(saved=dict(self.saved))
            self.host.say(f"saved as {one_line(name)}: {self.key_of('queries')} has it", "good")

        if not name:
            self.host.say("nothing done")
        elif self.saved.get(name, sql) != sql:
            self.host.confirm(f"Replace the query {one_line(name)}?", save)
        else:
            save()

    def _fill(self, sql: str) -> None:
        self.editor.load_text(sql)
        self.editor.move_cursor(self.editor.document.end)
        self.activate("editor")

    def on_prompt_changed(self, message: Message) -> None:
        """The pane that asked has the keys again, before the prompt goes and Textual gives them to the editor."""
        assert isinstance(message, Prompt.Changed)
        if message.done:
            self.activate(self.active)

    # ---- results --------------------------------------------------------------------------------

    def copies(self) -> Sequence[Answer]:
        query = Answer("q", "query", lambda: self.host.copy(self.editor.text, "the query"))
        return (*self.results.copies(), query)

    def do_sort(self) -> None:
        self.results.sort()

    def do_reverse(self) -> None:
        self.results.reverse()

    def do_write(self) -> None:
        self.results.save()

    def do_chart(self) -> None:
        self.results.draw()

    def do_chart_x(self) -> None:
        self.results.draw_over()

    # ---- moving ---------------------------------------------------------------------------------

    def do_next_pane(self) -> None:
        self.activate(following(PANES, self.active))

    def do_previous_pane(self) -> None:
        self.activate(following(PANES, self.active, -1))

    def places(self) -> Iterable[Place]:
        for name in PANES:
            yield Place(name, partial(self.activate, name), self.place_in(f"#{name}"))

    def do_back(self) -> None:
        if self.running:
            self.do_stop()
        elif self.active != "editor":
            self.activate("editor")
        elif self.editor.text.strip() in ("", self.known):
            self.host.leave_screen()
        else:
            self.known = self.editor.text.strip()
            self.host.say("esc again leaves; what is typed stays for the next time")

    def move(self, by: int) -> None:
        if self.active == "results":
            self.results.move(by)
        elif self.active == "tables":
            self.table_cursor = max(0, min(len(self.schema.lines) - 1, self.table_cursor + by))
        self.update_panels()

    def do_open(self) -> None:
        """Enter on a table or column puts its name into the query; on a cell it shows all of it."""
        if self.active == "tables" and self.schema.lines:
            self._use(self.schema.lines[self.table_cursor])
        elif self.active == "results":
            self.results.read()

    def _use(self, chosen: schema_list.Column) -> None:
        self.activate("editor")
        if chosen.name:
            self.editor.insert(chosen.name)
        else:
            self._fill(f"FROM {chosen.table}{'(' if chosen.type else ''}")

    def do_left(self) -> None:
        self.results.sideways(-1)

    def do_right(self) -> None:
        self.results.sideways(1)

    def page(self) -> int:
        part = "#tables" if self.active == "tables" and not self.small else "#results"
        return max(1, self.query_one(part).content_size.height // 2)

    # ---- the mouse ------------------------------------------------------------------------------

    def _activate_clicked(self, panel: str) -> bool:
        """Give the results or the tables the keys; False for another panel. On a small terminal both have one panel."""
        if panel not in ("results", "tables"):
            return False
        if not (self.small and self.active == "tables"):
            self.activate(panel)
        return True

    def on_descendant_focus(self, event: events.DescendantFocus) -> None:
        """A click into the editor gives it the keys."""
        if self.active != "editor" and event.widget is self.editor:
            self.activate("editor")

    def click(self, panel: str, row: int, column: int) -> None:
        if not self._activate_clicked(panel):
            return
        if self.active == "tables":
            self.table_cursor = max(0, min(len(self.schema.lines) - 1, self.table_top + row))
        else:
            self.results.click(row, column)
        self.update_panels()

    def turn_wheel(self, panel: str, lines: int) -> None:
        if self._activate_clicked(panel):
            self.move(lines)
