"""Lines of our own log, which a program of the user's own writes to the file that FINETUI_LOG names."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from engine.curves.points import Point, Reading, number, whole
from finetui.files import open_regular
from finetui.log import parse_line
from finetui.names import our_name
from store.lines import Metrics, Plan


class OwnLines:
    """One such file: `{"kind": "metrics", "step": 10, "values": {"loss": 2.5}}` a line; `finetui.log` writes it."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._at = 0  # bytes, after the last whole line
        self._file: tuple[int, int] | None = None  # which file that was

    def read(self, *, last: bool = False) -> Reading:
        """Return what is new, also of a file that was written anew; `last`: a line without its end counts, too. Raises
        OSError.
        """
        with open_regular(self._path) as file:
            stat = os.fstat(file.fileno())
            if self._file != (stat.st_dev, stat.st_ino) or stat.st_size < self._at:
                self._file, self._at = (stat.st_dev, stat.st_ino), 0
            file.seek(self._at)
            data = file.read()
        whole_lines = data if last else data[: data.rfind(b"\n") + 1]
        self._at += len(whole_lines)
        entries = [parse_line(line) for line in whole_lines.splitlines() if line.strip()]
        usable = [entry for entry in entries if isinstance(entry, dict)]
        totals = [whole(entry.get("total_steps")) for entry in usable if entry.get("kind") == Plan.kind]
        measured = [entry for entry in usable if entry.get("kind") == Metrics.kind]
        points = [_points(entry) for entry in measured]
        lost = len(entries) - len(usable) + points.count(None)
        return Reading(
            tuple(point for some in points for point in some or ()),
            next((total for total in reversed(totals) if total), None),
            f"{lost} line{'s' if lost > 1 else ''} of it cannot be used" if lost else None,
        )


def _points(entry: dict[str, Any]) -> list[Point] | None:
    """Return the measures of a line; None where it has no step or no values."""
    step, values = whole(entry.get("step")), entry.get("values")
    if step is None or not isinstance(values, dict):
        return None
    measures = ((str(name), number(value)) for name, value in values.items())
    return [Point(step, our_name(name), value) for name, value in measures if value is not None]
