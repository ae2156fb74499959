"""Runs that somebody has removed: kept in `removed/` of the home until they are deleted for good, so that they can come
back (store/paths.py has their names).
"""

from __future__ import annotations

import shutil
import time
from pathlib import Path

from engine.runs.home import RunDir
from finetui.files import make_private, sync
from finetui.home import Home
from store.paths import Removed, removed_runs


def remove(home: Home, run: RunDir) -> Path:
    """Move a run's directory away, durable on return; return where it is. Raises OSError."""
    make_private(home.removed)
    path = home.removed / f"{run.path.name}~{int(time.time())}"
    run.path.rename(path)
    sync(home.runs)
    sync(home.removed)
    return path


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
    old = [one for one in removed_runs(home.removed) if one.when <= latest]
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
