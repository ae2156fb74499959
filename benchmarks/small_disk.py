"""A real file system of a few MiB, for what a full one does: a tmpfs, which root alone can mount."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

MIB = 2**20


class SmallDisk:
    """A tmpfs; `fill` leaves not a single page free, `grow` and `clear` make room."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def fill(self) -> None:
        """Take all that is left, in a moment: what a run gives back for its last words a little later is not taken."""
        with (self.path / "filler").open("ab", buffering=0) as file:
            space = os.statvfs(self.path)
            end = file.seek(0, os.SEEK_END)
            with suppress(OSError):  # somebody else has just taken some of it, or there is less than that
                os.posix_fallocate(file.fileno(), end, space.f_bavail * space.f_frsize - MIB)
            file.seek(0, os.SEEK_END)
            with suppress(OSError):
                while True:
                    file.write(os.urandom(4096))

    def clear(self) -> None:
        (self.path / "filler").unlink()

    def grow(self, mib: int) -> None:
        subprocess.run(["mount", "-o", f"remount,size={mib}m", str(self.path)], check=True)


@contextmanager
def mounted(path: Path, mib: int) -> Iterator[SmallDisk | None]:
    """A disk at a path; None where nothing may be mounted."""
    path.mkdir(parents=True)
    command = ["mount", "-t", "tmpfs", "-o", f"size={mib}m", "tmpfs", str(path)]
    if subprocess.run(command, capture_output=True, check=False).returncode:
        yield None
        return
    try:
        yield SmallDisk(path)
    finally:
        subprocess.run(["umount", "--lazy", str(path)], check=True)
