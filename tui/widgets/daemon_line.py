"""What the header says of the daemon: that it starts, how far it has read the logs, that it is gone."""

from __future__ import annotations

from typing import TYPE_CHECKING

from engine.basics.safe_text import one_line
from tui.lines.text import Line
from tui.rows import Snapshot
from tui.widgets.run_table import bar

if TYPE_CHECKING:
    from finetui.progress import Progress

SHORT, LONG = 8, 24  # columns of the bar
WIDE = 110
NAME = 20  # columns that are left for the name and the runs


def daemon_line(snapshot: Snapshot, width: int) -> Line:
    """Nothing while all is well."""
    if snapshot.starting:
        return [(f"{snapshot.trouble} ", "warn")]
    if snapshot.trouble:
        text = one_line(snapshot.trouble) if fits(snapshot, width) else "no answer from the daemon, see below"
        return [(f"● {text} ", "bad")]
    return _progress(snapshot.reading, width) if snapshot.reading else []


def fits(snapshot: Snapshot, width: int) -> bool:
    """Whether there is room in the header for the trouble."""
    return len(snapshot.trouble) + NAME <= width


def _progress(reading: Progress, width: int) -> Line:
    from finetui.progress import time_in_words

    if not reading.of:
        return [("reading logs: counting the runs ", "warn")]
    left = "" if reading.left_s is None else f", {time_in_words(reading.left_s)} left"
    shown = bar(reading.share, LONG if width >= WIDE else SHORT, "bar")
    return [("reading logs ", "warn"), *shown, (f" {reading.done:,} of {reading.of:,}{left} ", "warn")]
