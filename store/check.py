"""`python -m finetui.start store.check HOME FOLDER`: compares a home's database with its logs, run by run.

The logs are read into a database of its own in FOLDER, in this process, and the daemon is asked what it has, before and
after. A run of which that has changed meanwhile is going on, and is not compared. Prints JSON, a line each:
`{"doing": …}` while it goes on, then `{"result": {"runs", "same", "going_on", "gone", "differ", "problem"}}` or
`{"error", "kind"}`.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from pathlib import Path
from typing import Any

from finetui.client import Client
from finetui.daemon import connect
from finetui.errors import StoreError
from store import digests
from store.ingest import GONE, Ingest
from store.projection import Projection

TELL_S = 0.5
LONGEST_S = 600.0


def check(home: Path, folder: Path) -> dict[str, Any]:
    """Raises StoreError."""
    with connect(home) as client:
        before = _kept(client)
        read = _read(home, folder)
        after = _kept(client)
        sql = f"SELECT run FROM runs WHERE reason = '{GONE}'"
        gone = [row["run"] for row in client.query(sql).to_pylist()]
    going_on = sorted(run for run in after if before.get(run) != after[run])
    differ = {}
    for run in sorted((after.keys() | read.keys()) - {*gone, *going_on}):
        if run not in read:
            differ[run] = "in the database, and not in the logs"
        elif run not in after:
            differ[run] = "in the logs, and not in the database"
        elif words := digests.difference(after[run], read[run]):
            differ[run] = words
    same = len(after.keys() | read.keys()) - len({*gone, *going_on}) - len(differ)
    return {"runs": len(after), "same": same, "going_on": going_on, "gone": sorted(gone), "differ": differ}


def _kept(client: Client) -> digests.Digests:
    client.drain(lambda sentence: _say(doing=sentence) if sentence else None)
    _say(doing="the database is summed up")
    table = client.query(digests.sql(), timeout_s=LONGEST_S)
    return digests.of_rows(list(zip(*(column.to_pylist() for column in table.columns), strict=True)))


def _read(home: Path, folder: Path) -> digests.Digests:
    projection = Projection(folder / "check.duckdb")
    ingest = Ingest(projection, home)
    done = threading.Event()
    threading.Thread(target=_tell, args=(ingest, done), daemon=True).start()
    try:
        ingest.poll()
    finally:
        done.set()
    if ingest.problem:
        raise StoreError(ingest.problem, "internal")
    with projection.read() as cursor:
        found = digests.of_rows(cursor.execute(digests.sql()).fetchall())
    projection.close()
    return found


def _tell(ingest: Ingest, done: threading.Event) -> None:
    while not done.wait(TELL_S):
        if reading := ingest.reading:
            _say(doing=f"{reading}, for comparison")


def _say(**said: Any) -> None:
    print(json.dumps(said), flush=True)


def main(home: str, folder: str) -> int:
    os.nice(10)
    try:
        _say(result=check(Path(home), Path(folder)))
    except StoreError as error:
        _say(error=str(error), kind=error.kind)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
