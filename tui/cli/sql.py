"""`finetui sql`: one guarded SELECT against the store."""

from __future__ import annotations

import csv
import io
import sys
from typing import Any

from engine.basics.safe_text import csv_cell
from finetui.client import note
from finetui.daemon import connect
from finetui.errors import ExitCode
from tui.cli.output import json_text, out_raw, print_json, print_table, say
from tui.lines.text import unique

SHOWN = 1000  # rows of a table for people
MOST = 2**31  # rows: as many as there are


def sql(query: str, limit: int | None, *, as_csv: bool, as_json: bool) -> None:
    """Print the rows: all of them for programs, the first 1,000 for people, or `limit`. Says on stderr what is left
    out, and ends with an error where a program did not ask for less.
    """
    text = sys.stdin.read() if query == "-" else query
    for_programs = as_csv or as_json
    with connect() as client:
        client.drain(say)
        table = client.query(text, limit=limit or (MOST if for_programs else SHOWN))
    left_out = note(table)  # which renaming would drop
    table = table.rename_columns(unique(table.column_names))
    rows = table.to_pylist()
    if as_json:
        print_json(rows)
    elif as_csv:
        _print_csv(table.column_names, rows)
    else:
        print_table(rows)
        say(f"{len(rows)} row{'' if len(rows) == 1 else 's'}")
    if left_out:
        how = "" if for_programs or limit else "; --csv and --json give all, --limit N gives N"
        say(f"{left_out}{how}")
        if for_programs and limit is None:
            sys.exit(ExitCode.FAILED)


def _print_csv(columns: list[str], rows: list[dict[str, Any]]) -> None:
    text = io.StringIO()
    writer = csv.writer(text)
    writer.writerow(map(csv_cell, columns))
    for row in rows:
        writer.writerow(map(_csv_value, row.values()))
    out_raw(text.getvalue())


def _csv_value(value: Any) -> Any:
    """A text that a spreadsheet would take for a formula is no formula; numbers stay what they are."""
    if isinstance(value, list | dict):
        return csv_cell(json_text(value))
    return csv_cell(value) if isinstance(value, str) else value
