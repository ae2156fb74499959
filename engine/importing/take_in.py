"""Importing: each run that was found is read, and becomes a run directory, or adds to the one that it is already.

Beside the daemon, which takes up directories that appear. One import at a time in a home, under a lock of its own.
"""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

from engine.basics.errors import QueueError
from engine.curves.points import Point
from engine.importing import make
from engine.importing.batch import UNFINISHED, Batch, clear_unfinished
from engine.importing.foreign import Candidate, Foreign, Unusable
from engine.importing.known import Known, KnownRun, known_runs
from engine.runs import journal
from engine.runs.events import events_of
from engine.runs.home import AttemptDir, RunDir
from engine.runs.imported import KEY, TITLES
from finetui.errors import first_line
from finetui.files import read_json, sync, write_json
from finetui.home import Home
from finetui.lock import Lock
from finetui.numbers import take
from store.lines import Log, Metrics, Resume, WorkerLine

LOCK = "import.lock"
What = Literal["new", "grown", "known", "removed", "failed"]


@dataclass(frozen=True)
class Outcome:
    """What became of a run that was found."""

    what: What
    tool: str
    place: str
    number: int | None = None  # here
    name: str = ""
    state: str = ""
    steps: int = 0
    metrics: int = 0  # names
    points: int = 0  # new ones
    notes: Sequence[str] = ()
    why: str = ""  # it failed


@contextmanager
def alone(home: Home) -> Iterator[None]:
    """Be the only import of a home, and clear away what one left that was killed. Raises QueueError."""
    with Lock(home.path / LOCK).held(0.0) as got:
        if not got:
            raise QueueError("another import is running in this home; wait until it has ended")
        clear_unfinished(home)
        yield


def take_in(
    home: Home, candidates: Sequence[Candidate], *, dry: bool, settled: Callable[[], object] = lambda: None
) -> Iterator[Outcome]:
    """Import runs; `dry`: only say what would be done; `settled` is called when some have become runs. A run that
    cannot be read costs no other anything. Raises OSError where the home cannot be written to, and Unusable where a
    library is missing.
    """
    known, batch = known_runs(home), Batch(home)
    waiting: list[Outcome] = []  # for the batch
    last: int | None = None  # number that was taken
    for candidate in candidates:
        if batch.full:
            batch.settle()
            yield from waiting
            waiting = []
            settled()
        if one := known.unchanged(candidate.tool, candidate.place, candidate.stamp):
            waiting.append(_known(candidate, one))
            continue
        run = _read(candidate)
        if isinstance(run, str):
            waiting.append(Outcome("failed", candidate.tool, candidate.place, why=run))
            continue
        if one := known.by_id.get((candidate.tool, run.id)):
            batch.settle()  # it may be one of it
            waiting.append(_go_on(candidate, run, one, known, dry=dry))
            continue
        if not dry:
            last = take(home, last)
            parent = known.by_id.get((candidate.tool, run.parent)) if run.parent else None
            made = make.make(batch, last, candidate, run, parent.number if parent else None)
            known.add(KnownRun(last, make.origin_of(candidate, run), made))
        waiting.append(_outcome("new", candidate, run, last, make.measured(run.points)))
    batch.settle()
    yield from waiting
    settled()


def _read(candidate: Candidate) -> Foreign | str:
    """Read a run; return in words why it cannot be. Raises Unusable where a library is missing."""
    try:
        return candidate.read()
    except ImportError as error:
        missing = error.name or "a library"
        raise Unusable(
            f"{TITLES[candidate.tool]} cannot be read, since {missing} is missing: install finetui[curves]"
        ) from None
    except Exception as error:  # whatever the files hold
        return _why(candidate, error)


def _why(candidate: Candidate, error: Exception) -> str:
    if isinstance(error, Unusable):
        return str(error)
    if isinstance(error, OSError):
        return f"{error.filename or candidate.place}: {error.strerror}"
    return f"{candidate.place}: {type(error).__name__}: {first_line(error)}"


def _known(candidate: Candidate, one: KnownRun) -> Outcome:
    return Outcome("known" if one.run is not None else "removed", candidate.tool, candidate.place, one.number)


def _outcome(
    what: What, candidate: Candidate, run: Foreign, number: int | None, points: make.Measured
) -> Outcome:
    return Outcome(
        what,
        candidate.tool,
        candidate.place,
        number,
        run.name,
        run.state,
        max((step for step, _ in points), default=0),
        len({name for _, name in points}),
        len(points),
        run.notes,
    )


def _go_on(candidate: Candidate, run: Foreign, one: KnownRun, known: Known, *, dry: bool) -> Outcome:
    """Add what is new to a run that was imported before, as one more attempt. What was measured is never taken away."""
    if one.run is None:
        return _known(candidate, one)
    before = _measured_in(one.run)
    now = make.measured(run.points)
    changed = [key for key, point in now.items() if not _same(before.get(key), point)]
    record = journal.read(one.run)
    attempt = max((attempt.number for attempt in one.run.attempts()), default=0)
    unsaid = record.attempt < attempt  # an import was killed before it came to the journal
    if not changed and not unsaid and record.state == run.state:
        if not dry:
            _remember(candidate, run, one, known)
        return _known(candidate, one)
    first = min((step for step, _ in changed), default=0)
    later = {key: point for key, point in {**before, **now}.items() if key[0] >= first} if changed else {}
    if not dry:
        if changed:
            attempt += 1
            _add_attempt(one.run, attempt, candidate, run, later, first)
        began = min((point.t for point in later.values() if point.t), default=run.ended)
        make.append_journal(one.run, make.ended_lines(run, attempt, began))
        _remember(candidate, run, one, known)
    return _outcome("grown", candidate, run, one.number, {key: now[key] for key in changed})


def _add_attempt(
    directory: RunDir, number: int, candidate: Candidate, run: Foreign, points: make.Measured, first: int
) -> None:
    """Write a further attempt, which takes back what earlier ones say from its first step on. Whole or not at all."""
    final = directory.attempt(number)
    unfinished = AttemptDir(final.path.with_name(f"{UNFINISHED}{number}"))
    shutil.rmtree(unfinished.path, ignore_errors=True)
    unfinished.path.mkdir(mode=0o700)
    lines: list[WorkerLine] = [
        Resume(first - 1),
        Log("info", f"went on in {TITLES[candidate.tool]}: {candidate.place}"),
    ]
    make.write_events(unfinished.events, directory.number, number, run, points, lines, sync=True)
    sync(unfinished.path)
    unfinished.path.rename(final.path)
    sync(final.path.parent)


def _remember(candidate: Candidate, run: Foreign, one: KnownRun, known: Known) -> None:
    """Note in run.json how far it was read, and where."""
    if one.run is None:
        return
    origin = make.origin_of(candidate, run)
    write_json(one.run.meta, {**read_json(one.run.meta), KEY: origin})
    known.add(KnownRun(one.number, origin, one.run))


def _measured_in(run: RunDir) -> dict[tuple[int, str], Point]:
    return {
        (line.step, name): Point(line.step, name, float(value))  # "NaN" is text in the log
        for line in events_of(run, Metrics)
        if isinstance(line, Metrics)
        for name, value in line.values.items()
        if value is not None
    }


def _same(one: Point | None, other: Point) -> bool:
    if one is None:
        return False
    return one.value == other.value or (math.isnan(one.value) and math.isnan(other.value))
