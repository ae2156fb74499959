"""`finetui sql`: one guarded SELECT against the store."""

from __future__ import annotations

import csv
import sys

from engine.service import connect
from tui.cli.output import cell, print_json, print_table, say


def sql(query: str, limit: int, *, as_csv: bool, as_json: bool) -> None:
    """Print the rows; says on stderr when there were more than `limit`."""
    text = sys.stdin.read() if query == "-" else query
    with connect() as client:
        table = client.query(text, limit=limit + 1)
    rows = table.slice(0, limit).to_pylist()
    if as_json:
        print_json(rows)
    elif as_csv:
        writer = csv.writer(sys.stdout)
        writer.writerow(table.column_names)
        writer.writerows(
            [cell(value) if isinstance(value, list | dict) else value for value in row.values()]
            for row in rows
        )
    else:
        print_table(rows)
        say(f"{len(rows)} row{'s' if len(rows) != 1 else ''}")
    if table.num_rows > limit:
        say(f"more rows than {limit}; give --limit to see more")
