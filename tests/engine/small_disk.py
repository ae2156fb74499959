"""A real file system of a few MiB, for tests of what a full one does."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

MIB = 2**20


class SmallDisk:
    """A tmpfs; `fill` leaves not a single page free, `grow` and `clear` make room."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def fill(self) -> None:
        """Take all that is left, at once: what a run gives back for its last words a moment later is not taken, too."""
        with (self.path / "filler").open("ab", buffering=0) as file:
            free = os.statvfs(self.path)
            os.posix_fallocate(file.fileno(), 0, free.f_bavail * free.f_frsize)

    def clear(self) -> None:
        (self.path / "filler").unlink()

    def grow(self, mib: int) -> None:
        subprocess.run(["mount", "-o", f"remount,size={mib}m", str(self.path)], check=True)


@contextmanager
def small_disk(path: Path, mib: int) -> Iterator[SmallDisk]:
    """Skips the test where nothing may be mounted."""
    path.mkdir()
    command = ["mount", "-t", "tmpfs", "-o", f"size={mib}m", "tmpfs", str(path)]
    if subprocess.run(command, capture_output=True).returncode:
        pytest.skip("a file system can be mounted by root only")
    try:
        yield SmallDisk(path)
    finally:
        subprocess.run(["umount", "--lazy", str(path)], check=True)
