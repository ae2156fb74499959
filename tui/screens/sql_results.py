"""The results pane of the SQL screen: a cursor on a cell, the order of rows, copying, saving, a chart."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.basics.wording import moment
from finetui.errors import StoreError
from tui import table_files
from tui.host import Answer
from tui.lines.cycle import following
from tui.lines.scroll import visible_top
from tui.lines.tables import plain
from tui.lines.text import Line, width_of
from tui.screens import chart_files
from tui.screens.chart_files import Picture
from tui.screens.reader import ReaderScreen
from tui.widgets import grid, result, result_chart
from tui.widgets.plot import Plot, render
from tui.widgets.result import Result

if TYPE_CHECKING:
    from tui.screens.sql import SqlScreen

ALL_ROWS = 2**31
MOST_COPIED = 10_000  # rows
NO_RESULT = "there is no result: run a query first"


@dataclass
class Results:
    """What the pane shows of the last query."""

    screen: SqlScreen
    result: Result | None = None
    shown: grid.Grid | None = None  # the result, or an error that is too long for a line
    error: str = ""  # of the last query, where it failed; what is shown is then of the one before
    cursor: int = 0  # row
    column: int = 0
    top: int = 0  # first row in view
    first: int = 0  # first column in view
    curves: result_chart.Curves | None = None  # while the chart is shown
    drawn: str | None = None  # the one column of it; all where None
    _starts: list[int] = field(default_factory=list)  # where the columns in view begin, for the mouse

    def show(self, made: Result) -> None:
        self._clear()
        self.result, self.shown = made, made.grid()

    def fail(self, sentence: str, width: int) -> None:
        """The rows of the query before stay. Where there are none, a sentence too long for one line stands there."""
        self.error = sentence
        if self.result is None:
            self.shown = result.message(sentence, width) if width_of(sentence) > width else None

    def _clear(self) -> None:
        self.result = self.shown = self.curves = self.drawn = None
        self.error = ""
        self.cursor = self.column = self.top = self.first = 0

    # ---- painting -------------------------------------------------------------------------------

    def title(self) -> str:
        former = " of the query before" if self.error and self.result else ""
        if not self.curves:
            return f"Results{former}"
        return f"Chart of {self.drawn or 'all columns'} over {self.curves.x}{former}"

    def paint(self, width: int, height: int, *, active: bool) -> list[Line]:
        if self.curves:
            return render(self._plot(self.curves), width, height)
        if self.shown is None:
            return []
        self.top = visible_top(self.top, self.cursor, self.shown.rows, max(1, height - 1))
        widths = grid.widths_in_view(self.shown, self.top, height)
        left = len(str(self.shown.rows)) + 2
        self.first = grid.visible_first(self.first, self.column, widths, width - left)
        self._starts = [
            left + sum(widths[self.first : at]) + 2 * (at - self.first)
            for at in range(self.first, len(widths))
        ]
        cursor = (self.cursor, self.column) if active else None
        return grid.lines(self.shown, self.top, self.first, cursor, width, height)

    def _plot(self, curves: result_chart.Curves) -> Plot:
        return curves.plot(self.drawn, self.screen.state.view, color=not self.screen.app.no_color)

    # ---- moving and reading ---------------------------------------------------------------------

    def column_name(self) -> str | None:
        return self.result.names[self.column] if self.result and self.result.names else None

    def move(self, by: int) -> None:
        if self.shown:
            self.cursor = max(0, min(self.shown.rows - 1, self.cursor + by))

    def sideways(self, by: int) -> None:
        """The column beside; in a chart, all columns and then one after the other."""
        if self.curves:
            self.drawn = following([None, *self.curves.names], self.drawn, by)
        elif self.shown:
            self.column = max(0, min(len(self.shown.names) - 1, self.column + by))
        self.screen.activate(self.screen.active)

    def click(self, row: int, column: int) -> None:
        """On a cell; above the first one are the names of the columns."""
        if not self.shown or self.curves:
            return
        before = [at for at, start in enumerate(self._starts) if start <= column]
        if before:
            self.column = self.first + before[-1]
        if row:
            self.cursor = max(0, min(self.shown.rows - 1, self.top + row - 1))

    def read(self) -> None:
        """All of a cell, or of an error; where there are both and the error is cut, the one that is chosen."""
        if self.error and self.result and self.screen.is_error_cut():
            cell, error = Answer("c", "cell", self._read_cell), Answer("e", "error", self._read_error)
            self.screen.host.choose("read:", (cell, error))
        elif self.error and not self.result:
            self._read_error()
        elif self._made():
            self._read_cell()

    def _read_error(self) -> None:
        self._open("what went wrong", self.error)

    def _read_cell(self) -> None:
        if (made := self._made()) and made.table.num_rows:
            name, value = made.names[self.column], made.cell(self.cursor, self.column)
            text = "NULL" if value is None else plain(value)
            known = self.screen.schema.names.known(name)
            if known and "Unix seconds" in known.about and isinstance(value, float) and math.isfinite(value):
                text += f"\n{moment(value)}"
            self._open(f"{name}, row {self.cursor + 1:,}", text)

    def _open(self, title: str, text: str) -> None:
        self.screen.host.open_screen(ReaderScreen(title, text))

    def _made(self) -> Result | None:
        """The result, or None and a word on why nothing can be done with it."""
        if self.result is None or not self.result.names:
            self.screen.host.say(NO_RESULT, "warn")
            return None
        return self.result

    # ---- order ----------------------------------------------------------------------------------

    def sort(self) -> None:
        """By the column under the cursor; again, downwards."""
        if made := self._made():
            name = made.names[self.column]
            self._sort(made, name, down=made.sort == (name, False))

    def reverse(self) -> None:
        if made := self._made():
            name, down = made.sort or (made.names[self.column], False)
            self._sort(made, name, down=not down)

    def _sort(self, made: Result, name: str, *, down: bool) -> None:
        try:
            self.result = made.sorted_by(name, down)
        except StoreError as error:
            self.screen.host.say(str(error), "warn")
            return
        self.shown, self.cursor, self.top = self.result.grid(), 0, 0
        self.screen.update_panels()

    # ---- copying --------------------------------------------------------------------------------

    def copies(self) -> Sequence[Answer]:
        copy, made = self.screen.host.copy, self.result
        failed = (Answer("e", "error", lambda: copy(self.error, "the error")),) if self.error else ()
        if made is None or not made.table.num_rows:
            return failed
        name, column, row = made.names[self.column], self.column, self.cursor
        return (
            *failed,
            Answer("c", "cell", lambda: copy(plain(made.cell(row, column)), f"a cell of {name}")),
            Answer("r", "row", lambda: copy(made.row_text(row), f"row {row + 1:,}")),
            Answer(
                "o",
                "column",
                lambda: self._copy_many(made, lambda: made.column_text(column), f"the column {name}"),
            ),
            Answer("t", "TSV", lambda: self._copy_many(made, made.tsv, f"{made.count()} as TSV")),
            Answer(
                "m", "Markdown", lambda: self._copy_many(made, made.markdown, f"{made.count()} as Markdown")
            ),
        )

    def _copy_many(self, made: Result, text: Any, what: str) -> None:
        if made.table.num_rows > MOST_COPIED:
            write = self.screen.key_of("write")
            self.screen.host.say(f"{made.count()} are too many to copy: {write} saves them to a file", "warn")
        else:
            self.screen.host.copy(text(), what)

    # ---- saving ---------------------------------------------------------------------------------

    def save(self) -> None:
        if (made := self._made()) and self.curves:
            picture = self._picture(self.curves)
            hint = "chart.svg, .png or .txt; for all rows .csv, .parquet, .json or .md"
            self.screen.ask_path(
                "save the chart to",
                "",
                hint,
                _path_of_both,
                lambda path: self._write_both(picture, made, path),
            )
        elif made:
            hint = "result.csv, .parquet, .json or .md"
            self.screen.ask_path(
                "save all rows to", "", hint, table_files.path_of, lambda path: self._write(made, path)
            )

    def _picture(self, curves: result_chart.Curves) -> Picture:
        return Picture("chart", self.title(), replace(self._plot(curves), x_name=curves.x))

    def _write_both(self, picture: Picture, made: Result, path: Path) -> None:
        if path.suffix.lower() in table_files.ENDINGS:
            self._write(made, path)
        else:
            chart_files.write(self.screen, picture, path)

    def _write(self, made: Result, path: Path) -> None:
        """All rows: where some are beyond the limit of the screen, the query is asked again."""
        from engine.basics.wording import size

        def write(client: Any) -> tuple[str, str]:
            whole = made
            if made.lacks:
                whole = result.of(made.sql, client.query(made.sql, limit=ALL_ROWS))
                if made.sort:
                    whole = whole.sorted_by(*made.sort)
            said = f"{whole.count()} written to {path} ({size(table_files.write(whole.table, path))})"
            return (f"{said}; {whole.lacks}", "warn") if whole.lacks else (said, "good")

        host = self.screen.host
        host.say(f"writing {path} …", keep=True)
        host.in_thread(write, lambda said: host.say(*said))

    # ---- the chart ------------------------------------------------------------------------------

    def draw(self) -> None:
        """The chart in place of the rows, or the rows again."""
        if self.curves:
            self.curves = None
        elif made := self._made():
            self._draw(made, None)
        self.screen.activate("results")

    def draw_over(self) -> None:
        """The column under the cursor is x."""
        if made := self._made():
            name = made.names[self.column]
            if result_chart.can_be_x(made.table, name):
                self._draw(made, name)
            else:
                self.screen.host.say(f"{name} has no numbers or times to draw over", "warn")
            self.screen.activate("results")

    def _draw(self, made: Result, x: str | None) -> None:
        self.drawn = None
        self.curves = result_chart.of(made.table, x)
        if self.curves is None:
            self.screen.host.say("no column of the result has numbers to draw", "warn")
        elif hidden := self.curves.hidden(None):
            key = self.screen.key_of("right")
            self.screen.host.say(
                f"{hidden} more lines have no colour left: {key} draws one column at a time", "warn"
            )


def _path_of_both(text: str) -> Path:
    """A file for a chart or for rows. Raises StoreError."""
    if Path(text).suffix.lower() in table_files.ENDINGS:
        return table_files.path_of(text)
    return chart_files.path_of(text)
