"""The attempts of the queue's runs: how one is started, watched, asked to stop, and how its end is recorded.

Not for use from several threads: the supervisor guards it with its lock.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from functools import partial

from engine.basics.process import Identity, alive
from engine.queue import recovery
from engine.queue.executor import Executor, Processes
from engine.queue.known_runs import KnownRuns
from engine.queue.logged import LoggedRuns
from engine.queue.machine_use import ActiveRun
from engine.queue.scheduler import Start
from engine.queue.settings import Settings
from engine.runs import disk, lifecycle
from engine.runs.journal import RunRecord
from engine.runs.remains import remains_of
from finetui.lock import Lock
from store.journal_lines import Ended, Running, Started, Starting
from store.states import RunState

log = logging.getLogger("finetui.queue")


class Attempts:
    """At most one active attempt a run. `settings` may be replaced; active attempts keep the device and threads that
    they have.
    """

    def __init__(self, executor: Executor, runs: KnownRuns, logged: LoggedRuns, settings: Settings) -> None:
        self.settings = settings
        self._executor, self._runs, self._logged = executor, runs, logged
        # Run and attempt → when SIGTERM was sent, monotonic.
        self._stop_requested: dict[tuple[int, int], float] = {}

    def start(self, start: Start) -> None:
        """Start an attempt. The journal first: a shim starts only what the journal says is starting."""
        record, run = self._runs.records[start.run], self._runs.dirs[start.run]
        if problem := recovery.run_json_problem(run):
            self._runs.write(record, Ended(RunState.FAILED, reason=problem))
            return
        attempt = max([record.attempt, *(attempt.number for attempt in run.attempts())]) + 1
        threads = self.settings.threads
        price = self.settings.budget.price_of(start.device)
        record = self._runs.write(
            record, Starting(attempt, RunState.STARTING, start.device, threads, price=price)
        )
        start_shim = partial(self._executor.start, run, attempt, start.device, threads, record.processes)
        self._started(record, start_shim)

    def _started(self, record: RunRecord, start_shim: Callable[[], Identity | None]) -> RunRecord:
        """Note the shim that was started, if there is one already, or why none could be."""
        try:
            shim = start_shim()
        except OSError as error:
            reason = f"cannot start a process: {error}"
            if disk.is_full(error):
                return self._runs.write(record, lifecycle.not_begun(record, reason))
            lost = lifecycle.interruption(record, record.checkpoint, reason, retry_s=self.settings.retry_s)
            return self._runs.write(record, lost)
        if shim is None:
            return record
        threads = self.settings.threads
        return self._runs.write(record, Started(record.attempt, record.device, threads, **shim.to_dict()))

    def watch(self, record: RunRecord) -> None:
        """Look at a run's active attempt: note that it runs or has ended, and have it stop if that was asked."""
        run = self._runs.dirs[record.number]
        if record.logged:
            if ended := self._logged.look(run, record):
                self._runs.write(record, ended)
            return
        if self._executor.is_ordered(run):
            if record.request is not None:
                self._executor.drop_order(run)
            else:
                record = self._started(record, partial(self._executor.collect, run))
            if self._executor.is_ordered(run) or not record.active:
                return
        processes = self._executor.find_processes(run, record)
        if not processes.alive:
            self._conclude(record)
            return
        if record.state == RunState.STARTING and processes.worker is not None:
            identity = processes.worker.to_dict()
            record = self._runs.write(
                record, Running(record.attempt, RunState.RUNNING, record.reason, **identity)
            )
        if record.request is not None:
            self._request_stop(record, processes)

    def _request_stop(self, record: RunRecord, processes: Processes) -> None:
        """Send SIGTERM once, and SIGKILL after the grace period."""
        if processes.worker is None:
            return
        now, attempt = time.monotonic(), (record.number, record.attempt)
        if attempt not in self._stop_requested:
            self._executor.ask_to_stop(processes.worker)
        if now - self._stop_requested.setdefault(attempt, now) > self.settings.grace_s:
            log.info("run #%d did not stop in %g s; killing it", record.number, self.settings.grace_s)
            self._executor.kill(processes)

    def _conclude(self, record: RunRecord) -> None:
        """Record the outcome of an attempt whose processes are gone.

        Under the shim's lock: a shim that an earlier daemon started and that is only now beginning either has
        the lock, and then we try again at the next tick, or reads in the journal that it is too late.
        """
        run = self._runs.dirs[record.number]
        lock = Lock(run.lock)
        if not lock.acquire():
            return
        try:
            processes = self._executor.find_processes(run, record)
            if processes.alive:
                return
            self._executor.kill(processes)  # what a killed worker left in its process group
            remains = remains_of(run, record)
            self._runs.write(record, lifecycle.verdict(record, remains, self.settings.retry_s))
        finally:
            lock.release()

    def active_runs(self) -> list[ActiveRun]:
        """Return the runs with an attempt, their devices and the processes that these begin with."""
        active = []
        for record in self._runs.open(active=True):
            processes = self._executor.find_processes(self._runs.dirs[record.number], record)
            pids = [one.pid for one in (processes.shim, processes.worker) if one and alive(one)]
            active.append(ActiveRun(record.number, record.device or "", tuple(pids)))
        return active
