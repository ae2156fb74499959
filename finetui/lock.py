"""An advisory lock on a file, released by the kernel when its holder dies, however it dies."""

from __future__ import annotations

import fcntl
import math
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class Lock:
    """`flock` on a file, made if missing; not inherited by programs that are started."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._fd: int | None = None

    def acquire(self, wait_s: float = 0.0) -> bool:
        """Take the lock; False if another process still holds it after `wait_s` seconds. Raises OSError."""
        fd = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        deadline = time.monotonic() + wait_s
        while True:
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if time.monotonic() >= deadline:
                    os.close(fd)
                    return False
                time.sleep(0.02)
                continue
            self._fd = fd
            return True

    @contextmanager
    def held(self, wait_s: float = math.inf) -> Iterator[bool]:
        """For as long as the context lasts; False where another process has it still. Raises OSError."""
        try:
            yield self.acquire(wait_s)
        finally:
            self.release()

    def release(self) -> None:
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None

    def still_there(self) -> bool:
        """False when the file was deleted or replaced: others may then hold a lock of the same name."""
        try:
            current = self._path.stat()
        except OSError:
            return False
        return self._fd is not None and os.path.samestat(current, os.fstat(self._fd))
