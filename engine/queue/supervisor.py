"""The queue: every run's record, the requests of users, and the supervision of active attempts.

Each change is written to the run's journal, durable, before it counts. One lock guards it all: requests come
from the server's threads, `tick` from the daemon's.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from engine.basics.errors import QueueError
from engine.queue import accept, agents, back
from engine.queue.agents import Used
from engine.queue.attempts import Attempts
from engine.queue.executor import Executor
from engine.queue.gpus import GpuMemory
from engine.queue.known_runs import KnownRuns
from engine.queue.logged import LoggedRuns
from engine.queue.machine_use import ActiveRun
from engine.queue.orders import Order, answer, line_for, name_of
from engine.queue.scheduler import decide
from engine.queue.settings import Settings
from engine.runs import cleaning, disk, journal, lifecycle, removed
from engine.runs.home import RunDir
from engine.runs.imported import refuse_foreign
from engine.runs.journal import Request, RunRecord
from engine.runs.submitted import runs_command
from finetui.home import Home
from finetui.lock import Lock
from finetui.numbers import next_number
from store.journal_lines import Cancel, Named, Pause, Requeued
from store.paths import removed_runs
from store.states import ENDED, RunState

log = logging.getLogger("finetui.queue")


class Supervisor:
    """All runs of a home."""

    def __init__(
        self,
        home: Home,
        settings: Settings,
        on_change: Callable[[int], object],
        on_end: Callable[[RunDir, RunRecord], object] = lambda run, record: None,
        gpu_memory: Callable[[], Mapping[str, GpuMemory]] = dict,
    ) -> None:
        """`on_change` is called with the run after each journal entry, in whichever thread wrote it; `on_end` when an
        attempt has ended and the run with it, or has paused; `gpu_memory`: what is free on the GPUs now.
        """
        self._home = home
        self.settings = settings
        self._on_change = on_change
        self._gpu_memory = gpu_memory
        self._executor = Executor(settings.pool, settings.uuids)
        self._lock = threading.RLock()
        logged = LoggedRuns()
        self._runs = KnownRuns(home, self._executor, logged, on_change, on_end)
        self._attempts = Attempts(self._executor, self._runs, logged, settings)
        self.waiting_for: dict[int, str] = {}
        self.disk_full: str | None = None  # why nothing starts
        self.spent = 0.0  # by all runs, as the daemon knows from the store

    def recover(self, last: int = 0, known: Mapping[int, Path] | None = None) -> None:
        """Read the state of all runs from their directories. `last`: the highest run number in the store; `known`: the
        directories that it knows.
        """
        with self._lock:
            accept.clear_unfinished(self._home)
            self._runs.recover(last, known or {})
            for record in self._runs.open(active=True):
                log.info("run #%d was %s before this daemon", record.number, record.state)

    @property
    def refused(self) -> list[str]:
        """Directories that are not read, each with why and what to do."""
        return self._runs.refused

    @property
    def problems(self) -> dict[int, str]:
        """By run, the error at its last tick."""
        return self._runs.problems

    @property
    def damaged(self) -> dict[int, str]:
        """By run, what is wrong with its journal."""
        return self._runs.damaged

    def change_settings(self, settings: Settings) -> None:
        """Apply changed settings; active runs keep the device and threads that they have."""
        with self._lock:
            self.settings = self._attempts.settings = settings
            self._executor.pool.on = settings.pool

    def pool_status(self) -> dict[str, Any]:
        """Return what there is to say of the pool that workers are forked from."""
        with self._lock:
            return self._executor.pool.status()

    # ---- the watch -------------------------------------------------------------------------------

    def tick(self) -> None:
        """Look at each active attempt, then start what may start. A problem with one run holds up no other."""
        with self._lock:
            self._executor.reap()
            self._runs.look()
            for record in self._runs.open(active=True):
                self._runs.guarded(record.number, partial(self._attempts.watch, record))
            self._schedule()

    @property
    def busy(self) -> bool:
        """Whether an attempt is active."""
        with self._lock:
            return any(self._runs.records[number].active for number in self._runs.open_numbers)

    def active_runs(self) -> list[ActiveRun]:
        """Return the runs with an attempt, their devices and the processes that these begin with."""
        with self._lock:
            return self._attempts.active_runs()

    # ---- starting --------------------------------------------------------------------------------

    def _schedule(self) -> None:
        waiting = self._runs.open(active=False)
        active = [
            record for record in self._runs.open(active=True) if not record.logged
        ]  # these take no slot
        self.disk_full = disk.full_disk(self._home.runs) if waiting else None
        no_money = self.settings.budget.refusal(self.spent)
        if why := self.disk_full or no_money:
            self.waiting_for = dict.fromkeys((record.number for record in waiting), why)
        if no_money and self.settings.budget.pauses:
            for record in active:
                if record.request is None:
                    self._runs.guarded(record.number, partial(self.pause, record.number, no_money))
        if why:
            return
        used_up = self._agents_used_up(waiting, active)
        waiting = [record for record in waiting if record.number not in used_up]
        needed = {number for record in waiting for number in record.after}
        states = {number: self._runs.records[number].state for number in needed & self._runs.records.keys()}
        capacity = self.settings.capacity
        if waiting and capacity.devices:
            capacity = replace(capacity, memory=self._gpu_memory())
        decision = decide(waiting, active, capacity, states, time.time())
        self.waiting_for = {**decision.waiting, **used_up}
        for start in decision.starts:
            self._runs.guarded(start.run, partial(self._attempts.start, start))

    def _agents_used_up(self, waiting: list[RunRecord], active: list[RunRecord]) -> dict[int, str]:
        """Pause the active runs of assistants whose hours are used up; return why the waiting ones go on waiting."""
        own = [record for record in (*waiting, *active) if record.by is not None]
        why = self.settings.agents.used_up(self._runs.records.values()) if own else None
        if why is None:
            return {}
        for record in own:
            if record.active and record.request is None:
                self._runs.guarded(record.number, partial(self.pause, record.number, why))
        return {record.number: why for record in own if record.waiting}

    # ---- requests --------------------------------------------------------------------------------

    def submit(self, body: dict[str, Any], by: str | None = None) -> int:
        """Accept a run; return its number. On disk when this returns. `by`: the assistant that asks. Raises
        QueueError.
        """
        submission, recipe = accept.read_submission(body)
        with self._lock:
            if by is not None:
                self.settings.agents.check_run(recipe, submission.seconds, self._runs.records.values())
            if submission.parent is not None and self._runs.record(submission.parent).logged:
                raise QueueError(lifecycle.not_ours(submission.parent, "repeated"))
            for other in submission.after:
                self._check_after(other, submission.after_any)
            try:
                with next_number(self._home, self._runs.next) as number:
                    run = accept.accept(self._home, number, submission, recipe, by)
            except OSError as error:
                raise QueueError(
                    f"the run cannot be written to {self._home.runs}: {error.strerror}"
                ) from None
            self._runs.next = number + 1
            self._runs.remember(run, journal.read(run))
            log.info("run #%d submitted: %s", number, run.path.name)
            self._on_change(number)
            return number

    def _check_after(self, number: int, after_any: bool) -> None:
        """Refuse a run that waits for what will not come. Raises QueueError."""
        state = self._runs.record(number).state
        if not after_any and state in ENDED and state != RunState.FINISHED:
            raise QueueError(
                f"run #{number} is {state}, so nothing would start after it: resume it first, or use --after-any"
            )

    def agents_used(self) -> Used:
        """Return what assistants have queued in the last day."""
        with self._lock:
            return agents.used(self._runs.records.values(), time.time())

    def requeue(self, number: int, by: str | None = None) -> int:
        """Queue the recipe of an earlier run once more, from the start; return the new run's number."""
        with self._lock:
            self._runs.record(number)
            return self.submit(accept.repeat_submission(self._runs.dirs[number]), by)

    def cancel(self, number: int, cause: str | None = None, by: str | None = None) -> str:
        """Cancel a run; return its state: `cancelled` at once for a waiting run, else unchanged until it ends. `cause`:
        why, where nobody asked.
        """
        line = partial(Cancel, cause=cause, by=by)
        return self._ask_to_end("cancel", number, line, RunState.CANCELLED, cause or _asked_by(by))

    def pause(self, number: int, cause: str | None = None, by: str | None = None) -> str:
        """Pause a run; return its state, as `cancel` does: `paused`, from which it may be resumed. `cause`: why, where
        nobody asked.
        """
        line = partial(Pause, cause=cause, by=by)
        return self._ask_to_end("pause", number, line, RunState.PAUSED, cause or _asked_by(by))

    def _ask_to_end(
        self,
        action: Request,
        number: int,
        line: Callable[[str, str | None], Cancel | Pause],
        state: RunState,
        cause: str | None,
    ) -> str:
        with self._lock:
            record = self._runs.allowed(action, number)
            if record.active:
                why = f"{cause or f'{action} was asked'}; {self._before_end(number)}"
                record = self._runs.write(record, line(record.state, why))
                self._runs.guarded(number, partial(self._attempts.watch, record))
            else:
                self._runs.write(record, line(state, cause))
            return self._runs.records[number].state

    def before_end(self, number: int) -> dict[str, str]:
        """Return what a run does first that is asked to end and goes on for a while, in words; nothing for others."""
        with self._lock:
            return {"first": self._before_end(number)} if self._runs.records[number].active else {}

    def _before_end(self, number: int) -> str:
        own = self._runs.records[number].logged or runs_command(self._runs.dirs[number])
        return "its program was sent SIGTERM" if own else "it saves a checkpoint first"

    def resume(self, number: int) -> str:
        """Queue a cancelled, failed or paused run again, to resume its last whole checkpoint; return its state."""
        with self._lock:
            record = self._runs.allowed("resume", number)
            if why := refuse_foreign(self._runs.dirs[number], "resumed"):
                raise QueueError(why)
            return self._runs.write(record, Requeued(RunState.QUEUED, interruptions=0)).state

    def edit(self, number: int, body: dict[str, Any]) -> dict[str, Any]:
        """Change the recipe of a run that has not begun. Raises QueueError, OSError."""
        submission, recipe = accept.read_submission(body)
        with self._lock:
            record = self._runs.allowed("edit", number)
            edited = accept.edit(self._runs.dirs[number], submission, recipe)
            self._runs.write(record, edited)
            return {"changes": edited.changes}

    def order(self, order: Order, number: int, body: Mapping[str, Any]) -> dict[str, Any]:
        """Change a run's place, its conditions or its words; return what is now so. Raises QueueError."""
        with self._lock:
            record = self._runs.allowed(order, number)
            line = line_for(order, record, body, self._runs.open(active=False))
            return answer(order, self._runs.write(record, line))

    def standing(self, number: int) -> dict[str, Any]:
        """Return what orders change of a run, as it is now."""
        with self._lock:
            return back.standing(self._runs.record(number))

    def put_back(self, number: int, order: str, before: Any) -> dict[str, Any]:
        """Take an order back; return what the run is like then. `before`: what `standing` said. Raises QueueError."""
        with self._lock:
            record = self._runs.record(number)
            for line in back.lines(order, record, back.read(before)):
                record = self._runs.write(record, line)
            return back.standing(record)

    def rename(self, number: int, name: Any) -> dict[str, Any]:
        """Give a run another name; return the one before. Raises QueueError, OSError."""
        name = name_of(name)
        with self._lock:
            record = self._runs.record(number)
            before = accept.rename(self._runs.dirs[number], name)
            self._runs.write(record, Named(name))
            return {"name": name, "before": before}

    def remove(self, number: int, before: Callable[[int], object] = lambda number: None) -> dict[str, Any]:
        """Take an ended or paused run out of the home, from where it can be restored; `before` is called when that is
        certain. Raises QueueError, OSError.
        """
        with self._lock:
            self._runs.allowed("remove", number)
            run = self._runs.dirs[number]
            lock = Lock(run.lock)
            if not lock.acquire():
                raise QueueError(f"an attempt of run #{number} is just ending; try again in a moment")
            try:
                before(number)
                path = removed.remove(self._home, run)
            finally:
                lock.release()
            self._runs.forget(number, removed_to=path)
            return {"path": str(path)}

    def restore(self, number: int) -> dict[str, Any]:
        """Bring back a removed run; the one that was removed last, if there are several. Raises QueueError, OSError."""
        with self._lock:
            removed_run = next(
                (one for one in removed_runs(self._home.removed) if one.number == number), None
            )
            if removed_run is None:
                raise QueueError(f"no run #{number} was removed, or it has been deleted for good")
            if number in self._runs.dirs:
                raise QueueError(
                    f"run #{number} is another run by now; the removed one is in {removed_run.path}"
                )
            self._runs.take_up(removed.restore(self._home, removed_run), moved_in=False)
            self._on_change(number)
            return {"state": self._runs.records[number].state}

    def clean(self, number: int, best: int | None, *, checkpoints: bool) -> dict[str, Any]:
        """Free what an ended run no longer needs (engine/runs/cleaning.py); return the bytes. Raises QueueError,
        OSError.
        """
        with self._lock:
            record = self._runs.allowed("clean", number)
            pieces = cleaning.pieces(self._runs.dirs[number], record.state, best, checkpoints=checkpoints)
            for piece in pieces:
                cleaning.free(piece)
            if pieces:
                self._on_change(number)
            return {"bytes": sum(piece.bytes for piece in pieces)}

    def empty(self) -> int:
        """Delete all removed runs for good; return how many."""
        return removed.empty(self._home, 0.0)

    def tidy(self, keep_removed_s: float, clean_after_s: float | None) -> None:
        """Delete removed runs for good and clean finished ones, as config.toml says."""
        if count := removed.empty(self._home, keep_removed_s):
            log.info("%d removed run%s deleted for good", count, " was" if count == 1 else "s were")
        if clean_after_s is None:
            return
        with self._lock:
            finished = [
                number for number, record in self._runs.records.items() if record.state == RunState.FINISHED
            ]
        for number in finished:
            with self._lock:
                if number in self._runs.dirs:
                    self._runs.guarded(number, partial(self._clean_old, number, time.time() - clean_after_s))

    def _clean_old(self, number: int, before: float) -> None:
        if self._runs.dirs[number].journal.stat().st_mtime > before:
            return
        if freed := self.clean(number, None, checkpoints=False)["bytes"]:
            log.info("run #%d: %d bytes of optimiser states deleted (clean_after_days)", number, freed)

    def counts(self) -> dict[str, Any]:
        """Return the numbers of active and of waiting runs: `{"running": [41], "queued": [42, 43]}`."""
        with self._lock:
            active, waiting = self._runs.open(active=True), self._runs.open(active=False)
            return {"running": [run.number for run in active], "queued": [run.number for run in waiting]}


def _asked_by(agent: str | None) -> str | None:
    return None if agent is None else f"asked by {agent}"
