"""The runs of a home as the daemon knows them: their directories, their records, and what is wrong with them.

Each change is written to the run's journal, durable, before it counts. Not for use from several threads: the supervisor
guards it with its lock.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from engine.basics.errors import QueueError
from engine.queue import recovery
from engine.queue.executor import Executor, Processes
from engine.queue.logged import LoggedRuns
from engine.recipe.kinds import LOGGED
from engine.runs import journal, lifecycle
from engine.runs.home import RunDir
from engine.runs.journal import RunRecord
from engine.runs.lifecycle import Action
from engine.runs.submitted import submitted_value
from finetui.home import Home
from finetui.numbers import last_number, note_given
from store.journal_lines import Ended, JournalLine
from store.paths import Lister, Listing, is_settled, removed_runs
from store.states import RunState

log = logging.getLogger("finetui.queue")

SETTLE_S = 2.0  # that a directory which appears is left alone: it may be in the middle of a copy


class KnownRuns:
    """All runs of a home."""

    def __init__(
        self,
        home: Home,
        executor: Executor,
        logged: LoggedRuns,
        on_change: Callable[[int], object],
        on_end: Callable[[RunDir, RunRecord], object],
    ) -> None:
        self.dirs: dict[int, RunDir] = {}
        self.records: dict[int, RunRecord] = {}
        self.open_numbers: set[int] = set()  # waiting or active: those that are looked at all the time
        self.next = 1  # the number of the next run
        self.problems: dict[int, str] = {}  # run → error at its last tick
        self.damaged: dict[int, str] = {}  # run → what is wrong with its journal
        self._home, self._executor, self._logged = home, executor, logged
        self._on_change, self._on_end = on_change, on_end
        self._lister = Lister(home.runs)
        self._gone: dict[int, Path] = {}  # runs whose directory has gone → where it was

    def recover(self, last: int, known: Mapping[int, Path]) -> None:
        """Read the state of all runs from their directories, as a daemon begins."""
        self.next = max(last, last_number(self._home)) + 1
        with suppress(OSError):  # a full disk; nothing is made there then
            note_given(self._home, self.next - 1)
        listing = self._lister.look(known.get) or Listing()
        for path in listing.runs.values():
            self.take_up(RunDir(path), moved_in=False)

    @property
    def refused(self) -> list[str]:
        """Directories that are not read, each with why and what to do."""
        return list(self._lister.listing.refused.values())

    def look(self) -> None:
        """Find directories of runs that have come, gone or changed their name."""
        listing = self._lister.look(lambda number: self.dirs[number].path if number in self.dirs else None)
        if listing is None:
            return
        for number in self.dirs.keys() - listing.runs.keys():
            if not self.dirs[number].path.is_dir():
                self.forget(number)
        for number, path in listing.runs.items():
            known = self.dirs.get(number)
            if known is None or (known.path is not path and known.path != path):
                if known is not None:
                    self.forget(number)
                run = RunDir(path)
                if not is_settled(path, SETTLE_S) and not journal.read(run).logged:  # these appear whole
                    self._lister.again()
                    continue
                self.take_up(run, moved_in=True)
                self._on_change(number)

    def take_up(self, run: RunDir, *, moved_in: bool) -> None:
        """Take a run's directory as it is found. Whatever is wrong with it costs no other run anything."""
        number = run.number
        self._gone.pop(number, None)
        self.next = max(self.next, number + 1)
        try:
            reading = journal.read_whole(run)
            if reading.bad and submitted_value(run, LOGGED, bool) is True:
                reading = replace(reading, record=replace(reading.record, logged=True))
            if problem := recovery.journal_problem(run, reading):
                self.damaged[number] = (
                    f"run #{number}: {problem}; the rest is used, the file is left as it is"
                )
            line = recovery.line_for(run, reading, self._executor, moved_in=moved_in)
        except Exception as error:
            log.exception("run #%d: its directory cannot be read", number)
            self.damaged[number] = f"run #{number} is left alone: {type(error).__name__}: {error}"
            self.remember(run, RunRecord(number, RunState.PAUSED, "its directory cannot be read"))
            return
        self.remember(run, reading.record)
        if line is None:
            return
        try:
            self.write(reading.record, line)
        except OSError as error:
            self.damaged[number] = f"run #{number}: {run.journal} cannot be written: {error.strerror}"
            self.remember(run, replace(reading.record, state=RunState.PAUSED, reason=line.reason))

    def forget(self, number: int, removed_to: Path | None = None) -> None:
        """End what a run without its directory still does, and forget the run."""
        run, record = self.dirs.pop(number), self.records.pop(number)
        if removed_to is None:
            log.warning("run #%d: its directory %s is gone", number, run.path)
        else:
            log.info("run #%d: removed, now %s", number, removed_to)
        self._executor.drop_order(run)
        if record.logged:
            self._logged.forget(run)
        elif record.active:
            self._executor.kill(Processes(record.shim, record.worker))
        self.open_numbers.discard(number)
        self._gone[number] = run.path
        for of_run in (self.problems, self.damaged):
            of_run.pop(number, None)
        self._on_change(number)

    def record(self, number: int) -> RunRecord:
        if number in self.records:
            return self.records[number]
        if any(one.number == number for one in removed_runs(self._home.removed)):
            raise QueueError(f"run #{number} was removed; finetui restore {number} brings it back")
        if number in self._gone:
            raise QueueError(
                f"the directory of run #{number}, {self._gone[number]}, is gone, and the run with it"
            )
        last = f"the last one is #{max(self.records)}" if self.records else "there are none yet"
        raise QueueError(f"there is no run #{number}; {last}")

    def allowed(self, action: Action, number: int) -> RunRecord:
        record = self.record(number)
        if reason := lifecycle.refusal(action, record):
            raise QueueError(reason)
        return record

    def open(self, *, active: bool) -> list[RunRecord]:
        records = (self.records[number] for number in sorted(self.open_numbers))
        return [record for record in records if record.active == active]

    def write(self, record: RunRecord, line: JournalLine) -> RunRecord:
        """Append to the run's journal and update its record. Raises OSError (disk full)."""
        run = self.dirs[record.number]
        record = journal.append(run, record, line)
        self.remember(run, record)
        reason = f" ({record.reason})" if record.reason and line.state is not None else ""
        log.info("run #%d: %s, now %s%s", record.number, line.kind, record.state, reason)
        self._on_change(record.number)
        if isinstance(line, Ended):
            self._on_end(run, record)
        return record

    def remember(self, run: RunDir, record: RunRecord) -> None:
        self.dirs[record.number], self.records[record.number] = run, record
        if record.waiting or record.active:
            self.open_numbers.add(record.number)
        else:
            self.open_numbers.discard(record.number)

    def guarded(self, number: int, step: Callable[[], object]) -> None:
        """Run a step for one run. If it fails (files that cannot be written or read), report that and try again at
        the next tick.
        """
        try:
            step()
        except Exception as error:
            if not self.dirs[number].path.is_dir():
                self.forget(number)
                return
            message = f"run #{number}: {type(error).__name__}: {error}"
            if self.problems.get(number) != message:
                log.exception("run #%d: unexpected", number)
            self.problems[number] = message
        else:
            self.problems.pop(number, None)
