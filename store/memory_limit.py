"""A limit on the memory of this process, so that one request cannot take all that the machine has."""

from __future__ import annotations

import resource
from pathlib import Path

NEARLY = 0.8  # of the limit


class MemoryLimit:
    """Holds this process to what it has now and `more` bytes; what it starts inherits the limit, and may `lift` it."""

    def __init__(self, more: int) -> None:
        self._start, self._more = data_bytes(), more
        _, most = resource.getrlimit(resource.RLIMIT_DATA)
        limit = self._start + more
        self._set = self._start > 0 and (most == resource.RLIM_INFINITY or limit < most)
        if self._set:
            resource.setrlimit(resource.RLIMIT_DATA, (limit, most))

    @property
    def nearly_reached(self) -> bool:
        """Whether so much is taken that even small things may fail soon. Allocators seldom give any back."""
        return self._set and data_bytes() > self._start + NEARLY * self._more


def lift() -> None:
    """Go back to the limit that the user has set."""
    _, most = resource.getrlimit(resource.RLIMIT_DATA)
    resource.setrlimit(resource.RLIMIT_DATA, (most, most))


def data_bytes() -> int:
    """Return what the limit counts: writable memory of this process alone; 0 where that is not known."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        return next(int(line.split()[1]) for line in lines if line.startswith("VmData:")) * 1024
    except (OSError, ValueError, StopIteration):
        return 0
