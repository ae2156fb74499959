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
"""

from __future__ import annotations

import json
import logging
import re
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
from store import rows, summary
from store.batch import STATE_COLUMNS, Batch, RunRow
from store.explain import explain
from store.line_fields import BadLine
from store.lines import Header, Resume
from store.logs import Line, header_id, parse, time_before, well_formed, whole_lines
from store.projection import Projection
from store.states import ACTIVE, ENDED, RunState

log = logging.getLogger(__name__)

BATCH_ROWS = 20_000
# Runs without a worker are looked at in turn, so many a round, so that thousands of them cost nothing.
WAITING_PER_ROUND = 200
ENDED_PER_ROUND = 50
# Rows of ended runs that may wait in metrics_live before they are moved.
SETTLE_ROWS = 1_000_000
RUN_NAME = r"\d+-[a-z0-9-]+"
_HOT = ACTIVE | {RunState.INTERRUPTED}


@dataclass(slots=True)
class _Watch:
    """A run directory and the attempt whose log is being read (0: none yet)."""

    number: int
    path: Path
    attempt: int = 0


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
        self._batch_rows = batch_rows
        self._lock = threading.Lock()
        self._notified: set[int] = set()
        self._forget()

    # ---- rounds ------------------------------------------------------------------------------------------

    def poll(self) -> int:
        """One round over the logs that may have grown; the number of rows written."""
        with self._lock:
            return self._round(self._due)

    def drain(self) -> int:
        """Read every log of every run that has not ended, and of those notified, to its present end."""
        with self._lock:
            return self._round(self._due_now)

    def notify(self, run: int) -> None:
        """Look at this run in the next round, whatever its state."""
        self._notified.add(run)

    def _round(self, due: Callable[[], list[_Watch]]) -> int:
        written = self._written
        try:
            if not self._loaded or self._generation != self._projection.generation:
                self._load()
            self._discover()
            for watch in due():
                self._read_run(watch)
                if self._unsettled_rows > SETTLE_ROWS:
                    self._flush()
                    self._settle()
            for name in ("hardware-1.jsonl", "hardware.jsonl"):  # the sampler rotates its log
                self._read_log(self._home / name, None, None, self._hardware)
            self._flush()
            self._settle()
            self.problem, self._careful = None, False
        except (duckdb.Error, pa.ArrowException, StoreError, OSError) as error:
            self._give_up(error)
        return self._written - written

    def _give_up(self, error: Exception) -> None:
        """Drop what is in memory; the next round goes on from what is committed."""
        problem = f"the logs are not read into the database for now: {explain(error)}"
        if problem != self.problem:
            log.error("%s", problem)
        self.problem = problem
        # Data that the database refuses: go line by line until the line is found and set aside.
        self._careful = isinstance(error, pa.ArrowException | duckdb.DataError) and not self._careful
        self._forget()

    def _forget(self) -> None:
        self._loaded = False
        self._generation = -1
        self._batch = Batch()
        self._states: dict[int, RunRow] = {}
        self._watches: dict[int, _Watch] = {}
        self._pending: set[Path] = set()  # directories without a run.json yet
        self._seen: set[str] = set()
        self._hot: set[int] = set()
        self._waiting_turn: list[int] = []
        self._ended_turn: list[int] = []
        self._ids: dict[str, str] = {}  # path relative to the home: identity of the log
        self._offsets: dict[str, int] = {}
        self._unsettled: dict[int, None] = {}
        self._unsettled_rows = 0
        self._complained: set[Path] = set()
        self._listed_ns = -1
        self._swept = False

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
            for row in cursor.execute(f"SELECT {', '.join(STATE_COLUMNS)} FROM runs").fetchall():
                self._states[row[0]] = RunRow(*row)
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
        chosen = dict.fromkeys([*self._take_notified(), *sorted(self._hot)])
        if len(self._waiting_turn) == 0 and len(self._ended_turn) == 0:
            for number in self._watches:
                turn = self._ended_turn if self._is_final(number) else self._waiting_turn
                turn.append(number)
        for turn, n in ((self._waiting_turn, WAITING_PER_ROUND), (self._ended_turn, ENDED_PER_ROUND)):
            chosen.update(dict.fromkeys(turn[-n:]))
            del turn[-n:]
        return [self._watches[number] for number in chosen if number in self._watches]

    def _due_now(self) -> list[_Watch]:
        if not self._swept:
            return self._all()
        notified = set(self._take_notified())
        return [
            watch
            for number, watch in self._watches.items()
            if number in notified or not self._is_final(number)
        ]

    def _all(self) -> list[_Watch]:
        self._take_notified()
        self._swept = True  # an error on the way forgets it again
        return list(self._watches.values())

    def _take_notified(self) -> list[int]:
        taken = list(self._notified)
        self._notified.difference_update(taken)
        return taken

    def _discover(self) -> None:
        """New run directories. A directory changed in the last two seconds may change again unseen."""
        try:
            changed_ns = self._runs_dir.stat().st_mtime_ns
        except FileNotFoundError:
            return
        if changed_ns != self._listed_ns:
            settled = time.time_ns() - changed_ns > 2_000_000_000
            for name in sorted(path.name for path in self._runs_dir.iterdir()):
                if name not in self._seen and re.fullmatch(RUN_NAME, name):
                    self._seen.add(name)
                    self._pending.add(self._runs_dir / name)
            self._listed_ns = changed_ns if settled else -1
        for path in sorted(self._pending):
            if (path / "run.json").exists():
                self._pending.discard(path)
                number = int(path.name.partition("-")[0])
                if number in self._watches and self._watches[number].path.exists() and _is_copy(path):
                    continue
                self._watches[number] = _Watch(number, path)
                self._hot.add(number)

    # ---- one run -------------------------------------------------------------------------------------------

    def _read_run(self, watch: _Watch) -> None:
        state = self._states.get(watch.number)
        if state is None:
            state = self._states[watch.number] = RunRow(watch.number, summaries={})
            self._read_run_json(watch, state)
        directory = watch.path
        journal_grew = self._read_log(
            directory / "journal.jsonl", watch, None, partial(self._journal, state, directory)
        )
        grew = journal_grew
        if journal_grew or watch.number in self._hot or state.state not in ENDED:
            grew |= self._read_attempts(watch, state)
        if state.state in _HOT:
            self._hot.add(watch.number)
        else:
            self._hot.discard(watch.number)
        if state.state in ENDED and grew:
            self._unsettled[watch.number] = None

    def _read_run_json(self, watch: _Watch, state: RunRow) -> None:
        path = watch.path / "run.json"
        try:
            body = well_formed(json.loads(path.read_bytes()))
            if not isinstance(body, dict):
                raise ValueError("not an object")
            rows.run_json(self._batch, watch.number, watch.path, body)
        except (ValueError, BadLine, AttributeError) as error:
            rows.run_json(self._batch, watch.number, watch.path, {})
            rows.unreadable(self._batch, watch.number, None, 0.0, "run.json", str(error), b"")
        self._batch.runs[watch.number] = state
        self._batch.offsets[f"run/{watch.number}"] = (self._relative(path), 0)

    def _read_attempts(self, watch: _Watch, state: RunRow) -> bool:
        """In order; a log is left for good once a later one has been begun. Whether there was anything new."""
        try:
            names = [path.name for path in (watch.path / "attempts").iterdir()]
        except OSError:
            return False
        numbers = sorted(int(name) for name in names if name.isdigit())
        logs = {number: watch.path / "attempts" / str(number) / "events.jsonl" for number in numbers}
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
        self, path: Path, watch: _Watch | None, attempt: int | None, use: Callable[[dict[str, Any]], None]
    ) -> bool:
        """Read on from where it was left; whether there was anything new. One bad file stops no other."""
        try:
            return self._read_on(path, watch.number if watch else None, attempt, use)
        except OSError as error:
            if path not in self._complained:
                self._complained.add(path)
                log.warning("%s cannot be read: %s", path, error)
            return False

    def _read_on(
        self, path: Path, run: int | None, attempt: int | None, use: Callable[[dict[str, Any]], None]
    ) -> bool:
        relative = self._relative(path)
        identity = self._ids.get(relative)
        try:
            size = path.stat().st_size
        except FileNotFoundError:
            return False
        if identity is not None and size == self._offsets.get(identity):
            return False
        found = header_id(path)
        if found is None:
            return False
        identity = found or f"path:{relative}"
        self._ids[relative] = identity
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
            elif self._batch.n_rows >= self._batch_rows or self._careful:
                self._flush(partial(self._set_aside, line, path, run, attempt))
        return grew

    def _use_line(
        self,
        line: Line,
        path: Path,
        run: int | None,
        attempt: int | None,
        use: Callable[[dict[str, Any]], None],
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
            use(entry)
        except (BadLine, TypeError, ValueError, AttributeError) as error:
            self._set_aside(line, path, run, attempt, str(error))

    def _set_aside(
        self,
        line: Line,
        path: Path,
        run: int | None,
        attempt: int | None,
        why: str = "the database refuses it",
    ) -> None:
        where = f"{path.name}, byte {line.start}"
        t = time_before(path, line.start)
        rows.unreadable(self._batch, run, attempt, t, where, why, line.text)

    def _journal(self, state: RunRow, directory: Path, entry: dict[str, Any]) -> None:
        rows.journal_line(self._batch, state, entry, directory)

    def _load_summaries(self, state: RunRow) -> None:
        if state.summaries is None:
            with self._projection.read() as cursor:
                state.summaries = summary.load(cursor, state.run)

    def _worker(self, state: RunRow, attempt: int, entry: dict[str, Any]) -> None:
        rows.worker_line(self._batch, state, attempt, entry)

    def _hardware(self, entry: dict[str, Any]) -> None:
        rows.hardware_line(self._batch, entry)

    def _relative(self, path: Path) -> str:
        return str(path.relative_to(self._home))

    # ---- writing -------------------------------------------------------------------------------------------

    def _flush(self, set_aside: Callable[[], None] | None = None) -> None:
        """Commit the batch. In careful mode (one line a batch) a line that is refused is set aside."""
        batch, self._batch = self._batch, Batch()
        if not batch:
            return
        try:
            with self._projection.write() as cursor:
                batch.apply(cursor)
        except (pa.ArrowException, duckdb.DataError):
            if not (self._careful and set_aside):
                raise
            set_aside()
            self._batch.offsets = batch.offsets
            aside, self._batch = self._batch, Batch()
            with self._projection.write() as cursor:
                aside.apply(cursor)
            self._careful = False
            batch = aside
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


def _is_copy(path: Path) -> bool:
    """Whether a run's directory has another name than it was given: somebody copied it."""
    number = int(path.name.partition("-")[0])
    try:
        return f"{number:06d}-{json.loads((path / 'run.json').read_bytes())['slug']}" != path.name
    except (OSError, ValueError, KeyError, TypeError):
        return True
