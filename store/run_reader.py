"""Reads one run: its run.json, its journal, the logs of its attempts in order, and which checkpoints are there."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from finetui.files import read_json
from store import rows, summary
from store.batch import RunRow
from store.explain import explain
from store.identity import claim
from store.known import JOURNAL_NAME, Known
from store.log_reader import LogReader
from store.logs import well_formed
from store.paths import RUN_JSON, attempts_in, checkpoints_in
from store.projection import Projection
from store.run_json import directions_of, run_json
from store.scale_lines import LOG_NAME
from store.scale_rows import scale_line
from store.states import ENDED
from store.writing import Writer


@dataclass(slots=True)
class Watch:
    """A run directory and the attempt whose log is being read (0: none yet)."""

    number: int
    path: Path
    attempt: int = 0


class RunReader:
    """Of one home."""

    def __init__(self, logs: LogReader, known: Known, writer: Writer, projection: Projection) -> None:
        self._logs = logs
        self._known = known
        self._writer = writer
        self._projection = projection

    def begin(self, watch: Watch) -> RunRow:
        """Make the row of a run that has none."""
        state = self._known.states[watch.number] = RunRow(watch.number, summaries={})
        self._read_run_json(watch, state)
        self._writer.batch.new.add(watch.number)
        return state

    def renew(self, watch: Watch, state: RunRow) -> None:
        """Take the run.json of a run that goes on anew: a program that logs its run may go on deciding. What was read
        before has to be in the tables.
        """
        self._writer.batch.renewed.add(watch.number)
        self._read_run_json(watch, state)
        directions, summaries = state.directions or {}, self._summaries(state)
        if any(
            key in directions and one.higher_is_better != directions[key] for key, one in summaries.items()
        ):
            self._writer.batch.turned[watch.number] = directions
            self._writer.flush(self._known)
            state.summaries = None

    def _read_run_json(self, watch: Watch, state: RunRow) -> None:
        path, number, batch = watch.path / RUN_JSON, watch.number, self._writer.batch
        stamp = _stamp(path)  # before it is read: one that is replaced meanwhile is read again
        try:
            body = well_formed(read_json(path))
            problems = run_json(batch, number, watch.path, body)
            state.directions = directions_of(body)
            claim(self._known, batch, number, body)
        except Exception as error:
            run_json(batch, number, watch.path, {})
            problems = [str(error.strerror) if isinstance(error, OSError) else explain(error)]
        for problem in problems:
            rows.unreadable(batch, number, None, 0.0, RUN_JSON, problem, b"")
        batch.runs[number] = state
        self._known.offsets[f"run/{number}"] = stamp
        batch.offsets[f"run/{number}"] = (self._logs.relative(path), stamp)

    def is_edited(self, watch: Watch) -> bool:
        """Whether a recipe is another one than was read: it may be changed until the first attempt."""
        return self._known.offsets.get(f"run/{watch.number}") != _stamp(watch.path / RUN_JSON)

    def read(self, watch: Watch, state: RunRow, *, hot: bool) -> None:
        """Read what its logs have from where they were left. `hot`: look at everything, whatever the journal says.
        Raises Replaced.
        """
        directory, number = watch.path, watch.number
        journal_grew = self._logs.read(
            directory / JOURNAL_NAME, number, None, partial(self._journal, state, directory)
        )
        grew = journal_grew
        grew |= self._logs.read(directory / LOG_NAME, number, None, partial(self._scales, state))
        if journal_grew or hot or state.state not in ENDED:
            grew |= self._read_attempts(watch, state)
        if grew or hot:
            self._look_at_checkpoints(watch)
        if state.state in ENDED and grew:
            self._writer.has_ended(number)

    def _look_at_checkpoints(self, watch: Watch) -> None:
        """Mark the checkpoints that are on the disk: old ones are deleted by the worker, others by people."""
        present = checkpoints_in(watch.path)
        if present != self._known.present.get(watch.number, frozenset()):
            self._known.present[watch.number] = present
            self._writer.batch.present[watch.number] = present

    def _read_attempts(self, watch: Watch, state: RunRow) -> bool:
        """In order; a log is left for good once a later one has been begun. Whether there was anything new."""
        logs = {
            number: watch.path / "attempts" / str(number) / "events.jsonl"
            for number in attempts_in(watch.path)
        }
        if watch.attempt == 0:
            watch.attempt = max(
                (n for n, path in logs.items() if self._logs.relative(path) in self._known.ids), default=0
            )
        grew = False
        for number, path in logs.items():
            if number >= watch.attempt and path.exists():
                watch.attempt = number
                grew |= self._logs.read(
                    path, watch.number, number, partial(self._worker, state, watch, number)
                )
        return grew

    def _journal(self, state: RunRow, directory: Path, entry: dict[str, Any]) -> list[str]:
        return rows.journal_line(self._writer.batch, state, entry, directory)

    def _worker(self, state: RunRow, watch: Watch, attempt: int, entry: dict[str, Any]) -> list[str]:
        if state.directions is None:
            state.directions = _directions(watch.path / RUN_JSON)
        self._summaries(state)
        return rows.worker_line(self._writer.batch, state, attempt, entry)

    def _summaries(self, state: RunRow) -> summary.Summaries:
        if state.summaries is None:
            with self._projection.read() as cursor:
                state.summaries = summary.load(cursor, state.run)
        return state.summaries

    def _scales(self, state: RunRow, entry: dict[str, Any]) -> list[str]:
        return scale_line(self._writer.batch, state.run, entry)


def _directions(path: Path) -> dict[str, bool]:
    """Return what a run.json says of which values are better; nothing where it cannot be read."""
    try:
        return directions_of(well_formed(read_json(path)))
    except (OSError, ValueError):
        return {}


def _stamp(path: Path) -> int:
    """Return when a file was last written, nanoseconds; 0 where there is none."""
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0
