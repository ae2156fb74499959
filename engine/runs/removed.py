"""Runs that somebody has removed: kept in `removed/` of the home until they are emptied, so that they can come back.

A directory there has the name that it had under `runs/`, and when it was removed: `000042-mine~1764412345`.
"""

from __future__ import annotations

import re
import shutil
import time
from dataclasses import dataclass
from pathlib import Path

from engine.runs.home import RunDir
from finetui.files import make_private, sync
from finetui.home import Home
from store.paths import number_of

_NAME = re.compile(r"(?P<name>.+)~(?P<when>\d{9,11})")


@dataclass(frozen=True)
class Removed:
    """One removed run."""

    number: int
    path: Path
    name: str  # of its directory, when it is back
    when: int  # Unix seconds


def remove(home: Home, run: RunDir) -> Path:
    """Move a run's directory away, durable on return; return where it is. Raises OSError."""
    make_private(home.removed)
    path = home.removed / f"{run.path.name}~{int(time.time())}"
    run.path.rename(path)
    sync(home.runs)
    sync(home.removed)
    return path


def removed_runs(home: Home) -> list[Removed]:
    """Return what is there, the latest first."""
    try:
        entries = [(path, _NAME.fullmatch(path.name)) for path in home.removed.iterdir()]
    except OSError:
        return []
    found = [
        Removed(number, path, match["name"], int(match["when"]))
        for path, match in entries
        if match and (number := number_of(match["name"])) is not None
    ]
    return sorted(found, key=lambda one: (one.when, one.number), reverse=True)


def restore(home: Home, one: Removed) -> RunDir:
    """Move a run's directory back, durable on return. Raises OSError; FileExistsError where its name is taken."""
    path = home.runs / one.name
    if path.exists():
        raise FileExistsError(17, "File exists", str(path))
    one.path.rename(path)
    sync(home.runs)
    sync(home.removed)
    return RunDir(path)


def empty(home: Home, older_than_s: float) -> int:
    """Delete for good what was removed so long ago; return how many runs that were."""
    latest = time.time() - older_than_s
    old = [one for one in removed_runs(home) if one.when <= latest]
    for one in old:
        shutil.rmtree(one.path, ignore_errors=True)
    return sum(not one.path.exists() for one in old)


def bytes_of(path: Path) -> int:
    """Return how much a directory takes on the disk; files that several names share count once. 0 if it is gone."""
    blocks = {}
    for file in path.rglob("*"):
        try:
            found = file.lstat()
        except OSError:
            continue
        blocks[found.st_dev, found.st_ino] = found.st_blocks * 512
    return sum(blocks.values())
