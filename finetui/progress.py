"""How far the logs are read into the database: told by the daemon with every answer, shown by screen and commands."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass


@dataclass(frozen=True)
class Progress:
    """Runs read so far, of all that are there. What is answered meanwhile is a part."""

    done: int
    of: int  # 0 while they are being counted
    left_s: float | None = None  # seconds, once there is a rate

    def __str__(self) -> str:
        if not self.of:
            return "logs are being read into the database: the runs are being counted"
        left = "" if self.left_s is None else f", {time_in_words(self.left_s)} left"
        return f"logs are being read into the database: {self.done:,} of {self.of:,} runs{left}"

    @property
    def share(self) -> float:
        return self.done / self.of if self.of else 0.0

    def as_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def of_json(cls, text: str | bytes) -> Progress:
        return cls(**json.loads(text))


def time_in_words(seconds: float) -> str:
    """Coarse, since it is a guess: 5 s, 40 s, 3 min."""
    if seconds < 10:
        return f"{max(1, round(seconds))} s"
    return f"{round(seconds, -1):.0f} s" if seconds < 95 else f"{round(seconds / 60):.0f} min"
