"""The daemon's word about one run: `journal.jsonl`, and the record that it adds up to.

The journal is only ever appended to, by the one daemon. The state of a run is what the file adds up to, so a
daemon that starts afresh knows what the one before it knew. Imports nothing heavy: the shim uses it.
"""

from __future__ import annotations

import time
from dataclasses import dataclass, replace
from typing import Any, Literal

from engine.basics.process import Identity
from engine.runs.home import RunDir
from finetui.log import LogWriter, read_log

WAITING = frozenset({"queued", "interrupted"})
ACTIVE = frozenset({"starting", "running"})
Request = Literal["cancel", "pause"]


@dataclass(frozen=True, slots=True)
class RunRecord:
    """What the journal says about a run now."""

    number: int
    state: str = "queued"
    reason: str | None = None
    priority: int = 0
    processes: int = 1
    queued_at: float = 0.0  # Unix seconds; the place in the line
    attempt: int = 0  # the last one started, 0 before the first
    device: str | None = None
    shim: Identity | None = None
    request: Request | None = None  # asked of the attempt that is active
    interruptions: int = 0  # in a row, without a new checkpoint in between
    checkpoint: int = -1  # last whole one at the last interruption, -1 before the first

    @property
    def waiting(self) -> bool:
        return self.state in WAITING

    @property
    def active(self) -> bool:
        return self.state in ACTIVE


def read(run: RunDir) -> RunRecord:
    """Add up a journal; lines that cannot be read are passed over."""
    record = RunRecord(run.number)
    for entry in read_log(run.journal):
        record = add(record, entry)
    return record


def append(run: RunDir, record: RunRecord, kind: str, **fields: Any) -> RunRecord:
    """Write one entry, durable on return, and give the record with it. Raises OSError (disk full).

    Opened for each entry: entries are rare, and opening ends a line that a full disk left torn.
    """
    t = time.time()
    writer = LogWriter(run.journal, "journal", run=run.number)
    try:
        writer.write(kind, sync=True, t=t, **fields)
    finally:
        writer.close()
    return add(record, {"kind": kind, "t": t, **fields})


def add(record: RunRecord, entry: dict[str, Any]) -> RunRecord:
    """The record after one more entry."""
    kind, t = entry.get("kind"), float(entry.get("t") or 0.0)
    if kind == "submitted":
        record = replace(
            record,
            priority=int(entry.get("priority") or 0),
            processes=int(entry.get("processes") or 1),
            queued_at=t,
        )
    elif kind == "priority":
        record = replace(record, priority=int(entry["priority"]))
    elif kind == "starting":
        record = replace(
            record, attempt=entry["attempt"], device=entry.get("device"), shim=None, request=None
        )
    elif kind == "started":
        record = replace(record, shim=Identity.from_dict(entry))
    elif kind in ("cancel", "pause"):
        record = replace(record, request=kind)  # dropped below where it took effect at once
    elif kind in ("requeued", "interrupted"):
        record = replace(
            record,
            queued_at=t,
            interruptions=entry.get("interruptions", 0),
            checkpoint=entry.get("checkpoint", record.checkpoint),
        )
    if "state" in entry:
        record = replace(record, state=entry["state"], reason=entry.get("reason"))
    return record if record.active else replace(record, request=None)
