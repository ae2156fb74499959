"""Run directories that are made together: each whole or absent, as those that the daemon accepts.

They are written under another name, the disk is synced once for all of them, and then each gets its own name. To sync
file by file, as the daemon does for its one run, would make everybody else's writes wait as well.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable

from engine.runs.home import RunDir
from finetui.files import sync
from finetui.home import Home

UNFINISHED = ".importing-"  # prefix of a directory that is not whole yet
MOST = 32  # runs


class Batch:
    """Directories that are not runs yet."""

    def __init__(self, home: Home) -> None:
        self._home = home
        self._made: list[tuple[RunDir, RunDir]] = []

    @property
    def full(self) -> bool:
        return len(self._made) >= MOST

    def make(self, number: int, slug: str, fill: Callable[[RunDir], None]) -> RunDir:
        """Write a directory; return where it is once `settle` has returned. Raises OSError (disk full), leaving nothing
        of it.
        """
        name = f"{number:06d}-{slug}"
        unfinished, final = RunDir(self._home.runs / f"{UNFINISHED}{name}"), RunDir(self._home.runs / name)
        try:
            unfinished.path.mkdir(mode=0o700)
            fill(unfinished)
        except BaseException:
            shutil.rmtree(unfinished.path, ignore_errors=True)
            raise
        self._made.append((unfinished, final))
        return final

    def settle(self) -> None:
        """Make them runs, durable when this returns. Raises OSError."""
        if not self._made:
            return
        os.sync()
        while self._made:
            unfinished, final = self._made[0]
            unfinished.path.rename(final.path)
            del self._made[0]
        sync(self._home.runs)


def clear_unfinished(home: Home) -> None:
    """Remove what an import left that was killed. Nobody else may import meanwhile."""
    for path in home.runs.glob(f"{UNFINISHED}*"):
        shutil.rmtree(path, ignore_errors=True)
