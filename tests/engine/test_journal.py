"""The journal adds up to a record, wherever the file was cut off."""

from __future__ import annotations

import json
import random
from pathlib import Path

from engine.basics.process import Identity
from engine.runs import journal
from engine.runs.home import RunDir
from engine.runs.journal import RunRecord
from finetui.log import LogWriter
from store.journal_lines import (
    Ended,
    Interrupted,
    Note,
    Pause,
    Priority,
    Requeued,
    Running,
    Started,
    Starting,
)
from store.states import RunState

SHIM = Identity(4242, 777, "boot")


def make(path: Path) -> tuple[RunDir, RunRecord]:
    run = RunDir(path / "000007-x")
    writer = LogWriter(run.journal, "journal", run=7)
    writer.write("submitted", state="queued", priority=3, t=10.0)
    writer.close()
    return run, journal.read(run)


def life(run: RunDir, record: RunRecord) -> list[RunRecord]:
    """A long life, and the record after each entry."""
    records = [record]
    for line in [
        Starting(1, RunState.STARTING, "gpu0"),
        Started(1, **SHIM.to_dict()),
        Running(1, RunState.RUNNING),
        Priority(9),
        Note("bitte nicht stören — \u2028"),
        Interrupted(1, state=RunState.INTERRUPTED, reason="killed", interruptions=1, checkpoint=20),
        Starting(2, RunState.STARTING, "gpu1"),
        Started(2, **SHIM.to_dict()),
        Running(2, RunState.RUNNING),
        Pause(RunState.RUNNING, "pause was asked"),
        Ended(RunState.PAUSED, 2, exit_code=3),
        Requeued(RunState.QUEUED, interruptions=0),
    ]:
        record = journal.append(run, record, line)
        records.append(record)
    return records


def test_what_is_appended_is_what_is_read(tmp_path: Path) -> None:
    run, record = make(tmp_path)
    last = life(run, record)[-1]
    assert journal.read(run) == last


def test_the_record_at_the_points_that_matter(tmp_path: Path) -> None:
    records = life(*make(tmp_path))
    assert (records[0].state, records[0].priority, records[0].place) == ("queued", 3, 10.0)
    assert (records[2].state, records[2].shim, records[2].device) == ("starting", SHIM, "gpu0")
    assert (records[4].priority, records[4].state) == (9, "running")
    assert (records[6].state, records[6].interruptions, records[6].checkpoint) == ("interrupted", 1, 20)
    assert records[6].reason == "killed"
    assert (records[7].attempt, records[7].shim, records[7].reason) == (2, None, None)
    assert (records[10].state, records[10].request) == ("running", "pause")
    assert records[10].reason == "pause was asked"
    assert (records[11].state, records[11].request) == ("paused", None)
    assert (records[12].interruptions, records[12].checkpoint) == (0, 20)
    assert records[12].place > records[6].place


def test_cut_anywhere_it_says_what_was_true_then(tmp_path: Path) -> None:
    run, record = make(tmp_path)
    records = life(run, record)
    whole = run.journal.read_bytes()
    for size in range(whole.index(b"\n", whole.index(b"\n") + 1) + 1, len(whole) + 1):
        run.journal.write_bytes(whole[:size])
        lines = whole[:size].count(b"\n")
        assert journal.read(run) == records[lines - 2]  # two lines come before the first of `life`


def test_an_entry_after_a_torn_line_is_read(tmp_path: Path) -> None:
    run, record = make(tmp_path)
    rng = random.Random(0)
    for attempt in range(1, 20):
        record = journal.append(run, record, Starting(attempt, RunState.STARTING))
        torn = json.dumps({"kind": "cancel", "state": "cancelled"}).encode()
        with run.journal.open("ab") as file:
            file.write(torn[: rng.randrange(1, len(torn))])
        record = journal.append(run, record, Priority(attempt))
        assert journal.read(run) == record
        assert record.state == "starting"
