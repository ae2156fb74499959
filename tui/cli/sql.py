"""`finetui sql`: one guarded SELECT against the store, printed or written to a file."""

from __future__ import annotations

import csv
import io
import sys
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.basics import safe_text
from engine.basics.safe_text import csv_cell
from finetui.client import note
from finetui.daemon import connect
from finetui.errors import ExitCode, StoreError
from finetui.files import whole_file
from tui.cli.output import cell, json_text, out_raw, print_json, print_table, say
from tui.lines.text import unique

if TYPE_CHECKING:
    import pyarrow as pa

SHOWN = 1000  # rows of a table for people
MOST = 2**31  # rows: as many as there are
ENDINGS = (".csv", ".parquet", ".json", ".md")


def sql(query: str, limit: int | None, *, as_csv: bool, as_json: bool, to: Path | None) -> None:
    """Print the rows, or write them to a file: all of them for programs and files, the first 1,000 for people, or
    `limit`. Says on stderr what is left out, and ends with an error where nobody asked for less.
    """
    text = sys.stdin.read() if query == "-" else query
    all_rows = as_csv or as_json or to is not None
    with connect() as client:
        client.drain(say)
        table = client.query(text, limit=limit or (MOST if all_rows else SHOWN))
    left_out = note(table)  # which renaming would drop
    table = table.rename_columns(unique(table.column_names))
    too_few = left_out is not None and (limit is None or table.num_rows < limit)
    if left_out:
        how = "" if all_rows or limit else "; --csv, --json and -o FILE give all, --limit N gives N"
        say(f"{left_out}{how}")
    if to is None:
        _print(table, as_csv=as_csv, as_json=as_json)
    elif too_few:
        say(f"{to} is not written, for it would lack rows")
    else:
        _write(table, to)
        say(f"{rows_in_words(table.num_rows)} in {to}")
    if too_few:
        sys.exit(ExitCode.FAILED)


def rows_in_words(count: int) -> str:
    return "1 row" if count == 1 else f"{count:,} rows"


def _print(table: pa.Table, *, as_csv: bool, as_json: bool) -> None:
    rows = table.to_pylist()
    if as_json:
        print_json(rows)
    elif as_csv:
        out_raw(_csv(table.column_names, rows))
    else:
        print_table(rows)
        say(rows_in_words(len(rows)))


def _write(table: pa.Table, to: Path) -> None:
    """Write the file whole, or leave what is there. Raises StoreError."""
    try:
        with whole_file(to) as temporary:
            if to.suffix.lower() == ".parquet":
                from pyarrow import parquet

                parquet.write_table(table, temporary)
            else:
                temporary.write_text(_text(table, to.suffix.lower()), newline="")
    except OSError as error:
        raise StoreError(f"{to} cannot be written: {error.strerror or error}", "refused") from None


def _text(table: pa.Table, ending: str) -> str:
    rows = table.to_pylist()
    if ending == ".csv":
        return _csv(table.column_names, rows)
    if ending == ".json":
        return json_text(rows, indent=2) + "\n"
    return _markdown(table.column_names, rows)


def _csv(columns: Sequence[str], rows: Sequence[dict[str, Any]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(map(csv_cell, columns))
    for row in rows:
        writer.writerow(map(_csv_value, row.values()))
    return text.getvalue()


def _csv_value(value: Any) -> Any:
    """A text that a spreadsheet would take for a formula is no formula; numbers stay what they are."""
    if isinstance(value, list | dict):
        return csv_cell(json_text(value))
    return csv_cell(value) if isinstance(value, str) else value


def _markdown(columns: Sequence[str], rows: Sequence[dict[str, Any]]) -> str:
    """The table as it is printed, with four significant digits."""
    numeric = [all(isinstance(row[name], int | float | Decimal | None) for row in rows) for name in columns]
    lines = [
        [safe_text.markdown(name) for name in columns],
        ["---:" if right else "---" for right in numeric],
    ]
    lines += [[safe_text.markdown(cell(value)) for value in row.values()] for row in rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
