"""Where a session was left: the screen that was open, which the next session opens again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tui.rows import Snapshot
from tui.state import FIRST_METRIC

if TYPE_CHECKING:
    from textual.screen import Screen

    from tui.host import Host

BACK = "here you were; esc goes to the runs"


def reopened(place: object, snapshot: Snapshot, host: Host) -> Screen[None] | None:
    """Return the screen of a place that a screen gave; None where it was the first one, or its runs are gone."""
    match place:
        case {"screen": "run", "run": int(number), "section": int(section)} if snapshot.run(number):
            from tui.screens.run import RunScreen

            return RunScreen(number, FIRST_METRIC, section)
        case {"screen": "compare", "runs": [*numbers]} if _all_there(numbers, snapshot):
            from tui.screens.compare import CompareScreen

            host.state.marked = list(numbers)
            return CompareScreen(tuple(numbers))
        case {"screen": "sql"}:
            from tui.screens.sql import SqlScreen

            return SqlScreen(host.remembered.queries(), host.remembered.saved_queries())
    return None


def _all_there(numbers: list[Any], snapshot: Snapshot) -> bool:
    return len(numbers) > 1 and all(isinstance(number, int) and snapshot.run(number) for number in numbers)
