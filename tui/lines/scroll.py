"""Which of some lines are in view."""

from __future__ import annotations

from tui.lines.text import Line


class Scroll:
    """`first` is the first line in view; of lines that are read from their end, how many are below those in view."""

    def __init__(self) -> None:
        self.first = 0
        self._last = 0  # where it can be at the most

    def view(self, lines: list[Line], height: int, *, from_end: bool = False) -> list[Line]:
        """The lines in view, as many as there is room for."""
        self._last = max(0, len(lines) - height)
        self.first = min(self.first, self._last)
        start = self._last - self.first if from_end else self.first
        return lines[start : start + height]

    def move(self, by: int) -> None:
        self.first = max(0, min(self._last, self.first + by))


def visible_top(top: int, cursor: int, rows: int, height: int) -> int:
    """The first row in view such that the cursor's row is in view."""
    top = max(0, min(top, rows - height))
    return min(max(top, cursor - height + 1), cursor) if rows else 0
