"""The run directories of a home, `000042-slug`: which belong to which run, which are not read. Not heavy."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from finetui.files import read_json
from finetui.home import Home

RUN_NAME = re.compile(r"0*([0-9]{1,9})-[a-z0-9-]+")
RUN_JSON = "run.json"
_ATTEMPT = re.compile("[1-9][0-9]{0,8}")
# In the directory of removed runs: the name that it had, and when it was removed, as in `000042-mine~1764412345`.
REMOVED_NAME = re.compile(r"(?P<name>.+)~(?P<when>\d{9,11})")
# Seconds after a change of `runs/` until it is listed once more: its time may be too coarse for a second change.
RELIST_S = 2.0


@dataclass(frozen=True)
class Listing:
    """The directories under `runs/` that are named as runs are."""

    runs: dict[int, Path] = field(default_factory=dict)  # by number, in order
    refused: dict[Path, str] = field(default_factory=dict)  # why one is not read, and what to do
    pending: tuple[Path, ...] = ()  # what is named so and lacks a run.json
    names: frozenset[str] = frozenset()  # of all that there is


_NOTHING = Listing()


class Lister:
    """Lists a home's runs, and again when something has changed. `listing` is the last one."""

    def __init__(self, directory: Path) -> None:
        self.listing = Listing()
        self._directory = directory
        self._listed_ns = -1  # time of the directory when it was listed
        self._again_at: float | None = None

    def look(self, known: Callable[[int], Path | None]) -> Listing | None:
        """Return a new listing if directories may have come, gone or changed their name; None if not, or if all of them
        are away (a disk that is not mounted, say). `known`: as `list_runs` takes it.
        """
        try:
            changed_ns = self._directory.stat().st_mtime_ns
            again = self._again_at is not None and time.monotonic() > self._again_at
            came = any((path / RUN_JSON).exists() for path in self.listing.pending)
            if changed_ns == self._listed_ns and not again and not came:
                return None
            self.listing = list_runs(self._directory, known, self.listing)
        except OSError:
            self._listed_ns = -1
            return None
        self._again_at = None if changed_ns == self._listed_ns else time.monotonic() + RELIST_S
        self._listed_ns = changed_ns
        return self.listing

    def again(self) -> None:
        """List once more soon: somebody could not use what there is yet."""
        self._again_at = time.monotonic() + RELIST_S


def is_settled(run: Path, after_s: float) -> bool:
    """Whether nobody has changed a run's directory, or its two files, for so long: else it may be being copied."""
    changed = 0.0
    for path in (run, run / RUN_JSON, run / "journal.jsonl"):
        with suppress(OSError):
            changed = max(changed, path.stat().st_ctime)
    return time.time() - changed > after_s


def number_of(name: str) -> int | None:
    """Return the number in a directory's name; None if it is not one of a run."""
    found = RUN_NAME.fullmatch(name)
    return int(found[1]) if found else None


@dataclass(frozen=True)
class Removed:
    """A run that somebody has removed, and that can still be restored."""

    number: int
    path: Path
    name: str  # of its directory, when it is back
    when: int  # Unix seconds


def removed_runs(directory: Path) -> list[Removed]:
    """List the removed runs of a home, the latest first."""
    try:
        entries = [(path, REMOVED_NAME.fullmatch(path.name)) for path in directory.iterdir()]
    except OSError:
        return []
    found = [
        Removed(number, path, match["name"], int(match["when"]))
        for path, match in entries
        if match and (number := number_of(match["name"])) is not None
    ]
    return sorted(found, key=lambda one: (one.when, one.number), reverse=True)


def attempts_in(run: Path) -> list[int]:
    """Return the numbers of a run's attempts, in order."""
    try:
        with os.scandir(run / "attempts") as entries:  # half the cost of `iterdir`
            names = [entry.name for entry in entries]
    except OSError:
        return []
    return sorted(int(name) for name in names if _ATTEMPT.fullmatch(name))


def checkpoints_in(run: Path) -> frozenset[str]:
    """Return the names of a run's whole checkpoints."""
    try:
        with os.scandir(run / "checkpoints") as entries:
            return frozenset(entry.name for entry in entries if Path(entry.path, "COMPLETE").exists())
    except OSError:
        return frozenset()


def list_runs(
    directory: Path,
    known: Callable[[int], Path | None] = lambda number: None,
    before: Listing = _NOTHING,
) -> Listing:
    """List a home's runs. `known`: the directory that a number meant so far, which it goes on to mean. `before`: an
    earlier listing; only numbers of which a directory has come, gone, or lacked its run.json are looked at again, for
    there may be many. Raises OSError.
    """
    with os.scandir(directory) as entries:
        names = frozenset(entry.name for entry in entries)
    again: dict[int, list[Path]] = {}
    for name in names - before.names:
        if (number := number_of(name)) is not None:
            again.setdefault(number, []).append(directory / name)
    for name in (before.names - names) | {path.name for path in before.pending}:
        if (number := number_of(name)) is not None:
            again.setdefault(number, [])
    runs, refused, pending = dict(before.runs), dict(before.refused), set(before.pending)
    for number, came in again.items():
        old = [path for path in (before.runs.get(number), *before.refused, *pending) if path is not None]
        of_number = {path for path in old if number_of(path.name) == number}
        runs.pop(number, None)
        for path in of_number:
            refused.pop(path, None)
            pending.discard(path)
        paths = []
        for path in sorted({*(path for path in of_number if path.name in names), *came}):
            if (path / RUN_JSON).exists():
                paths.append(path)
                continue
            pending.add(path)
            if path.is_dir():
                refused[path] = (
                    f"{path}: {RUN_JSON} is missing; put it back, or move the directory out of runs/"
                )
        if paths:
            runs[number] = chosen = _choose(number, paths, known(number))
            refused |= dict.fromkeys((path for path in paths if path != chosen), "")
    # Anew each time: what was free may be taken by now.
    if doubled := [path for path in refused if path not in pending]:
        refused |= _not_read(doubled, runs, _first_free(directory, names))
    return Listing({number: runs[number] for number in sorted(runs)}, refused, tuple(sorted(pending)), names)


def _not_read(doubled: list[Path], runs: dict[int, Path], free: int) -> dict[Path, str]:
    """Return why directories are not read whose number another has, each with a number of its own from `free` on."""
    why = {}
    for number, path in enumerate(sorted(doubled), free):
        taken, _, name = path.name.partition("-")
        why[path] = (
            f"{path} is not read: run #{int(taken)} is {runs[int(taken)].name}; give it a free number"
            f" (mv {path.name} {number:06d}-{name}), or move it out of runs/"
        )
    return why


def _first_free(directory: Path, names: frozenset[str]) -> int:
    """Return the first number above those of all runs, removed ones included, which may come back."""
    removed = [one.number for one in removed_runs(Home(directory.parent).removed)]
    return max([*removed, *(number for name in names if (number := number_of(name)) is not None)]) + 1


def _choose(number: int, paths: list[Path], known: Path | None) -> Path:
    """One of several directories with a number: the one that had it, else the one that was given it first."""
    if known is not None and known in paths:
        return known
    return paths[0] if len(paths) == 1 else min(paths, key=lambda path: _age(number, path))


def _age(number: int, path: Path) -> tuple[bool, float, str]:
    """Copies, which have another name than they were given, come last."""
    try:
        body: dict[str, Any] = read_json(path / RUN_JSON)
        created = body.get("created")
    except (OSError, ValueError):
        return True, 0.0, path.name
    is_copy = path.name != f"{number:06d}-{body.get('slug')}"
    return is_copy, float(created) if isinstance(created, int | float) else 0.0, path.name
