"""`finetui sql`: one guarded SELECT against the store, printed or written to a file."""

from __future__ import annotations

import sys
from pathlib import Path
from typing import TYPE_CHECKING

from finetui.client import note
from finetui.daemon import connect
from finetui.errors import ExitCode
from tui import table_files
from tui.cli.output import out_raw, print_json, print_table, say, waiting
from tui.lines import arrow_values
from tui.lines.moments import as_moment
from tui.lines.tables import csv_text
from tui.lines.text import unique

if TYPE_CHECKING:
    import pyarrow as pa

SHOWN = 1000  # rows of a table for people
MOST = 2**31  # rows: as many as there are


def sql(query: str, limit: int | None, *, as_csv: bool, as_json: bool, to: Path | None) -> None:
    """Print the rows, or write them to a file: all of them for programs and files, the first 1,000 for people, or
    `limit`. Says on stderr what is left out, and ends with an error where nobody asked for less.
    """
    text = sys.stdin.read() if query == "-" else query
    path = None if to is None else table_files.path_of(str(to))
    all_rows = as_csv or as_json or path is not None
    with connect() as client:
        client.drain(waiting())
        table = client.query(text, limit=limit or (MOST if all_rows else SHOWN))
    left_out = note(table)  # which renaming would drop
    table = table.rename_columns(unique(table.column_names))
    too_few = left_out is not None and (limit is None or table.num_rows < limit)
    if left_out:
        how = "" if all_rows or limit else "; --csv, --json and -o FILE give all, --limit N gives N"
        say(f"{left_out}{how}")
    if path is None:
        _print(table, as_csv=as_csv, as_json=as_json)
    elif too_few:
        say(f"{path} is not written, for it would lack rows")
    else:
        table_files.write(table, path)
        say(f"{rows_in_words(table.num_rows)} in {path}")
    if too_few:
        sys.exit(ExitCode.FAILED)


def rows_in_words(count: int) -> str:
    return "1 row" if count == 1 else f"{count:,} rows"


def _print(table: pa.Table, *, as_csv: bool, as_json: bool) -> None:
    rows = arrow_values.rows(table)
    if as_json:
        print_json(rows)
    elif as_csv:
        out_raw(csv_text(table.column_names, (row.values() for row in rows)))
    else:
        print_table([{name: as_moment(name, value) for name, value in row.items()} for row in rows])
        say(rows_in_words(len(rows)))
