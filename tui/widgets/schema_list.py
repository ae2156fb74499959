"""The tables, macros and columns of the store with their comments: a list of them, and what is said of one."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from tui.lines.text import Line, fit, left, wrap
from tui.widgets.completion import Item, Names

DESCRIBED = 4  # lines of a description below the list, with the rule above it
_COLUMNS = """
SELECT table_name, column_name, data_type, comment FROM duckdb_columns()
WHERE NOT internal ORDER BY table_name, column_index"""
_FUNCTIONS = """
SELECT function_name, any_value(description) AS about FROM duckdb_functions()
WHERE function_type IN ('scalar', 'aggregate', 'macro') AND regexp_matches(function_name, '^[a-z][a-z0-9_]*$')
GROUP BY function_name ORDER BY function_name"""
_VALUES = """
SELECT 'key' AS name, key AS value FROM run_summary UNION SELECT 'key', key FROM params
UNION SELECT 'key', key FROM evals UNION SELECT 'key', key FROM system_metrics
UNION SELECT 'state', state FROM runs UNION SELECT 'method', method FROM runs UNION SELECT 'task', task FROM runs
UNION SELECT 'model', model FROM runs UNION SELECT 'name', name FROM runs UNION SELECT 'suite', suite FROM evals
UNION SELECT 'slice', slice FROM eval_examples UNION SELECT 'flag', flag FROM flags
UNION SELECT 'level', level FROM flags UNION SELECT 'kind', kind FROM events ORDER BY ALL"""
_MOST_VALUES = 20_000


@dataclass(frozen=True)
class Column:
    """A line of the list: a table, view or macro where `name` is empty, else a column of it."""

    table: str
    name: str
    type: str
    comment: str


@dataclass(frozen=True)
class Schema:
    """What the store has: the lines of the list, and all that can be completed."""

    lines: tuple[Column, ...] = ()
    names: Names = field(default_factory=Names)

    def place(self, item: Item) -> int | None:
        """Where a table, macro or column stands in the list."""
        table, name = (item.table, item.name) if item.kind == "column" else (item.name, "")
        return next((at for at, one in enumerate(self.lines) if (one.table, one.name) == (table, name)), None)


def read(client: Any) -> Schema:
    """Ask the daemon; not in the screen's thread."""
    from store.macros import MACROS
    from store.schema import TABLES, VIEWS

    comments = {name: about[0] for name, about in (TABLES | VIEWS).items()}
    lines: list[Column] = []
    items: list[Item] = []
    for row in client.query(_COLUMNS, limit=10_000).to_pylist():
        table, comment = row["table_name"], row["comment"] or ""
        if not lines or lines[-1].table != table:
            lines.append(Column(table, "", "", comments.get(table, "")))
            items.append(Item(table, "view" if table in VIEWS else "table", comments.get(table, "")))
        lines.append(Column(table, row["column_name"], row["data_type"], comment))
        items.append(Item(row["column_name"], "column", comment, table))
    for macro, (parameters, comment, _) in MACROS.items():
        lines.append(Column(macro, "", f"({parameters})", comment))
        items.append(Item(macro, "macro", comment))
    functions = client.query(_FUNCTIONS, limit=10_000).to_pylist()
    items += [Item(row["function_name"], "function", row["about"] or "") for row in functions]
    values: dict[str, list[str]] = {}
    for row in client.query(_VALUES, limit=_MOST_VALUES).to_pylist():
        if row["value"]:
            values.setdefault(row["name"], []).append(row["value"])
    return Schema(tuple(lines), Names(tuple(items), {name: tuple(texts) for name, texts in values.items()}))


def list_lines(lines: Sequence[Column], top: int, cursor: int | None, width: int, height: int) -> list[Line]:
    """The tables and columns from `top`."""
    return [_line(lines[at], at == cursor, width) for at in range(top, min(len(lines), top + height))]


def _line(column: Column, under: bool, width: int) -> Line:
    mark = ("▌", "cursor") if under else (" ", "")
    if not column.name:
        name = f"{column.table}{column.type}"
        return fit(
            [mark, (left(name, 16) if len(name) < 16 else f"{name} ", "key"), (column.comment, "dim")], width
        )
    name, kind = left(f"  {column.name}", 18), left(column.type.lower(), 9)
    return fit([mark, (name, "bright" if under else "text"), (kind, "faint"), (column.comment, "dim")], width)


def description_lines(item: Item | None, schema: Schema, width: int, height: int) -> list[Line]:
    """What is said of a name, below a rule."""
    rule: Line = [("─" * width, "rule")]
    if item is None:
        return [rule, [("what is under the cursor is described here", "dim")]]
    head: Line = [(head_of(item, schema), "key")]
    about = wrap(item.about, width) if item.about else []
    return [rule, head, *([(line, "text")] for line in about[: height - 2])]


def head_of(item: Item, schema: Schema) -> str:
    """A name with what it is: `runs.run  integer`, `curve(run, key)  macro`."""
    at = schema.place(item)
    line = schema.lines[at] if at is not None else None
    if item.kind == "column" and line:
        return f"{item.table}.{item.name}  {line.type.lower()}"
    return f"{item.name}{line.type if line else ''}  {item.kind}"


def described(item: Item, schema: Schema) -> str:
    """All that is said of a name: a table with its columns, of a column the tables that have one of that name."""
    parts = [head_of(item, schema), item.about]
    if item.kind in ("table", "view"):
        columns = [line for line in schema.lines if line.table == item.name and line.name]
        wide = max((len(line.name) for line in columns), default=0)
        parts += [
            "",
            *(f"{line.name.ljust(wide)}  {left(line.type.lower(), 9)} {line.comment}" for line in columns),
        ]
    if item.kind == "column":
        for line in schema.lines:
            if line.name == item.name and line.table != item.table:
                parts += ["", f"{line.table}.{line.name}  {line.type.lower()}", line.comment]
    return "\n".join(parts)


def item_of(column: Column) -> Item:
    """A line of the list as a name."""
    if column.name:
        return Item(column.name, "column", column.comment, column.table)
    kind = "macro" if column.type else "table"
    return Item(column.table, kind, column.comment)
