"""Bring the runs of a mirror home: on a new box, or a laptop."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from engine.basics.errors import QueueError
from engine.queue import mirror
from engine.queue.mirror import IDENTITY, MirrorError, Target
from engine.runs import arrived
from engine.runs.home import RunDir, run_dirs
from engine.runs.submitted import submitted_value
from finetui.files import make_private, read_json, sync, write_json
from finetui.home import Home
from finetui.log import LogWriter
from finetui.numbers import take
from store.line_fields import write
from store.paths import RUN_NAME, removed_runs

PULLING = "pulling"  # in the home, while runs come


@dataclass(frozen=True)
class Pulled:
    """A run of the mirror: which number it has here, and had there."""

    number: int
    there: int
    name: str
    new: bool  # it was not here before


def fetch(home: Home, text: str) -> Path:
    """Copy the mirror into a folder of the home; a copy that was broken off goes on. Raises QueueError."""
    target, folder = Target(text), home.path / PULLING
    try:
        make_private(folder)
        if mirror.identity_there(target) is None:
            raise QueueError(f"{text} is no mirror of a finetui home: there is no {IDENTITY}")
        mirror.run(target.down(folder))
        mirror.run(target.file_down(IDENTITY, folder / IDENTITY))
    except MirrorError as error:
        raise QueueError(str(error)) from None
    return folder


def take_in(home: Home, folder: Path) -> Iterator[Pulled]:
    """Move each run that is not here yet into the home, under its own number where that is free. No daemon may run.

    A home without runs becomes the one that the mirror belongs to. Raises OSError.
    """
    here = {uuid: run.number for run in run_dirs(home) if (uuid := submitted_value(run, "uuid", str))}
    if not here:
        write_json(home.path / IDENTITY, read_json(folder / IDENTITY))
    # A run that was removed may come back under its number.
    taken = {run.number for run in run_dirs(home)} | {one.number for one in removed_runs(home.removed)}
    for run in sorted(_runs_in(folder), key=lambda run: run.number):
        uuid, slug = submitted_value(run, "uuid", str), run.path.name.partition("-")[2]
        if uuid in here:
            yield Pulled(here[uuid], run.number, slug, new=False)
            continue
        number = run.number if run.number not in taken else take(home)
        taken.add(number)
        _settle(run, number)
        run.path.rename(home.runs / f"{number:06d}-{slug}")
        sync(home.runs)
        yield Pulled(number, run.number, slug, new=True)
    shutil.rmtree(folder, ignore_errors=True)


def _settle(run: RunDir, number: int) -> None:
    """Write what a run is here that had not ended: one that can go on waits, for it may have come to a laptop."""
    if line := arrived.line_for(run, number, "a mirror"):
        writer = LogWriter(run.journal, "journal", run=number)
        write(writer, line)
        writer.close()


def _runs_in(folder: Path) -> list[RunDir]:
    """Return the whole run directories of a fetched mirror."""
    named = (RunDir(path) for path in folder.iterdir() if path.is_dir() and RUN_NAME.fullmatch(path.name))
    return [run for run in named if submitted_value(run, "uuid", str)]
