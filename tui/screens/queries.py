"""Queries to choose from: those saved under a name, ready-made ones, and the history."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from textual.app import ComposeResult

from engine.basics.safe_text import one_line
from tui.bindings import key_of
from tui.host import Answer
from tui.lines.scroll import visible_top
from tui.lines.text import Line, fit, folded, left
from tui.screens.base import BaseScreen
from tui.widgets.panel import Panel

EXAMPLES = (
    "FROM leaderboard",
    "SELECT run, name, state, method, step, total_steps FROM runs ORDER BY run DESC",
    "SELECT step, value FROM curve(1, 'train/loss')",
    "SELECT run, step, value FROM metrics WHERE key = 'train/loss' ORDER BY run, step",
    "SELECT run, step, suite, key, value, lo, hi, n FROM evals ORDER BY run, step",
    "SELECT train_set, method, arg_min(run, heldout_best) AS run, min(heldout_best) AS best FROM results "
    "GROUP BY train_set, heldout_set, heldout_tokens, task, method ORDER BY train_set, best",
    "SELECT run, name, gain, forgotten, hours, gain / hours AS per_hour, gain / cost AS per_money, "
    "forgotten / gain AS price FROM results ORDER BY per_hour DESC",
    "FROM compare(1, 2)",
    "SELECT example, prompt, before, after, increase FROM forgotten(1) LIMIT 20",
    "SELECT run, flag, level, since_step, effect, lo, hi, message FROM flags ORDER BY t DESC",
    "SELECT key, list(run || ': ' || value ORDER BY run) AS runs FROM params GROUP BY key "
    "HAVING count(DISTINCT value) > 1 ORDER BY key",
    "SELECT to_timestamp(t) AS at, key, value FROM system_metrics ORDER BY t DESC LIMIT 200",
    "SHOW TABLES",
    "DESCRIBE metrics",
)
_KIND = 10  # columns


@dataclass(frozen=True)
class Entry:
    """A query of the list; only a saved one has a name."""

    kind: str
    name: str
    sql: str


class QueriesScreen(BaseScreen, inherit_bindings=False):
    """`saved` is that of the SQL screen, which keeps it; `use` takes the query that is chosen."""

    room = "queries"

    def __init__(self, saved: dict[str, str], history: Sequence[str], use: Callable[[str], None]) -> None:
        super().__init__()
        self.saved, self.history, self.use = saved, history, use
        self.top = self.cursor = 0

    def compose(self) -> ComposeResult:
        yield Panel(self.paint_header, id="header", classes="line")
        yield Panel(self.paint_list, id="list", classes="framed -active", title="Queries")
        yield Panel(self.paint_query, id="query", classes="framed", title="Whole")
        yield Panel(self.paint_footer, id="footer", classes="line")

    def lay_out(self, width: int, height: int) -> None:
        self.query_one("#query").styles.height = height // 3

    def header_start(self) -> Line:
        return [(" Saved queries", "bright"), (f"  {len(self.saved)} saved", "dim")]

    def entries(self) -> list[Entry]:
        saved = [Entry("saved", name, sql) for name, sql in sorted(self.saved.items())]
        examples = [Entry("example", "", sql) for sql in EXAMPLES]
        return [*saved, *examples, *(Entry("history", "", sql) for sql in reversed(self.history))]

    def chosen(self) -> Entry:
        entries = self.entries()
        self.cursor = max(0, min(len(entries) - 1, self.cursor))
        return entries[self.cursor]

    def paint_list(self, width: int, height: int) -> list[Line]:
        entries = self.entries()
        self.top = visible_top(self.top, self.cursor, len(entries), height)
        in_view = range(self.top, min(len(entries), self.top + height))
        return [self._line(entries[at], at == self.cursor, width) for at in in_view]

    def _line(self, entry: Entry, under: bool, width: int) -> Line:
        mark = ("▌", "cursor") if under else (" ", "")
        name = f"{one_line(entry.name)}  " if entry.name else ""
        return fit(
            [mark, (left(entry.kind, _KIND), "faint"), (name, "key"), (one_line(entry.sql), "text")], width
        )

    def paint_query(self, width: int, height: int) -> list[Line]:
        lines = [piece for line in self.chosen().sql.split("\n") for piece in folded(one_line(line), width)]
        if len(lines) > height:
            lines[height - 1 :] = [
                f"… {self.key_of('choose')} puts it into the editor, {self.key_of('copy')} q copies it"
            ]
        return [[(line, "text")] for line in lines]

    def copies(self) -> Sequence[Answer]:
        return (Answer("q", "query", lambda: self.host.copy(self.chosen().sql, "the query")),)

    def move(self, by: int) -> None:
        self.cursor = max(0, min(len(self.entries()) - 1, self.cursor + by))
        self.update_panels()

    def click(self, panel: str, row: int, column: int) -> None:
        if panel == "list":
            self.cursor = max(0, min(len(self.entries()) - 1, self.top + row))
            self.update_panels()

    def do_choose(self) -> None:
        sql = self.chosen().sql
        self.host.leave_screen()
        self.use(sql)

    def do_forget(self) -> None:
        entry = self.chosen()
        if entry.kind != "saved":
            save = key_of("save_query", "sql")
            self.host.say(f"only saved queries can be deleted: {save} in the editor saves one", "warn")
            return

        def forget() -> None:
            self.saved.pop(entry.name, None)
            self.host.remember(saved=dict(self.saved))
            self.host.say(f"deleted {one_line(entry.name)}", "good")
            self.update_panels()

        self.host.confirm(f"Delete the query {one_line(entry.name)}?", forget)
