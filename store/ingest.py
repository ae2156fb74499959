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
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from finetui.errors import StoreError
from finetui.files import read_json
from finetui.home import Home
from store import rows, summary
from store.batch import STATE_COLUMNS, Batch, RunRow, first_unreadable, forget_run, present_checkpoints
from store.explain import explain
from store.line_fields import BadLine
from store.lines import Header, Resume
from store.logs import Line, header_id, parse, time_before, well_formed, whole_lines
from store.paths import RUN_JSON, Lister, attempts_in, is_settled, removed_runs
from store.projection import Projection
from store.scale_lines import LOG_NAME
from store.scale_rows import scale_line
from store.states import ACTIVE, ENDED, RunState
from store.turns import Turns

log = logging.getLogger(__name__)

BATCH_ROWS = 20_000
# Rows of ended runs that may wait in metrics_live before they are moved.
SETTLE_ROWS = 1_000_000
# A round that takes longer than this is told to those who ask for data.
TELL_S = 1.0
JOURNAL_NAME = "journal.jsonl"
GONE = "its directory is gone"
SETTLE_S = 2.0  # that a run.json which cannot be read is left alone: it may be in the middle of a copy
_HOT = ACTIVE | {RunState.INTERRUPTED}
# What the database says of rows that it cannot take.
_OF_DATA = (
    pa.ArrowException,
    duckdb.DataError,
    duckdb.InvalidInputException,
    OverflowError,
    TypeError,
    ValueError,
)


class _Halted(Exception):  # noqa: N818
    """The daemon stops."""


class _Replaced(Exception):  # noqa: N818
    """A log has another identity than the one that was read from its place."""


@dataclass(slots=True)
class _Watch:
    """A run directory and the attempt whose log is being read (0: none yet)."""

    number: int
    path: Path
    attempt: int = 0


class Ingest:
    """Reads `runs/NNNNNN-slug/` and `hardware.jsonl` under `home`. Thread-safe; one round at a time.

    `poll` and `drain` raise nothing for bad input, a full disk or a failed database: the round is rolled
    back, `problem` says what happened, and the next round tries again. `damaged` has the first thing that could not be
    read of each run (None: the hardware log).
    """

    def __init__(self, projection: Projection, home: Path, batch_rows: int = BATCH_ROWS) -> None:
        self.problem: str | None = None
        self.damaged: dict[int | None, str] = {}
        self._projection = projection
        self._home = home
        self._runs_dir = home / "runs"
        self._batch_rows = batch_rows
        self._lock = threading.Lock()
        self._halted = False
        self._told = threading.Condition()
        self._asked = self._answered = 0
        self._began: float | None = None  # when the round under way began, monotonic
        self._done = self._of = 0  # runs of this round
        self._turns = Turns()
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
        self._halted = True

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
    def reading(self) -> str | None:
        """What is still being read, in words; None where the tables hold all but the last moments."""
        began = self._began
        if self._complete and (began is None or time.monotonic() - began < TELL_S):
            return None
        return f"logs are being read into the database: {self._done:,} of {self._of:,} runs so far"

    def _round(self, due: Callable[[], list[_Watch]]) -> int:
        written = self._written
        self._began = time.monotonic()
        try:
            if not self._loaded or self._generation != self._projection.generation:
                self._load()
            self._discover()
            watches = due()
            self._done, self._of = 0, len(watches)
            for watch in watches:
                self._read_run(watch)
                self._done += 1
                if self._unsettled_rows > SETTLE_ROWS:
                    self._flush()
                    self._settle()
            for name in ("hardware-1.jsonl", "hardware.jsonl"):  # the sampler rotates its log
                self._read_log(self._home / name, None, None, self._hardware)
            self._flush()
            self._settle()
            self.problem, self._careful, self._complete = None, False, True
        except _Halted:
            self._forget()
        except Exception as error:
            self._give_up(error)
        finally:
            self._began = None
        return self._written - written

    def _give_up(self, error: Exception) -> None:
        """Drop what is in memory; the next round goes on from what is committed."""
        problem = f"the logs are not read into the database for now: {explain(error)}"
        if problem != self.problem:
            log.error("%s", problem, exc_info=not isinstance(error, duckdb.Error | StoreError | OSError))
        self.problem = problem
        # Data that the database refuses: go line by line until the line is found and set aside.
        self._careful = isinstance(error, _OF_DATA) and not self._careful
        self._forget()

    def _forget(self) -> None:
        self._loaded = False
        self._generation = -1
        self._batch = Batch()
        self._states: dict[int, RunRow] = {}
        self._watches: dict[int, _Watch] = {}
        self._dirs: dict[int, Path] = {}  # run: directory, as committed
        self._journals: dict[int, str] = {}  # run: identity of its journal
        self._present: dict[int, frozenset[str]] = {}  # run: names of the checkpoints marked as present
        notified, self._turns = self._turns.take_notified(), Turns()
        for run in notified:
            self._turns.notify(run)
        self._ids: dict[str, str] = {}  # path relative to the home: identity of the log
        self._offsets: dict[str, int] = {}
        self._sizes: dict[
            str, int
        ] = {}  # path: size when it was last read, with a torn line at its end perhaps
        self._unsettled: dict[int, None] = {}
        self._unsettled_rows = 0
        self._complained: set[Path] = set()
        self._lister = Lister(self._runs_dir)
        self._swept = self._complete = False

    _written = 0
    _careful = False

    def _load(self) -> None:
        """What is committed: offsets, states of runs."""
        self._forget()
        self._generation = self._projection.generation
        with self._projection.read() as cursor:
            for identity, path, offset in cursor.execute(
                "SELECT log, path, byte_offset FROM ingest"
            ).fetchall():
                self._offsets[identity] = offset
                self._ids[path] = identity
                if path.endswith(f"/{JOURNAL_NAME}"):
                    self._journals[int(identity.partition(".")[0])] = identity
            for row in cursor.execute(f"SELECT {', '.join(STATE_COLUMNS)} FROM runs").fetchall():
                self._states[row[0]] = RunRow(*row)
            self._dirs = {
                run: Path(path) for run, path in cursor.execute("SELECT run, dir FROM runs").fetchall()
            }
            self._present = present_checkpoints(cursor)
            self.damaged = first_unreadable(cursor)
            live = cursor.execute("SELECT DISTINCT run FROM metrics_live").fetchall()
        self._unsettled = {run: None for (run,) in live if self._is_final(run)}
        self._unsettled_rows = SETTLE_ROWS + 1 if self._unsettled else 0
        self._loaded = True

    def _is_final(self, run: int) -> bool:
        return run in self._states and self._states[run].state in ENDED

    # ---- which runs ----------------------------------------------------------------------------------------

    def _due(self) -> list[_Watch]:
        """This round's runs: everything the first time, then the live ones and some of the others in turn."""
        if not self._swept:
            return self._all()
        chosen = self._turns.due(self._watches, self._is_final)
        return [self._watches[number] for number in chosen if number in self._watches]

    def _due_now(self) -> list[_Watch]:
        if not self._swept:
            return self._all()
        chosen = {*self._turns.take_notified(), *self._turns.hot}
        return [
            watch for number, watch in self._watches.items() if number in chosen or not self._is_final(number)
        ]

    def _all(self) -> list[_Watch]:
        self._turns.take_notified()
        self._swept = True  # an error on the way forgets it again
        return list(self._watches.values())

    def _discover(self) -> None:
        """Run directories that have come, gone, or changed their name."""
        listing = self._lister.look(lambda: self._dirs)
        if listing is None:
            return
        runs = listing.runs
        missing = self._states.keys() - runs.keys()
        removed = {one.number for one in removed_runs(Home(self._home).removed)} if missing else set()
        for number in missing:
            if number not in self._watches or not self._watches[number].path.is_dir():
                self._lose(number, removed=number in removed)
        for number, path in runs.items():
            if number not in self._watches or self._watches[number].path != path:
                self._find(number, path)

    def _find(self, number: int, path: Path) -> None:
        """A directory that is new, or new under this name."""
        if number in self._states and self._states[number].reason == GONE:
            self._start_over(number)
        self._watches[number] = _Watch(number, path)
        self._turns.hot.add(number)
        if number in self._dirs and self._dirs[number] != path:
            self._batch.dirs[number] = str(path)
            stamp = self._offsets.get(f"run/{number}", 0)
            self._batch.offsets[f"run/{number}"] = (self._relative(path / RUN_JSON), stamp)
        self._dirs[number] = path

    def _lose(self, number: int, *, removed: bool) -> None:
        """Its rows stay, so that nothing goes without a word; what had not ended has now. Those of a run that somebody
        removed go.
        """
        self._watches.pop(number, None)
        self._turns.hot.discard(number)
        if removed:
            self._start_over(number)
            self._dirs.pop(number, None)
            return
        state = self._states[number]
        if state.reason == GONE:
            return
        if state.state not in ENDED:
            state.state, state.ended, state.pid = RunState.CANCELLED.value, time.time(), None
        state.reason = GONE
        self._batch.runs[number] = state
        self._batch.offsets[f"run/{number}"] = (str(number), 0)

    def _start_over(self, number: int) -> None:
        """Drop the rows of a run, to read its logs from the start."""
        self._flush()
        with self._projection.write() as cursor:
            forget_run(cursor, number)
        for identity in [
            key for key in self._offsets if key.startswith(f"{number}.") or key == f"run/{number}"
        ]:
            del self._offsets[identity]
        self._ids = {path: identity for path, identity in self._ids.items() if identity in self._offsets}
        self._sizes.clear()
        for of_run in (self._states, self._journals, self._present, self._unsettled, self.damaged):
            of_run.pop(number, None)
        if number in self._watches:
            self._watches[number].attempt = 0

    # ---- one run -------------------------------------------------------------------------------------------

    def _read_run(self, watch: _Watch) -> None:
        try:
            self._read_logs(watch)
        except _Replaced:
            log.warning(
                "run #%d: its logs are others than before; they are read from the start", watch.number
            )
            self._start_over(watch.number)
            self._read_logs(watch)

    def _read_logs(self, watch: _Watch) -> None:
        state = self._states.get(watch.number)
        if state is not None and state.state == RunState.QUEUED and self._edited(watch):
            self._start_over(watch.number)
            state = None
        if state is None:
            if (
                self._complete
                and not is_settled(watch.path, SETTLE_S)
                and not _is_whole(watch.path / RUN_JSON)
            ):
                return  # in the middle of a copy; the run is hot, so the next round looks again
            state = self._states[watch.number] = RunRow(watch.number, summaries={})
            self._read_run_json(watch, state)
        directory = watch.path
        journal_grew = self._read_log(
            directory / JOURNAL_NAME, watch, None, partial(self._journal, state, directory)
        )
        grew = journal_grew
        grew |= self._read_log(directory / LOG_NAME, watch, None, partial(self._scales, state))
        hot = watch.number in self._turns.hot
        if journal_grew or hot or state.state not in ENDED:
            grew |= self._read_attempts(watch, state)
        if grew or hot:
            self._look_at_checkpoints(watch)
        if state.state in _HOT:
            self._turns.hot.add(watch.number)
        else:
            self._turns.hot.discard(watch.number)
        if state.state in ENDED and grew:
            self._unsettled[watch.number] = None

    def _read_run_json(self, watch: _Watch, state: RunRow) -> None:
        path, number = watch.path / RUN_JSON, watch.number
        stamp = _stamp(path)  # before it is read: one that is replaced meanwhile is read again
        try:
            problems = rows.run_json(self._batch, number, watch.path, well_formed(read_json(path)))
        except Exception as error:
            rows.run_json(self._batch, number, watch.path, {})
            problems = [str(error.strerror) if isinstance(error, OSError) else explain(error)]
        for problem in problems:
            rows.unreadable(self._batch, number, None, 0.0, RUN_JSON, problem, b"")
        self._batch.runs[number] = state
        self._offsets[f"run/{number}"] = stamp
        self._batch.offsets[f"run/{number}"] = (self._relative(path), stamp)

    def _edited(self, watch: _Watch) -> bool:
        """Whether a recipe is another one than was read: it may be changed until the first attempt."""
        return self._offsets.get(f"run/{watch.number}") != _stamp(watch.path / RUN_JSON)

    def _look_at_checkpoints(self, watch: _Watch) -> None:
        """Mark the checkpoints that are on the disk: old ones are deleted by the worker, others by people."""
        present = frozenset(path.parent.name for path in watch.path.glob("checkpoints/*/COMPLETE"))
        if present != self._present.get(watch.number, frozenset()):
            self._present[watch.number] = present
            self._batch.present[watch.number] = present

    def _read_attempts(self, watch: _Watch, state: RunRow) -> bool:
        """In order; a log is left for good once a later one has been begun. Whether there was anything new."""
        logs = {
            number: watch.path / "attempts" / str(number) / "events.jsonl"
            for number in attempts_in(watch.path)
        }
        if watch.attempt == 0:
            watch.attempt = max(
                (n for n, path in logs.items() if self._relative(path) in self._ids), default=0
            )
        grew = False
        for number, path in logs.items():
            if number >= watch.attempt and path.exists():
                watch.attempt = number
                grew |= self._read_log(path, watch, number, partial(self._worker, state, number))
        return grew

    # ---- one log -------------------------------------------------------------------------------------------

    def _read_log(
        self,
        path: Path,
        watch: _Watch | None,
        attempt: int | None,
        use: Callable[[dict[str, Any]], list[str]],
    ) -> bool:
        """Read on from where it was left; whether there was anything new. One bad file stops no other."""
        try:
            grew = self._read_on(path, watch.number if watch else None, attempt, use)
            if path in self._complained:
                self._complained.discard(path)
                self.damaged.pop(watch.number if watch else None, None)
            return grew
        except OSError as error:
            if path not in self._complained:
                self._complained.add(path)
                log.warning("%s cannot be read: %s", path, error)
                run = watch.number if watch else None
                self.damaged.setdefault(run, f"{self._relative(path)} cannot be read: {error.strerror}")
            return False

    def _read_on(
        self, path: Path, run: int | None, attempt: int | None, use: Callable[[dict[str, Any]], list[str]]
    ) -> bool:
        relative = self._relative(path)
        identity = self._ids.get(relative)
        try:
            size = path.stat().st_size
        except FileNotFoundError:
            return False
        if identity is not None and size in (self._offsets.get(identity), self._sizes.get(relative)):
            return False
        found = header_id(path)
        if found is None:
            return False
        log_id = found or f"path:{relative}"
        before, identity = identity, log_id if run is None else f"{run}.{attempt or 0}/{log_id}"
        if run is not None and (before not in (None, identity) or self._is_strange(path, run, identity)):
            raise _Replaced
        self._ids[relative] = identity
        self._sizes[relative] = size
        offset = self._offsets.get(identity, 0)
        grew = False
        for line in whole_lines(path, offset):
            self._use_line(line, path, run, attempt, use)
            self._offsets[identity] = line.end
            self._batch.offsets[identity] = (relative, line.end)
            grew = True
            if self._batch.resumes and run is not None:
                self._flush()
                self._states[run].summaries = None  # taken back in the tables
                self._present.pop(run, None)
            elif self._batch.n_rows >= self._batch_rows or self._careful:
                self._flush(partial(self._set_aside, line, path, run, attempt))
        return grew

    def _is_strange(self, path: Path, run: int, identity: str) -> bool:
        """Whether a journal is another one than this run had."""
        return path.name == JOURNAL_NAME and self._journals.setdefault(run, identity) != identity

    def _use_line(
        self,
        line: Line,
        path: Path,
        run: int | None,
        attempt: int | None,
        use: Callable[[dict[str, Any]], list[str]],
    ) -> None:
        if not line.text.strip():
            return
        try:
            entry = parse(line.text)
        except BadLine as error:
            self._set_aside(line, path, run, attempt, str(error))
            return
        if entry["kind"] == Header.kind:
            return
        if entry["kind"] == Resume.kind:
            self._flush()  # what it takes back has to be in the tables
        if attempt is not None and run is not None:
            self._load_summaries(self._states[run])
        try:
            left_out = use(entry)
        except (
            BadLine,
            TypeError,
            ValueError,
            ArithmeticError,
            LookupError,
            AttributeError,
            RecursionError,
        ) as error:
            left_out = [str(error)]
        for why in left_out:
            self._set_aside(line, path, run, attempt, why)

    def _set_aside(
        self,
        line: Line,
        path: Path,
        run: int | None,
        attempt: int | None,
        why: str = "the database refuses it",
    ) -> None:
        where, t = f"{path.name}, byte {line.start}", time_before(path, line.start)
        rows.unreadable(self._batch, run, attempt, t, where, why, line.text)

    def _journal(self, state: RunRow, directory: Path, entry: dict[str, Any]) -> list[str]:
        return rows.journal_line(self._batch, state, entry, directory)

    def _load_summaries(self, state: RunRow) -> None:
        if state.summaries is None:
            with self._projection.read() as cursor:
                state.summaries = summary.load(cursor, state.run)

    def _worker(self, state: RunRow, attempt: int, entry: dict[str, Any]) -> list[str]:
        return rows.worker_line(self._batch, state, attempt, entry)

    def _scales(self, state: RunRow, entry: dict[str, Any]) -> list[str]:
        return scale_line(self._batch, state.run, entry)

    def _hardware(self, entry: dict[str, Any]) -> list[str]:
        return rows.hardware_line(self._batch, entry)

    def _relative(self, path: Path) -> str:
        return str(path.relative_to(self._home))

    # ---- writing -------------------------------------------------------------------------------------------

    def _flush(self, set_aside: Callable[[], None] | None = None) -> None:
        """Commit the batch. In careful mode (one line a batch) a line that is refused is set aside."""
        if self._halted:
            raise _Halted
        batch, self._batch = self._batch, Batch()
        if not batch:
            return
        try:
            with self._projection.write() as cursor:
                batch.apply(cursor)
        except _OF_DATA:
            if not (self._careful and set_aside):
                raise
            set_aside()
            self._batch.offsets = batch.offsets
            aside, self._batch = self._batch, Batch()
            with self._projection.write() as cursor:
                aside.apply(cursor)
            self._careful = False
            batch = aside
        self.damaged = {**batch.damaged, **self.damaged}
        self._written += batch.n_rows
        if self._unsettled:
            self._unsettled_rows += batch.n_rows

    def _settle(self) -> None:
        """Move the metrics of ended runs to the clustered table."""
        runs = [run for run in self._unsettled if self._is_final(run)]
        self._unsettled, self._unsettled_rows = {}, 0
        if not runs:
            return
        with self._projection.write() as cursor:
            chosen = {"runs": runs}
            cursor.execute(
                "INSERT INTO metrics_cold SELECT * FROM metrics_live WHERE list_contains($runs, run)"
                " ORDER BY run, key, step",
                chosen,
            )
            cursor.execute("DELETE FROM metrics_live WHERE list_contains($runs, run)", chosen)
        for run in runs:
            self._states[run].summaries = None


def _is_whole(path: Path) -> bool:
    """Whether a JSON file can be read."""
    try:
        read_json(path)
    except (OSError, ValueError):
        return False
    return True


def _stamp(path: Path) -> int:
    """Return when a file was last written, nanoseconds; 0 where there is none."""
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0
