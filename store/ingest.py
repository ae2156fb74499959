"""Tails the logs of a home into the projection: each line exactly once, whenever the process dies.

The byte offset of a log is committed in the same transaction as the rows it covers, under the identity in
the log's header. Attempts of a run are read in order. What cannot be read becomes an `events` row of kind
`unreadable`.

    ingest = Ingest(projection, home.path)
    while not stopping.wait(0.3):
        ingest.poll()          # one round; returns the rows written
    …
    ingest.notify(42)          # "I have just written to run 42": looked at in the next round
    ingest.drain()             # before answering a command: everything on disk is in DuckDB
    ticket = ingest.ask()      # the same from another thread than the one that polls:
    ingest.answered(ticket, wait_s=2.0)

A run is what its directory says. One whose logs were replaced by others is read again from the start; one whose
directory is gone keeps its rows, marked.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb

from finetui.errors import StoreError
from finetui.files import read_json
from finetui.home import Home
from finetui.progress import Progress
from store import rows
from store.explain import explain
from store.known import Known
from store.log_reader import LogReader, Replaced
from store.paths import RUN_JSON, Lister, is_settled, removed_runs
from store.projection import Projection
from store.run_reader import RunReader, Watch
from store.states import ACTIVE, ENDED, RunState
from store.turns import Turns
from store.writing import OF_DATA, Halted, Outdated, Writer

log = logging.getLogger(__name__)

BATCH_ROWS = 200_000  # some 100 MB
# A round that takes longer than this is told to those who ask for data.
TELL_S = 1.0
RATE_S = 2.0  # that a round has gone on before it is said how long it will
GONE = "its directory is gone"
SETTLE_S = 2.0  # that a run.json which cannot be read is left alone: it may be in the middle of a copy
_HOT = ACTIVE | {RunState.INTERRUPTED}


class Ingest:
    """Reads `runs/NNNNNN-slug/` and `hardware.jsonl` under `home`. Thread-safe; one round at a time.

    `poll` and `drain` raise nothing for bad input, a full disk or a failed database: the round is rolled
    back, `problem` says what happened, and the next round tries again.
    """

    def __init__(self, projection: Projection, home: Path, batch_rows: int = BATCH_ROWS) -> None:
        self.problem: str | None = None
        self._projection = projection
        self._home = home
        self._runs_dir = home / "runs"
        self._lock = threading.Lock()
        self._told = threading.Condition()
        self._asked = self._answered = 0
        self._began: float | None = None  # when the round under way began, monotonic
        self._done = self._of = 0  # runs of this round
        self._turns = Turns()
        self._writer = Writer(projection, batch_rows)
        self._known = Known()
        self._forget()

    # ---- rounds ------------------------------------------------------------------------------------------

    def poll(self) -> int:
        """One round over the logs that may have grown; the number of rows written. If somebody asked, over all that
        have not ended.
        """
        with self._lock:
            asked = self._asked
            written = self._round(self._due if asked == self._answered else self._due_now)
        with self._told:
            self._answered = max(asked, self._answered)
            self._told.notify_all()
        return written

    def drain(self) -> int:
        """Read every log of every run that has not ended, and of those notified, to its present end."""
        self.ask()
        return self.poll()

    def ask(self) -> int:
        """Ask for a `drain` in the next `poll`, which another thread calls; return the ticket for `answered`."""
        with self._told:
            self._asked += 1
            return self._asked

    def answered(self, ticket: int, wait_s: float) -> bool:
        """Wait for what was asked; False if it takes longer."""
        with self._told:
            return self._told.wait_for(lambda: self._answered >= ticket, wait_s)

    def halt(self) -> None:
        """End the round under way soon, between two batches, and read nothing any more."""
        self._writer.halted = True

    def caught_up(self, wait_s: float) -> str | None:
        """Wait, at most so long, until all logs have been read once; return what is still being read, or why nothing
        is, in words.
        """
        with self._told:
            self._told.wait_for(lambda: self.reading is None or self.problem is not None, wait_s)
        return self.problem or self.reading

    def notify(self, run: int) -> None:
        """Look at this run in the next round, whatever its state."""
        self._turns.notify(run)

    @property
    def damaged(self) -> dict[int | None, str]:
        """The first thing that could not be read of each run (None: the hardware log)."""
        return self._known.damaged

    @property
    def progress(self) -> Progress | None:
        """How far the logs are read; None where the tables hold all but the last moments."""
        began = self._began
        took = 0.0 if began is None else time.monotonic() - began
        if self._complete and took < TELL_S:
            return None
        done, of = self._done, self._of
        left = took / done * (of - done) if done and took > RATE_S else None
        return Progress(done, of, left)

    @property
    def reading(self) -> str | None:
        """The same in words."""
        progress = self.progress
        return None if progress is None else str(progress)

    def _round(self, due: Callable[[], list[Watch]]) -> int:
        written = self._writer.written
        self._done = self._of = 0
        self._began = time.monotonic()
        try:
            if not self._loaded or self._generation != self._projection.generation:
                self._load()
            self._discover()
            watches = due()
            self._of = len(watches)
            for watch in watches:
                self._read_run(watch)
                self._done += 1
                if self._writer.is_half_full:
                    self._flush()
                if self._writer.has_to_settle:
                    self._flush()
                    self._writer.settle(self._known)
            for name in ("hardware-1.jsonl", "hardware.jsonl"):  # the sampler rotates its log
                self._logs.read(self._home / name, None, None, self._hardware)
            self._flush()
            self._writer.settle(self._known)
            self.problem, self._writer.careful, self._complete = None, False, True
        except (Halted, Outdated):
            self._forget()
        except Exception as error:
            self._give_up(error)
        finally:
            self._began = None
        return self._writer.written - written

    def _flush(self) -> None:
        self._writer.flush(self._known)

    def _hardware(self, entry: dict[str, Any]) -> list[str]:
        return rows.hardware_line(self._writer.batch, entry)

    def _give_up(self, error: Exception) -> None:
        """Drop what is in memory; the next round goes on from what is committed."""
        problem = f"the logs are not read into the database for now: {explain(error)}"
        if problem != self.problem:
            log.error("%s", problem, exc_info=not isinstance(error, duckdb.Error | StoreError | OSError))
        self.problem = problem
        # Data that the database refuses: go line by line until the line is found and set aside.
        self._writer.careful = isinstance(error, OF_DATA) and not self._writer.careful
        self._forget()

    def _forget(self) -> None:
        self._loaded = False
        self._generation = -1
        self._writer.forget()
        self._know(Known(damaged=self._known.damaged))
        self._watches: dict[int, Watch] = {}
        notified, self._turns = self._turns.take_notified(), Turns()
        for run in notified:
            self._turns.notify(run)
        self._lister = Lister(self._runs_dir)
        self._swept = self._complete = False

    def _know(self, known: Known) -> None:
        self._known = known
        self._logs = LogReader(self._home, known, self._writer)
        self._runs = RunReader(self._logs, known, self._writer, self._projection)

    def _load(self) -> None:
        """What is committed: offsets, states of runs."""
        self._forget()
        self._generation = self._writer.generation = self._projection.generation
        with self._projection.read() as cursor:
            self._know(Known.load(cursor))
            live = cursor.execute("SELECT DISTINCT run FROM metrics_live").fetchall()
        self._writer.found_unsettled([run for (run,) in live if self._known.is_final(run)])
        self._loaded = True

    # ---- which runs ----------------------------------------------------------------------------------------

    def _due(self) -> list[Watch]:
        """This round's runs: everything the first time, then the live ones and some of the others in turn."""
        if not self._swept:
            return self._all()
        chosen = self._turns.due(self._watches, self._known.is_final)
        return [self._watches[number] for number in chosen if number in self._watches]

    def _due_now(self) -> list[Watch]:
        if not self._swept:
            return self._all()
        chosen = {*self._turns.take_notified(), *self._turns.hot}
        return [
            watch
            for number, watch in self._watches.items()
            if number in chosen or not self._known.is_final(number)
        ]

    def _all(self) -> list[Watch]:
        self._turns.take_notified()
        self._swept = True  # an error on the way forgets it again
        return list(self._watches.values())

    def _discover(self) -> None:
        """Run directories that have come, gone, or changed their name."""
        listing = self._lister.look(self._known.dirs.get)
        if listing is None:
            return
        runs = listing.runs
        missing = self._known.states.keys() - runs.keys()
        removed = {one.number for one in removed_runs(Home(self._home).removed)} if missing else set()
        for number in missing:
            if number not in self._watches or not self._watches[number].path.is_dir():
                self._lose(number, removed=number in removed)
        for number, path in runs.items():
            watch = self._watches.get(number)
            if watch is None or (watch.path is not path and watch.path != path):
                self._find(number, path)

    def _find(self, number: int, path: Path) -> None:
        """A directory that is new, or new under this name."""
        if number in self._known.states and self._known.states[number].reason == GONE:
            self._start_over(number)
        self._watches[number] = Watch(number, path)
        self._turns.hot.add(number)
        if number in self._known.dirs and self._known.dirs[number] != path:
            self._writer.batch.dirs[number] = str(path)
            stamp = self._known.offsets.get(f"run/{number}", 0)
            self._writer.batch.offsets[f"run/{number}"] = (self._logs.relative(path / RUN_JSON), stamp)
        self._known.dirs[number] = path

    def _lose(self, number: int, *, removed: bool) -> None:
        """Its rows stay, so that nothing goes without a word; what had not ended has now. Those of a run that somebody
        removed go.
        """
        self._watches.pop(number, None)
        self._turns.hot.discard(number)
        if removed:
            copies = self._known.copies_of(number)
            for one in (number, *copies):  # one of the copies has the UUID now
                self._start_over(one)
            self._known.dirs.pop(number, None)
            return
        state = self._known.states[number]
        if state.reason == GONE:
            return
        if state.state not in ENDED:
            state.state, state.ended, state.pid = RunState.CANCELLED.value, time.time(), None
        state.reason = GONE
        self._writer.batch.runs[number] = state
        self._writer.batch.offsets[f"run/{number}"] = (str(number), 0)

    def _start_over(self, number: int) -> None:
        """Drop the rows of a run, to read its logs from the start; who looks sees the old rows or the new."""
        self._flush()
        self._writer.batch.anew.add(number)
        self._known.forget(number)
        self._writer.forget_run(number)
        if number in self._watches:
            self._watches[number].attempt = 0

    # ---- one run -------------------------------------------------------------------------------------------

    def _read_run(self, watch: Watch) -> None:
        try:
            self._read_logs(watch)
        except Replaced:
            log.warning(
                "run #%d: its logs are others than before; they are read from the start", watch.number
            )
            self._start_over(watch.number)
            self._read_logs(watch)

    def _read_logs(self, watch: Watch) -> None:
        number = watch.number
        state = self._known.states.get(number)
        if state is not None and state.state == RunState.QUEUED and self._runs.is_edited(watch):
            self._start_over(number)
            state = None
        active = state if state is not None and state.state in ACTIVE else None
        if active and self._runs.is_edited(watch) and _is_whole(watch.path / RUN_JSON):
            self._flush()
            self._runs.renew(watch, active)
        if state is None:
            if (
                self._complete
                and not is_settled(watch.path, SETTLE_S)
                and not _is_whole(watch.path / RUN_JSON)
            ):
                return  # in the middle of a copy; the run is hot, so the next round looks again
            state = self._runs.begin(watch)
        self._runs.read(watch, state, hot=number in self._turns.hot)
        if state.state in _HOT:
            self._turns.hot.add(number)
        else:
            self._turns.hot.discard(number)


def _is_whole(path: Path) -> bool:
    """Whether a JSON file can be read."""
    try:
        read_json(path)
    except (OSError, ValueError):
        return False
    return True
