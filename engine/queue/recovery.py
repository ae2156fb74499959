"""What the daemon makes of a run's directory that it finds: whether its journal says enough, and what else does.

A run is started only if it is certain that somebody wants it. Where its journal is damaged, or its directory is a copy
or was moved in, its own log decides if that says that the run ended; else the run is paused, and a person decides.
"""

from __future__ import annotations

from dataclasses import replace

from engine.basics.process import alive
from engine.queue.executor import Executor
from engine.runs import lifecycle
from engine.runs.arrived import renumbered, unrecorded_end
from engine.runs.home import RunDir
from engine.runs.journal import Reading, RunRecord
from engine.runs.remains import remains_of
from engine.runs.submitted import original_of, submitted_value
from finetui.files import read_json
from store.journal_lines import Adopted, JournalLine, Running
from store.line_fields import last_line
from store.lines import End
from store.states import RunState

MOVED = "its directory was moved here while it had not ended"
RENUMBERED = "its directory was moved here, or given another number"


def line_for(run: RunDir, reading: Reading, executor: Executor, *, moved_in: bool) -> JournalLine | None:
    """Return what has to be added to the journal before the run is looked after; None where the journal will do.

    `moved_in`: the directory appeared while the daemon ran.
    """
    record = reading.record
    given = submitted_value(run, "number", int)  # that it was accepted under
    copied = given not in (None, run.number) and record.adopted != run.number
    if not (record.waiting or record.active):
        return renumbered(record, given, run.number) if copied and given else None
    last = max((attempt.number for attempt in run.attempts()), default=0)
    if record.logged:
        return _of_logged(run, record, copied=copied)
    certain = reading.certain and last <= record.attempt
    if certain and not copied and not moved_in:
        return _finished_after_all(run, record)
    why = _why_copied(run) if copied else MOVED
    if not certain:
        why = journal_problem(run, reading) or f"its journal does not know of attempt {last}"
    known = record if last <= record.attempt else replace(record, attempt=last, shim=None, worker=None)
    if not copied and not moved_in:  # else its processes are those of another run
        processes = executor.find_processes(run, known)
        if processes.alive:
            worker = processes.worker.to_dict() if processes.worker and alive(processes.worker) else {}
            return None if known is record and record.active else Running(last, RunState.RUNNING, **worker)
    attempt = known.attempt or None
    ended = unrecorded_end(run, record, known)
    if ended is not None and ended.state is not None:
        return Adopted(run.number, ended.state, ended.reason or f"by its own log, since {why}", attempt)
    asked = f"finetui resume {run.number} goes on, finetui cancel {run.number} ends it"
    return Adopted(run.number, RunState.PAUSED, f"{why}: {asked}", attempt)


def _of_logged(run: RunDir, record: RunRecord, *, copied: bool) -> JournalLine | None:
    """A run that a program logs by itself goes on, wherever its directory is; a copy does not."""
    if not copied and record.active:
        return None
    end = last_line(run.attempt(1).events, End)
    why = _why_copied(run) if copied else "its journal is damaged"
    ended = lifecycle.logged_verdict(record, end, why) if end else None
    if ended is not None and ended.state is not None:
        return Adopted(run.number, ended.state, ended.reason or f"by its own log, since {why}", 1)
    return Adopted(run.number, RunState.CANCELLED, f"{why}, and its program went on", 1)


def _why_copied(run: RunDir) -> str:
    """Return in words why a directory has another number than it was given."""
    original = original_of(run)
    return RENUMBERED if original is None else f"it is a copy of run #{original}"


def journal_problem(run: RunDir, reading: Reading) -> str | None:
    """Return what is wrong with a run's journal, in words; None if nothing is."""
    name = run.journal.name
    if not run.journal.exists():
        return f"{name} is missing"
    if reading.bad:
        lines = [str(bad.line) for bad in reading.bad if bad.line]
        where = f"line {', '.join(lines[:5])} of {name}" if lines else name
        return f"{where} is damaged ({reading.bad[0].why})"
    return None if reading.certain else f"{name} says nothing of its state"


def run_json_problem(run: RunDir) -> str | None:
    """Return why a run cannot be started from its `run.json`; None if it can."""
    try:
        body = read_json(run.meta)
    except (OSError, ValueError) as error:
        why = error.strerror if isinstance(error, OSError) else error
        return (
            f"{run.meta} cannot be read ({why}): put a copy back and resume the run, or delete its directory"
        )
    if not isinstance(body.get("recipe"), dict):
        return f"{run.meta} has no recipe: put a copy back and resume the run, or delete its directory"
    return None


def _finished_after_all(run: RunDir, record: RunRecord) -> JournalLine | None:
    """A run that waits, though the worker of its last attempt wrote that it finished."""
    if not (record.waiting and record.attempt):
        return None
    end = remains_of(run, record).end
    if end is None or end.status != RunState.FINISHED:
        return None
    return Adopted(run.number, RunState.FINISHED, "its own log says that it finished", record.attempt)
