"""Free space on the disk: whether an error means that there is none, and how a full disk is reported. Torch-free.

A run on a full disk is paused, not failed: its last whole checkpoint is intact, and it can be resumed once there is
free space. So that this can still be logged, each attempt reserves a little space until it ends.
"""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

from engine.basics.errors import causes
from engine.basics.wording import size
from engine.runs.home import AttemptDir

MIB = 2**20
FULL = "the disk is full"
RESERVE = MIB  # bytes: the worker's last line, exit.json, the journal, and what the store needs to read them


class DiskFullError(Exception):
    """There is too little free space; `str()` is `the disk is full (1 MiB free, 30 MiB needed for step-000020)`."""

    def __init__(self, free: int, needed: int, what: str) -> None:
        super().__init__(f"{FULL} ({size(free)} free, {size(needed)} needed for {what})")


def is_full(error: BaseException | None) -> bool:
    """Whether an error, or one that led to it, means that the disk or the user's quota is full."""
    return any(
        isinstance(cause, DiskFullError)
        or (isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT))
        for cause in causes(error)
    )


def free_bytes(path: Path) -> int:
    """Return the bytes free for this user on the disk of a path, which need not exist yet."""
    while not path.exists():
        path = path.parent
    return shutil.disk_usage(path).free


def pause_reason(error: BaseException, run: Path) -> str:
    """Return why a run is paused after an error for which `is_full`, with what to do."""
    if isinstance(error, DiskFullError):
        full = str(error)
    else:
        full = f"{FULL} ({size(free_bytes(run))} free on the disk of {run})"
    return f"{full}: make room, then finetui resume {int(run.name.split('-')[0])}"


def full_disk(path: Path) -> str | None:
    """Return why no attempt should begin on this disk; None where it may."""
    free = free_bytes(path)
    return f"{FULL} ({size(free)} free)" if free < 2 * RESERVE else None


def reserve(attempt: AttemptDir) -> None:
    """Reserve space that `release` frees. Raises OSError."""
    with attempt.reserve.open("wb") as file:
        file.write(os.urandom(RESERVE))  # nothing that a file system could store in less
        file.flush()
        os.fsync(file.fileno())


def release(attempt: AttemptDir) -> None:
    attempt.reserve.unlink(missing_ok=True)
