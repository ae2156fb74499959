"""Runs of another home: their directories, copied whole."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator, Mapping
from typing import Any

from engine.basics.process import alive
from engine.basics.wording import size
from engine.importing.batch import Batch
from engine.importing.foreign import Unusable
from engine.importing.known import known_runs
from engine.importing.take_in import Outcome
from engine.runs import arrived, journal
from engine.runs.home import RunDir, run_dirs
from engine.runs.imported import KEY, OURS, origin
from engine.runs.removed import bytes_of
from engine.runs.submitted import submitted_value
from engine.runs.sweep_plan import read_plan, write_plan
from finetui.files import read_json, write_json
from finetui.home import Home
from finetui.lock import Lock
from finetui.log import LogWriter
from finetui.new_run import slugify
from finetui.numbers import take
from store.journal_lines import Adopted
from store.line_fields import last_line, write
from store.lines import End
from store.paths import removed_runs

LEFT = ("lock", "shim.log", "*.tmp")
SPARE = 1 << 30  # bytes of the disk that are left free
FROM = "another home"
ELSEWHERE = "its runs were imported from another home"


def take_in_home(home: Home, other: Home, *, dry: bool) -> Iterator[Outcome]:
    """Copy each run of another home that is not here, under its own number where that is free. Raises OSError where
    this home cannot be written to.
    """
    if other.path.resolve() == home.path.resolve():
        raise Unusable(f"{other.path} is this home itself")
    here, known = _uuids(home), known_runs(home)
    there: dict[int, int] = {}  # number there → here
    for run in run_dirs(other):
        name = submitted_value(run, "name", str) or run.path.name.partition("-")[2]
        place = str(run.path)
        uuid = submitted_value(run, "uuid", str)
        if uuid is None:
            yield Outcome(
                "failed", OURS, place, name=name, why=f"{run.meta}: it cannot be read, or has no uuid"
            )
            continue
        one = known.by_id.get(_foreign_id(run))
        if uuid in here or one is not None:  # either home may have imported it from the same tool
            number, gone = here[uuid] if one is None else (one.number, one.run is None)
            there[run.number] = number
            yield Outcome("removed" if gone else "known", OURS, place, number, name)
            continue
        state = _state(run)
        if why := _busy(run) or _no_room(home, run):
            yield Outcome("failed", OURS, place, name=name, state=state, why=why)
            continue
        if dry:
            yield Outcome("new", OURS, place, None, name, state)
            continue
        number = take(home, wanted=run.number)
        try:
            _copy(home, run, number, there)
            _copy_plan(home, other, submitted_value(run, "sweep", str))
        except shutil.Error as error:  # a list of (from, to, why)
            yield Outcome("failed", OURS, place, name=name, why=f"{place}: {error.args[0][0][2]}")
            continue
        there[run.number], here[uuid] = number, (number, False)
        yield Outcome("new", OURS, place, number, name, state)


def _uuids(home: Home) -> dict[str, tuple[int, bool]]:
    """Return the runs of a home by their uuid: number, and whether it was removed and may come back."""
    removed = [(RunDir(one.path), one.number, True) for one in removed_runs(home.removed)]
    known = [*removed, *((run, run.number, False) for run in run_dirs(home))]
    return {
        uuid: (number, gone) for run, number, gone in known if (uuid := submitted_value(run, "uuid", str))
    }


def _state(run: RunDir) -> str:
    """Return the state that a run has here."""
    line = arrived.line_for(run, run.number, FROM)
    return journal.read(run).state if line is None else str(line.state)


def _foreign_id(run: RunDir) -> tuple[str, str]:
    """Return what the tool calls a run that the other home has imported."""
    found = origin(run)
    return str(found.get("tool")), str(found.get("id"))


def _busy(run: RunDir) -> str | None:
    """Return that an attempt of a run is alive: its logs grow."""
    busy = f"{run.path}: it is running there; import it when it has ended"
    if _program_logs(run):
        return busy
    if not run.lock.exists():
        return None
    try:
        with Lock(run.lock).held(0.0) as free:
            return None if free else busy
    except OSError:  # of somebody else: nothing here can hold it
        return None


def _program_logs(run: RunDir) -> bool:
    """Whether a program is alive that logs a run by itself: without a daemon nobody holds the lock of that."""
    record = journal.read(run)
    return record.active and alive(record.worker) and not last_line(run.attempt(record.attempt).events, End)


def _no_room(home: Home, run: RunDir) -> str | None:
    free, needed = shutil.disk_usage(home.runs).free, bytes_of(run.path)
    if needed + SPARE < free:
        return None
    return f"{run.path}: it has {size(needed)}, and {home.runs} has {size(free)} free"


def _copy(home: Home, run: RunDir, number: int, there: Mapping[int, int]) -> None:
    """Copy a directory, and give it what differs here: number, parent, and that it waits for nobody."""
    slug = run.path.name.partition("-")[2] or slugify("")
    line = arrived.line_for(run, number, FROM)

    def fill(copy: RunDir) -> None:
        shutil.copytree(
            run.path, copy.path, symlinks=True, dirs_exist_ok=True, ignore=shutil.ignore_patterns(*LEFT)
        )
        write_json(copy.meta, _body(run, there))
        if line is not None:
            _append(copy, number, line)

    batch = Batch(home)
    batch.make(number, slug, fill)
    batch.settle()


def _body(run: RunDir, there: Mapping[int, int]) -> dict[str, Any]:
    """Return its run.json. The parent, a UUID, stays; of an older finetui it is a number, and becomes that here, or
    none where the parent is not here.
    """
    body = read_json(run.meta)
    parent = body.get("parent")
    came = {"place": str(run.path), "number": run.number, "parent": parent, "at": time.time()}
    before = origin(run)  # it stays what it is: a run of another tool
    return {
        **body,
        "parent": there.get(parent) if isinstance(parent, int) else parent,
        KEY: {**before, "home": came} if before else {"tool": OURS, "id": body.get("uuid"), **came},
    }


def _append(copy: RunDir, number: int, line: Adopted) -> None:
    log = LogWriter(copy.journal, "journal", run=number)
    try:
        write(log, line)
    finally:
        log.close()


def _copy_plan(home: Home, other: Home, uuid: str | None) -> None:
    """Copy the plan of a sweep, which does not go on here."""
    if uuid is None or (home.sweeps / f"{uuid}.json").exists():
        return
    try:
        plan = read_plan(other, uuid)
    except (OSError, ValueError):  # its runs say of which sweep they are
        return
    if plan is not None:
        write_plan(home, plan.model_copy(update={"done": plan.done or ELSEWHERE}))
