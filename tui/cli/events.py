"""What happened to runs, for `wait` of an assistant: from the journals and the flags, as the store has them."""

from __future__ import annotations

import time
from collections.abc import Collection
from typing import TYPE_CHECKING, Any

from store.states import ACTIVE, WAITING
from tui.cli.shape import of_rows, runs_as_json
from tui.cli.show import find

if TYPE_CHECKING:
    from finetui.client import Client

# A request to stop an active run is not its end yet, and keeps its state.
JOURNAL_SQL = """
SELECT run, t, kind, TRY_CAST(body AS JSON) ->> 'state' AS state, message FROM events
WHERE kind IN ('submitted', 'running', 'interrupted', 'requeued', 'ended', 'cancel', 'pause') AND t > {since}
ORDER BY t"""
FLAGS_SQL = """
SELECT run, t, 'flag' AS kind, level AS state, flag || ': ' || message AS message FROM flags
WHERE level IN ('warn', 'critical') AND t > {since} ORDER BY t"""
MOST = 200  # events in an answer
GRAVE = {"flag", "ended", "cancel", "pause"}


def look(client: Client, since: float, numbers: Collection[int], *, every: bool) -> dict[str, Any]:
    """What has happened after a time, of these runs or of all; `every`: also that runs were queued, began or were
    interrupted. `now`: the time to ask from next, so that nothing is missed. Raises StoreError where there is no such
    run.
    """
    now, rows = time.time(), []
    client.drain()
    for number in numbers:
        find(client, number)
    for sql in (JOURNAL_SQL, FLAGS_SQL):
        found = client.query(sql.format(since=float(since)), limit=MOST).to_pylist()
        if len(found) == MOST:  # the rest comes with the next answer
            now = min(now, found[-1]["t"])
        rows += [row for row in found if (not numbers or row["run"] in numbers) and (every or _is_grave(row))]
    rows = sorted((row for row in rows if row["t"] <= now), key=lambda row: row["t"])
    shown = {row["run"] for row in rows} | set(numbers)
    return {"events": of_rows(rows), "now": now, "runs": runs_as_json(client, shown) if shown else []}


def all_over(found: dict[str, Any], numbers: Collection[int]) -> bool:
    """Whether runs were asked for, and each of them has ended or is paused: nothing more will come of them."""
    return bool(numbers) and all(row["state"] not in WAITING | ACTIVE for row in found["runs"])


def _is_grave(row: dict[str, Any]) -> bool:
    return row["kind"] in GRAVE and row["state"] not in ACTIVE
