"""`trainer_state.json`, which transformers' Trainer and all that is built on it write with each checkpoint."""

from __future__ import annotations

import json
from pathlib import Path

from engine.curves.points import Point, Reading, number, whole
from finetui.files import open_regular
from finetui.names import our_name

NAME = "trainer_state.json"
_NO_MEASURES = ("step", "total_flos")


class TrainerState:
    """One such file. It is written whole each time, with everything since the first step."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._read = 0  # entries of its history

    def read(self) -> Reading:
        """Return what is new. Raises OSError, and ValueError for a file that is not one."""
        with open_regular(self._path) as file:
            state = json.loads(file.read())
        history = state.get("log_history") if isinstance(state, dict) else None
        if not isinstance(history, list):
            raise ValueError("it has no log_history")
        new, self._read = history[self._read :], max(self._read, len(history))
        points = [point for entry in new if isinstance(entry, dict) for point in _points(entry)]
        total = whole(state.get("max_steps"))
        return Reading(tuple(points), total or None)


def _points(entry: dict[str, object]) -> list[Point]:
    step = whole(entry.get("step"))
    if step is None:
        return []
    measures = ((name, number(value)) for name, value in entry.items() if name not in _NO_MEASURES)
    return [Point(step, our_name(name), value) for name, value in measures if value is not None]
