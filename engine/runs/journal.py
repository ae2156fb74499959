"""The daemon's journal of one run, `journal.jsonl`, and the record that it adds up to.

The journal is only ever appended to, by the one daemon. The state of a run is what the file adds up to, so a
daemon that starts afresh knows what the one before it knew. Imports nothing heavy: the shim uses it.
"""

from __future__ import annotations

import errno
import time
from dataclasses import dataclass, replace
from typing import Literal

from engine.basics.process import Identity
from engine.runs.home import RunDir
from finetui.log import CUT_OFF, LogWriter
from store.journal_lines import (
    JOURNAL,
    OF_STATE,
    Adopted,
    Cancel,
    Conditions,
    Edited,
    Grouped,
    Interrupted,
    JournalLine,
    Moved,
    Note,
    Other,
    Pause,
    Priority,
    Requeued,
    Running,
    Started,
    Starting,
    StartNow,
    Submitted,
    Tagged,
)
from store.line_fields import Bad, body, read_lines, write
from store.states import ACTIVE, WAITING, RunState

LATEST = 4102444800.0  # Unix seconds: the year 2100, after which nothing waits
Request = Literal["cancel", "pause"]


@dataclass(frozen=True, slots=True)
class RunRecord:
    """The present state of a run by its journal."""

    number: int
    state: str = RunState.QUEUED
    reason: str | None = None
    priority: int = 0
    processes: int = 1
    memory: int | None = None  # bytes of a GPU that each process needs; None where that is not known
    exclusive: bool = False  # shares its GPUs with no other run
    logged: bool = False  # by a program of its own, which nobody here starts or ends
    place: float = 0.0  # in the line: when it was queued, Unix seconds, unless somebody moved it
    held: bool = False
    after: tuple[int, ...] = ()  # runs that have to finish first
    after_any: bool = False  # or to end in any way
    not_before: float | None = None  # Unix seconds
    urgent: bool = False  # starts whatever it waits for
    tags: tuple[str, ...] = ()
    group: str | None = None
    note: str = ""  # the latest
    attempt: int = 0  # the last one started, 0 before the first
    device: str | None = None
    began: float = 0.0  # when the last attempt was decided on, Unix seconds
    shim: Identity | None = None
    worker: Identity | None = None
    adopted: int | None = None  # the number that the directory was found under, if it was moved or copied
    request: Request | None = None  # asked of the attempt that is active
    cause: str | None = None  # of that request, where it was nobody's
    taken_back: bool = False  # that request: the run goes on once it has stopped
    interruptions: int = 0  # in a row, without a new checkpoint in between
    checkpoint: int = -1  # last whole one at the last interruption, -1 before the first
    by: str | None = None  # the assistant that queued it
    submitted: float = 0.0  # Unix seconds
    predicted_s: float | None = None  # that it will take; None where nothing was measured
    ran_s: float = 0.0  # by the attempts that are over

    def seconds(self, now: float) -> float:
        """Return how long it ran until now, over all attempts."""
        return self.ran_s + (max(0.0, now - self.began) if self.active else 0.0)

    @property
    def waiting(self) -> bool:
        return self.state in WAITING

    @property
    def active(self) -> bool:
        return self.state in ACTIVE


@dataclass(frozen=True, slots=True)
class Reading:
    """What a journal adds up to."""

    record: RunRecord
    # Lines that cannot be read, and values that cannot be used; both are passed over.
    bad: tuple[Bad, ...] = ()
    # False: there is no state in it, or it may have changed after the last one that can be read.
    certain: bool = True


def read(run: RunDir) -> RunRecord:
    """Add up a journal; lines that cannot be read are skipped."""
    return read_whole(run).record


def read_whole(run: RunDir) -> Reading:
    """Add up a journal, and say what had to be skipped. One that cannot be read at all is as an empty one."""
    record, bad, certain = RunRecord(run.number), list[Bad](), False
    try:
        for t, line in read_lines(run.journal, JOURNAL, Other):
            if isinstance(line, Bad):
                if line.why != CUT_OFF:
                    bad.append(line)
                    certain = False
                continue
            record = add(record, line, t)
            if line.state is not None:
                certain = True
            elif isinstance(line, OF_STATE):
                bad.append(Bad(0, f"a line of kind {line.kind} lacks its state"))
                certain = False
    except OSError as error:
        bad.append(Bad(0, str(error.strerror)))
    return Reading(record, tuple(bad), certain)


def append(run: RunDir, record: RunRecord, line: JournalLine) -> RunRecord:
    """Write one line, durable on return, and return the record with it. Raises OSError (disk full).

    Opened for each line: lines are rare, and opening ends a line that a full disk left torn.
    """
    if not run.path.is_dir():  # a writer would make it again
        raise FileNotFoundError(errno.ENOENT, "the run's directory is gone", str(run.path))
    t = time.time()
    writer = LogWriter(run.journal, "journal", run=run.number)
    try:
        write(writer, line, sync=True, t=t)
    finally:
        writer.close()
    return add(record, line, t)


def add(record: RunRecord, line: JournalLine, t: float) -> RunRecord:
    """Return the record after one more line, written at `t`."""
    was_active = record.active
    match line:
        case Submitted():
            record = replace(
                record,
                priority=line.priority,
                processes=line.processes or 1,
                memory=line.gpu_memory or None,
                exclusive=line.exclusive,
                logged=bool(line.logged),
                place=t,
                by=line.by,
                submitted=t,
                predicted_s=line.seconds,
            )
        case Edited():
            record = replace(record, memory=line.gpu_memory or record.memory)
        case Priority():
            record = replace(record, priority=line.priority)
        case Moved():
            record = replace(record, priority=line.priority, place=line.place)
        case Conditions():
            record = replace(
                record,
                held=line.held,
                after=tuple(number for number in line.after or () if isinstance(number, int)),
                after_any=line.after_any,
                not_before=line.not_before if 0 < (line.not_before or 0) < LATEST else None,
            )
        case Tagged():
            record = replace(record, tags=tuple(map(str, line.tags or ())))
        case Grouped():
            record = replace(record, group=line.group)
        case Note():
            record = replace(record, note=line.text)
        case StartNow():
            record = replace(record, urgent=True)
        case Starting():
            record = replace(
                _unconditional(record),
                attempt=line.attempt,
                device=line.device,
                began=t,
                shim=None,
                worker=None,
                request=None,
                taken_back=False,
            )
        case Started():
            record = replace(record, shim=Identity.from_dict(body(line)))
        case Running():
            record = replace(
                record, attempt=line.attempt or record.attempt, worker=Identity.from_dict(body(line))
            )
        case Adopted():  # the runs that it waited for have their numbers where it comes from
            record = replace(record, adopted=line.run, attempt=line.attempt or record.attempt, after=())
        case Cancel():
            # Dropped below where it took effect at once.
            record = replace(record, request="cancel", cause=line.cause, taken_back=False)
        case Pause():
            record = replace(record, request="pause", cause=line.cause, taken_back=False)
        case Requeued() if record.active:
            record = replace(record, taken_back=record.request is not None, by=None)
        case Requeued():  # whoever resumes a run answers for it from then on
            record = replace(record, place=t, interruptions=line.interruptions or 0, by=None)
        case Interrupted():
            checkpoint = record.checkpoint if line.checkpoint is None else line.checkpoint
            record = replace(record, place=t, interruptions=line.interruptions or 0, checkpoint=checkpoint)
            if 0 < (line.retry_s or 0) < LATEST - t:
                record = replace(record, not_before=t + (line.retry_s or 0))
    if line.state is not None:
        record = replace(record, state=line.state, reason=line.reason)
    if was_active and not record.active:
        record = replace(record, ran_s=record.ran_s + max(0.0, t - record.began))
    return record if record.active else replace(record, request=None, cause=None, taken_back=False)


def _unconditional(record: RunRecord) -> RunRecord:
    """What a run waited for counts no more once it has started, or its attempt is lost."""
    return replace(record, held=False, after=(), after_any=False, not_before=None, urgent=False)
