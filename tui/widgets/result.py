"""The result of a query: its rows as they came from the daemon, in the order in which they are shown."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from finetui.errors import StoreError
from tui.lines.arrow_values import values
from tui.lines.moments import TIMES, as_moment
from tui.lines.tables import is_numeric, markdown_head, markdown_lines, plain, tsv_text
from tui.lines.text import unique, wrap
from tui.widgets import grid


@dataclass(frozen=True)
class Result:
    """`table` is an Arrow table whose columns have names of their own; `lacks` says in words what is not in it."""

    sql: str
    table: Any
    lacks: str | None = None
    sort: tuple[str, bool] | None = None  # column, and whether downwards

    @property
    def names(self) -> list[str]:
        return list(self.table.column_names)

    @property
    def numeric(self) -> list[bool]:
        return [is_numeric(field.type) for field in self.table.schema]

    def count(self) -> str:
        """1,234 rows."""
        return f"{self.table.num_rows:,} row{'s' if self.table.num_rows != 1 else ''}"

    def rows(self, start: int, stop: int) -> list[tuple[Any, ...]]:
        if not self.table.num_columns:
            return []
        part = self.table.slice(start, max(0, stop - start))
        return list(zip(*map(values, part.columns), strict=True))

    def cell(self, row: int, column: int) -> Any:
        return values(self.table.column(column).slice(row, 1))[0]

    def sorted_by(self, name: str, down: bool) -> Result:
        """The rows by a column, those without a value last. Raises StoreError for values without an order."""
        return replace(self, table=in_order(self.table, name, down), sort=(name, down))

    def grid(self) -> grid.Grid:
        marks = {self.sort[0]: " ▾" if self.sort[1] else " ▴"} if self.sort else {}
        names = [f"{name}{marks.get(name, '')}" for name in self.names]
        return grid.make(names, self.numeric, self.table.num_rows, self._shown)

    def _shown(self, start: int, stop: int) -> list[tuple[Any, ...]]:
        """Rows as people read them: the store's times are local ones."""
        rows = self.rows(start, stop)
        return (
            [tuple(map(as_moment, self.names, row)) for row in rows]
            if TIMES.intersection(self.names)
            else rows
        )

    def tsv(self) -> str:
        return tsv_text(self.names, self.rows(0, self.table.num_rows))

    def markdown(self) -> str:
        return markdown_head(self.names, self.numeric) + markdown_lines(self.rows(0, self.table.num_rows))

    def column_text(self, column: int) -> str:
        return "\n".join(map(plain, values(self.table.column(column))))

    def row_text(self, row: int) -> str:
        return tsv_text(self.names, self.rows(row, row + 1))


def of(sql: str, table: Any) -> Result:
    """What a query gave, with a name for every column."""
    from finetui.client import note

    lacks = note(table)  # which renaming would drop
    return Result(sql, table.rename_columns([name or " " for name in unique(table.column_names)]), lacks)


def in_order(table: Any, name: str, down: bool) -> Any:
    """An Arrow table by one of its columns."""
    import pyarrow as pa

    try:
        return table.sort_by([(name, "descending" if down else "ascending")])
    except pa.ArrowException:  # of lists, structs and the like
        raise StoreError(f"{name} cannot be sorted by: order by a part of it in the query", "sql") from None


def message(sentence: str, width: int) -> grid.Grid:
    """A sentence too long for one line, as a table of its lines."""
    lines = wrap(sentence, width - 4)
    return grid.Grid(
        ("what went wrong",),
        (False,),
        (width - 6,),
        len(lines),
        lambda a, b: [(line,) for line in lines[a:b]],
    )
