"""What users' queries may take of the daemon, all together: memory, and large answers at a time."""

from __future__ import annotations

import ctypes
import os
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

MIB = 1 << 20


@dataclass(frozen=True)
class Limits:
    """Of users' SQL. `config.toml` says them (engine/queue/config.py)."""

    memory_mb: int = 1000  # of the database
    threads: int = 2
    temp_mb: int = 10_000  # on the disk, where memory is too small for a sort, say
    answer_mb: int = 128
    at_once: int = 16  # queries
    seconds: float = 30.0  # where a client says nothing else

    @property
    def of_database(self) -> dict[str, str]:
        """The limits that DuckDB keeps, as its settings."""
        return {
            "memory_limit": f"{self.memory_mb}MB",
            "threads": str(self.threads),
            "max_temp_directory_size": f"{self.temp_mb}MB",
        }

    @property
    def answer_bytes(self) -> int:
        return self.answer_mb * MIB

    @property
    def resident_bytes(self) -> int:
        """That the process may have beyond what it has at its start: the database, two answers, and some."""
        return (self.memory_mb + 2 * self.answer_mb + 512) * MIB


class LargeAnswers:
    """So many are in memory at a time, until they are sent, but SEND_S at most: a client may not read."""

    AT_ONCE = 2
    LARGE = 4 * MIB  # bytes
    SEND_S = 30.0

    def __init__(self) -> None:
        self._free = threading.Semaphore(self.AT_ONCE)

    def take(self, wait_s: float) -> Callable[[], None] | None:
        """Return what gives the place back, once; None if there is none in so many seconds."""
        if not self._free.acquire(timeout=max(0.0, wait_s)):
            return None
        lock, taken = threading.Lock(), [True]

        def give_back() -> None:
            with lock:
                if taken:
                    taken.clear()
                    self._free.release()

        return give_back


def give_back_memory() -> None:
    """Have the C library give back what is free: it keeps that for the process otherwise, and it would count."""
    with suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def resident_bytes() -> int:
    """Return the main memory of this process; 0 where that is not known."""
    try:
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, ValueError, IndexError):
        return 0
