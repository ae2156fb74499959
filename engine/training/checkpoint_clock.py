"""When a checkpoint is due by the clock: what a machine that vanishes without notice may cost."""

from __future__ import annotations

import time
from collections.abc import Callable

SHARE = 0.05  # of the time, that saving may take at most


class CheckpointClock:
    """Due once so many minutes have passed since the last checkpoint; later where saving would take too much time."""

    def __init__(self, minutes: float | None, now: Callable[[], float] = time.monotonic) -> None:
        """`minutes`: None for never; `now`: in seconds."""
        self._minutes, self._now = minutes, now
        self._saved_at, self._took_s = now(), 0.0

    @property
    def is_due(self) -> bool:
        if self._minutes is None:
            return False
        return self._now() - self._saved_at >= max(60 * self._minutes, self._took_s / SHARE)

    def saved(self, took_s: float) -> None:
        """Count from now on; `took_s`: seconds that it took to save."""
        self._saved_at, self._took_s = self._now(), took_s
