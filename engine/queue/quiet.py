"""Hours of the day in which no run starts by itself."""

from __future__ import annotations

import re
from dataclasses import dataclass
from datetime import datetime, time

HOURS = re.compile(r"([01]?\d|2[0-3]):([0-5]\d)\s*-\s*([01]?\d|2[0-3]):([0-5]\d)")


@dataclass(frozen=True)
class QuietHours:
    """From one time of the day to another, over midnight where the second is earlier; the same twice: never."""

    begin: time = time()
    end: time = time()

    def include(self, now: datetime) -> bool:
        at = now.time()
        if self.begin <= self.end:
            return self.begin <= at < self.end
        return at >= self.begin or at < self.end

    def __str__(self) -> str:
        return f"{self.begin:%H:%M} to {self.end:%H:%M}"


NEVER = QuietHours()


def parse(text: str) -> QuietHours:
    """Read `09:00-18:00`; nothing is never. Raises ValueError."""
    if not text.strip():
        return NEVER
    found = HOURS.fullmatch(text.strip())
    if found is None:
        raise ValueError("give two times of the day, such as 09:00-18:00")
    begin_hour, begin_minute, end_hour, end_minute = map(int, found.groups())
    return QuietHours(time(begin_hour, begin_minute), time(end_hour, end_minute))
