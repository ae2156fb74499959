"""All curves of an attempt, as they grow: each point once, whatever number of files has it."""

from __future__ import annotations

import math
import stat
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from engine.curves import trainer_state, wandb_file
from engine.curves.event_file import EventFile
from engine.curves.find import MOST, find
from engine.curves.own_lines import OwnLines
from engine.curves.points import Point, Reading
from engine.curves.trainer_state import TrainerState
from engine.curves.wandb_file import WandbFile

Reader = TrainerState | EventFile | WandbFile | OwnLines

SHARE = 20  # a search for files takes at most this part of the time


@dataclass(frozen=True)
class News:
    """What a look has found."""

    steps: Mapping[int, Mapping[str, float]] = field(default_factory=dict)  # new measures, by step, in order
    total_steps: int | None = None
    checkpoints: Sequence[tuple[int, Path]] = ()  # new ones, by step
    notes: Sequence[str] = ()  # in sentences


class Curves:
    """The curves of one attempt."""

    def __init__(
        self, folders: Sequence[Path], own: Path, since: float, earlier: Mapping[tuple[int, str], float]
    ) -> None:
        """`own`: the file for lines of our own log; `since`: Unix seconds; `earlier`: what attempts before have
        measured, by step and name, which the state of a Trainer that goes on repeats.
        """
        self._folders, self._since, self._earlier = folders, since, earlier
        self._readers: dict[Path, Reader | None] = {own: OwnLines(own)}  # None: it cannot be read at all
        self._changed: dict[Path, tuple[int, int]] = {}
        self._told: set[str] = set()
        self._last_before = max((step for step, _ in earlier), default=-1)
        self._known: dict[tuple[int, str], float] = {}
        self._others: set[Path] = set()  # also once their process has ended
        self._checkpoints: set[tuple[int, Path]] = set()
        self._search_at = 0.0

    def look(self, *, last: bool = False) -> News:
        """Read what has been written since the last look; `last`: search for files even if that was done just now."""
        notes: list[str] = []
        checkpoints = self._search(notes) if last or time.monotonic() >= self._search_at else []
        points: list[Point] = []
        total = None
        for path, reader in self._readers.items():
            if reader is not None and (self._has_changed(path) or (last and path.is_file())):
                reading = self._read(path, reader, notes, last)
                points += self._new(path, reading, notes, repeats=isinstance(reader, TrainerState))
                total = reading.total_steps or total
        steps: dict[int, dict[str, float]] = defaultdict(dict)
        for point in sorted(points, key=lambda point: point.step):
            steps[point.step][point.name] = point.value
        new_notes = [note for note in notes if note not in self._told]
        self._told.update(new_notes)
        return News(steps, total, checkpoints, new_notes)

    def _search(self, notes: list[str]) -> list[tuple[int, Path]]:
        started = time.monotonic()
        listing = find(self._folders, self._since)
        self._search_at = time.monotonic() + SHARE * (time.monotonic() - started)
        if not listing.whole:
            notes.append(
                f"more than {MOST:,} files are below the folders that are watched: name a smaller one, --watch"
            )
        self._others |= listing.others
        for path in listing.files:
            if path not in self._readers and path not in self._others:
                self._readers[path] = _reader(path, notes)
        new = [one for one in listing.checkpoints if one not in self._checkpoints]
        self._checkpoints.update(new)
        return new

    def _has_changed(self, path: Path) -> bool:
        try:
            status = path.stat()
        except OSError:
            return False
        if not stat.S_ISREG(status.st_mode):  # a pipe would be waited for
            return False
        before, now = self._changed.get(path), (status.st_mtime_ns, status.st_size)
        self._changed[path] = now
        return now != before

    def _read(self, path: Path, reader: Reader, notes: list[str], last: bool) -> Reading:
        try:
            reading = reader.read(last=last) if isinstance(reader, EventFile | OwnLines) else reader.read()
        except Exception as error:  # one bad file costs its own curves
            reading = Reading(problem=str(error) or type(error).__name__)
        if reading.problem:
            notes.append(f"{path}: {reading.problem}; what is missing of it is not in the curves")
        return reading

    def _new(self, path: Path, reading: Reading, notes: list[str], *, repeats: bool) -> list[Point]:
        """Return the points that no file had before, but for those of an earlier attempt that it `repeats`: the state
        of a Trainer that goes on reaches beyond them; a shorter one has begun anew.
        """
        reaches = max((point.step for point in reading.points), default=self._last_before)
        if repeats and reaches < self._last_before:
            repeats = False
            self._earlier = {}
        new = []
        for point in reading.points:
            key = (point.step, point.name)
            if key in self._known:
                if not _same(self._known[key], point.value):
                    notes.append(
                        f"{path}: another file has other values of {point.name}, and only those are kept"
                    )
                continue
            if repeats and _same(self._earlier.get(key), point.value):
                continue
            self._known[key] = point.value
            new.append(point)
        return new


def _same(one: float | None, other: float) -> bool:
    """Whether two are one measure, of which TensorBoard keeps 24 bits."""
    if one is None:
        return False
    return math.isclose(one, other, rel_tol=1e-6) or (math.isnan(one) and math.isnan(other))


def _reader(path: Path, notes: list[str]) -> Reader | None:
    """Return what reads a file; None where the library is missing that it takes."""
    try:
        if path.name == trainer_state.NAME:
            return TrainerState(path)
        return WandbFile(path) if path.name.endswith(wandb_file.SUFFIX) else EventFile(path)
    except ImportError as error:
        notes.append(
            f"{path} is not read, since {error.name or 'a library'} is missing: install finetui[curves]"
        )
        return None
