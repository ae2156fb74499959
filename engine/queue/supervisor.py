"""The queue: every run's record, the requests of users, and the watch over the attempts that are active.

Each change is written to the run's journal, durable, before it counts. One lock guards it all: requests come
from the server's threads, `tick` from the daemon's.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from engine.basics.errors import QueueError
from engine.queue import accept
from engine.queue.executor import Executor, Sighting
from engine.queue.scheduler import Capacity, Start, plan
from engine.runs import disk, journal, lifecycle
from engine.runs.home import RunDir, run_dirs
from engine.runs.journal import Request, RunRecord
from engine.runs.lifecycle import Action
from finetui.home import Home
from finetui.lock import Lock
from store.journal_lines import (
    Cancel,
    JournalLine,
    Note,
    Pause,
    Priority,
    Requeued,
    Running,
    Started,
    Starting,
)
from store.states import RunState

log = logging.getLogger("finetui.queue")


@dataclass(frozen=True)
class Settings:
    """What the queue needs of the machine and the configuration."""

    capacity: Capacity
    threads: int  # for each run
    grace_s: float


class Supervisor:
    """All runs of a home."""

    def __init__(self, home: Home, settings: Settings, on_change: Callable[[int], object]) -> None:
        """`on_change` is called with the run after each journal entry, in whichever thread wrote it."""
        self._home = home
        self._settings = settings
        self._on_change = on_change
        self._executor = Executor()
        self._lock = threading.RLock()
        self._dirs: dict[int, RunDir] = {}
        self._records: dict[int, RunRecord] = {}
        self._open: set[int] = set()  # waiting or active: what `tick` has to look at
        self._asked: dict[tuple[int, int], float] = {}  # run, attempt: when SIGTERM was sent, monotonic
        self._next = 1
        self.waiting_for: dict[int, str] = {}
        self.problems: dict[int, str] = {}  # run → what went wrong while looking after it
        self.damaged: dict[int, str] = {}  # run → what in its journal could not be used

    def recover(self, last: int = 0) -> None:
        """Learn from the run directories what earlier daemons knew. `last`: the last number that the store knows of."""
        with self._lock:
            accept.clear_unfinished(self._home)
            self._next = max(last, accept.last_number(self._home)) + 1
            for run in run_dirs(self._home):
                record, bad = journal.read_whole(run)
                self._keep(run, record)
                if bad:
                    lines = ", ".join(f"{line.kind} ({line.why})" for line in bad)
                    self.damaged[run.number] = (
                        f"run #{run.number}: lines of {run.journal} are passed over: {lines}"
                    )
            for record in self._listed(active=True):
                log.info("run #%d was %s before this daemon", record.number, record.state)

    def use(self, settings: Settings) -> None:
        """Take over changed settings; runs that are active keep what they have."""
        with self._lock:
            self._settings = settings

    # ---- the watch -------------------------------------------------------------------------------

    def tick(self) -> None:
        """Look at each active attempt, then start what may start. A problem with one run holds up no other."""
        with self._lock:
            self._executor.reap()
            for record in self._listed(active=True):
                self._guarded(record.number, partial(self._watch, record))
            self._schedule()

    @property
    def busy(self) -> bool:
        """Whether an attempt is active."""
        with self._lock:
            return any(self._records[number].active for number in self._open)

    def _watch(self, record: RunRecord) -> None:
        sighting = self._executor.look(self._dirs[record.number], record)
        if not sighting.alive:
            self._conclude(record)
            return
        if record.state == RunState.STARTING and sighting.worker is not None:
            who = sighting.worker.to_dict()
            record = self._write(record, Running(record.attempt, RunState.RUNNING, record.reason, **who))
        if record.request is not None:
            self._press(record, sighting)

    def _press(self, record: RunRecord, sighting: Sighting) -> None:
        """Ask once, and after the grace period do not ask."""
        if sighting.worker is None:
            return
        now, asked = time.monotonic(), (record.number, record.attempt)
        if asked not in self._asked:
            self._executor.ask_to_stop(sighting.worker)
        if now - self._asked.setdefault(asked, now) > self._settings.grace_s:
            log.info("run #%d did not stop in %g s; killing it", record.number, self._settings.grace_s)
            self._executor.kill(sighting)

    def _conclude(self, record: RunRecord) -> None:
        """Write what became of an attempt whose processes are gone.

        Under the shim's lock: a shim that was sent by an earlier daemon and is only now starting either has
        the lock, and then we look again later, or finds in the journal that it came too late.
        """
        run = self._dirs[record.number]
        lock = Lock(run.lock)
        if not lock.acquire():
            return
        try:
            sighting = self._executor.look(run, record)
            if sighting.alive:
                return
            self._executor.kill(sighting)  # what a killed worker left in its process group
            self._write(record, lifecycle.verdict(record, self._executor.remains(run, record)))
        finally:
            lock.release()

    # ---- starting --------------------------------------------------------------------------------

    def _schedule(self) -> None:
        waiting, active = self._listed(active=False), self._listed(active=True)
        if waiting and (full := disk.full_disk(self._home.runs)):
            self.waiting_for = {record.number: full for record in waiting}
            return
        chosen = plan(waiting, active, self._settings.capacity)
        self.waiting_for = chosen.waiting
        for start in chosen.starts:
            self._guarded(start.run, partial(self._start, start))

    def _start(self, start: Start) -> None:
        """The journal first: a shim starts only what the journal says is starting."""
        record, run = self._records[start.run], self._dirs[start.run]
        attempt = max([record.attempt, *(attempt.number for attempt in run.attempts())]) + 1
        threads = self._settings.threads
        record = self._write(record, Starting(attempt, RunState.STARTING, start.device, threads))
        try:
            shim = self._executor.start(run, attempt, start.device, threads)
        except OSError as error:
            reason = f"cannot start a process: {error}"
            if disk.is_full(error):
                self._write(record, lifecycle.not_begun(record, reason))
            else:
                self._write(record, lifecycle.interruption(record, record.checkpoint, reason))
            return
        if shim is not None:
            self._write(record, Started(attempt, start.device, threads, **shim.to_dict()))

    # ---- requests --------------------------------------------------------------------------------

    def submit(self, body: dict[str, Any]) -> int:
        """Accept a run; its number. On disk when this returns. Raises QueueError."""
        submission, recipe = accept.read_submission(body)
        with self._lock:
            if submission.parent is not None:
                self._record(submission.parent)
            number = self._next
            try:
                run = accept.accept(self._home, number, submission, recipe)
            except OSError as error:
                raise QueueError(
                    f"the run cannot be written to {self._home.runs}: {error.strerror}"
                ) from None
            self._next += 1
            self._keep(run, journal.read(run))
            log.info("run #%d submitted: %s", number, run.path.name)
            self._on_change(number)
            return number

    def requeue(self, number: int) -> int:
        """Run the recipe of an earlier run once more, from the start; the new run's number."""
        with self._lock:
            self._record(number)
            return self.submit(accept.again(self._dirs[number]))

    def cancel(self, number: int) -> str:
        """The state after the request: `cancelled` at once for a waiting run, else unchanged until it ends."""
        return self._ask_to_end("cancel", number, Cancel, RunState.CANCELLED)

    def pause(self, number: int) -> str:
        """As `cancel`, but the run may be resumed and keeps its name in the queue: `paused`."""
        return self._ask_to_end("pause", number, Pause, RunState.PAUSED)

    def _ask_to_end(self, action: Request, number: int, line: type[Cancel | Pause], state: RunState) -> str:
        with self._lock:
            record = self._allowed(action, number)
            if record.active:
                reason = f"{action} was asked; it saves a checkpoint first"
                record = self._write(record, line(record.state, reason))
                self._guarded(number, partial(self._watch, record))
            else:
                self._write(record, line(state))
            return self._records[number].state

    def resume(self, number: int) -> str:
        """Queue a cancelled, failed or paused run again; it goes on from its last whole checkpoint."""
        with self._lock:
            record = self._allowed("resume", number)
            return self._write(record, Requeued(RunState.QUEUED, interruptions=0)).state

    def set_priority(self, number: int, priority: int) -> int:
        """Move a run that waits; its priority."""
        with self._lock:
            return self._write(self._allowed("priority", number), Priority(priority)).priority

    def note(self, number: int, text: str) -> None:
        with self._lock:
            self._write(self._record(number), Note(text))

    def counts(self) -> dict[str, Any]:
        """`{"running": [41], "queued": [42, 43]}`: numbers of active and of waiting runs."""
        with self._lock:
            active, waiting = self._listed(active=True), self._listed(active=False)
            return {"running": [run.number for run in active], "queued": [run.number for run in waiting]}

    # ---- records ---------------------------------------------------------------------------------

    def _record(self, number: int) -> RunRecord:
        if number not in self._records:
            last = f"the last one is #{max(self._records)}" if self._records else "there are none yet"
            raise QueueError(f"there is no run #{number}; {last}")
        return self._records[number]

    def _allowed(self, action: Action, number: int) -> RunRecord:
        record = self._record(number)
        if reason := lifecycle.refusal(action, record):
            raise QueueError(reason)
        return record

    def _listed(self, *, active: bool) -> list[RunRecord]:
        records = (self._records[number] for number in sorted(self._open))
        return [record for record in records if record.active == active]

    def _write(self, record: RunRecord, line: JournalLine) -> RunRecord:
        """Append to the run's journal and remember what it adds up to. Raises OSError (disk full)."""
        run = self._dirs[record.number]
        record = journal.append(run, record, line)
        self._keep(run, record)
        because = f" ({record.reason})" if record.reason and line.state is not None else ""
        log.info("run #%d: %s, now %s%s", record.number, line.kind, record.state, because)
        self._on_change(record.number)
        return record

    def _keep(self, run: RunDir, record: RunRecord) -> None:
        self._dirs[record.number], self._records[record.number] = run, record
        if record.waiting or record.active:
            self._open.add(record.number)
        else:
            self._open.discard(record.number)

    def _guarded(self, number: int, step: Callable[[], None]) -> None:
        """A run whose files cannot be written or read is tried again at the next tick, and reported."""
        try:
            step()
        except Exception as error:
            if not self._dirs[number].path.is_dir():
                log.warning("run #%d: its directory is gone; forgetting it", number)
                self._open.discard(number)
                return
            message = f"run #{number}: {type(error).__name__}: {error}"
            if self.problems.get(number) != message:
                log.exception("run #%d: unexpected", number)
            self.problems[number] = message
        else:
            self.problems.pop(number, None)
