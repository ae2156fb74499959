"""`finetui sql`: one guarded SELECT against the store."""

from __future__ import annotations

import csv
import sys
from typing import Any

from finetui.client import note
from finetui.daemon import connect
from tui.cli.output import cell, print_json, print_table, say
from tui.lines.text import unique


def sql(query: str, limit: int, *, as_csv: bool, as_json: bool) -> None:
    """Print the rows; says on stderr when there were more than `limit`."""
    text = sys.stdin.read() if query == "-" else query
    with connect() as client:
        client.action("drain")
        table = client.query(text, limit=limit)
    table = table.rename_columns(unique(table.column_names))
    rows = table.to_pylist()
    if as_json:
        print_json(rows)
    elif as_csv:
        _print_csv(table.column_names, rows)
    else:
        print_table(rows)
        say(f"{len(rows)} row{'' if len(rows) == 1 else 's'}")
    if left_out := note(table):
        say(left_out)


def _print_csv(columns: list[str], rows: list[dict[str, Any]]) -> None:
    writer = csv.writer(sys.stdout)
    writer.writerow(columns)
    for row in rows:
        writer.writerow([cell(value) if isinstance(value, list | dict) else value for value in row.values()])
