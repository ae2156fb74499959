"""A run, and a time, as every command's `--json` has it: the same keys for the same thing."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from datetime import datetime
from typing import TYPE_CHECKING, Any

from tui.lines.moments import TIMES  # each has a key with `_at` beside it

if TYPE_CHECKING:
    from finetui.client import Client

Row = dict[str, Any]
UUIDS = "SELECT run, uuid FROM runs"


def runs_as_json(client: Client, numbers: Collection[int] | None = None) -> list[Row]:
    """Every run, or those of some numbers, in the one shape of a run."""
    rows = client.named("runs").to_pylist()
    chosen = rows if numbers is None else [row for row in rows if row["run"] in numbers]
    # Not among the columns of the run table: the screen asks for that one all the time, and shows no UUID.
    uuids = {row["run"]: row["uuid"] for row in client.query(UUIDS).to_pylist()} if chosen else {}
    return [of_run({"run": row["run"], "uuid": uuids.get(row["run"]), **row}) for row in chosen]


def of_run(row: Mapping[str, Any]) -> Row:
    """A row with its times once more as people and programs read them: ISO 8601, in this machine's time zone."""
    return {**row, **{f"{name}_at": iso(row[name]) for name in row if name in TIMES}}


def of_rows(rows: Iterable[Mapping[str, Any]]) -> list[Row]:
    """The same for each of some rows."""
    return list(map(of_run, rows))


def iso(seconds: float | None) -> str | None:
    """Unix seconds as ISO 8601 with the offset of this machine."""
    return (
        None
        if seconds is None
        else datetime.fromtimestamp(seconds).astimezone().isoformat(timespec="seconds")
    )
