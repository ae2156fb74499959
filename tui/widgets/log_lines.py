"""The log of a run as lines: coloured and filtered by their levels."""

from __future__ import annotations

from collections.abc import Sequence

from engine.basics.safe_text import one_line
from tui.lines.log_levels import SHOWN, Level
from tui.lines.text import Line, cut, folded
from tui.rows import Row, Run

_STYLES = {Level.ERROR: "bad", Level.WARNING: "warn"}


def end(rows: Sequence[Row], run: Run | None, least: Level, width: int, height: int) -> list[Line]:
    """The last lines, each cut to one of the screen; at the most `height`."""
    shown = of_level(rows, least)
    if not shown:
        return [[(cut(_why_empty(rows, run, least), width), "dim")]]
    return [[(cut(one_line(row["line"]), width), _style(row))] for row in shown[-height:]]


def whole(rows: Sequence[Row], run: Run | None, least: Level, width: int) -> list[Line]:
    """All lines, the long ones wrapped."""
    shown = of_level(rows, least)
    if not shown:
        return [[(piece, "dim")] for piece in folded(_why_empty(rows, run, least), width)]
    return [[(piece, _style(row))] for row in shown for piece in folded(one_line(row["line"]), width)]


def of_level(rows: Sequence[Row], least: Level) -> Sequence[Row]:
    """The lines of a level and of graver ones."""
    return [row for row in rows if row["level"] >= least]


def name(least: Level) -> str:
    """What is shown, for a title; nothing where all is."""
    return "" if least is Level.DEBUG else SHOWN[least]


def _why_empty(rows: Sequence[Row], run: Run | None, least: Level) -> str:
    if run is None:
        return "no run selected"
    if run.logged:
        return f"#{run.number} is logged by its own program, which prints where it was started"
    if not rows:
        return f"#{run.number} has printed nothing yet"
    words = "no errors" if least is Level.ERROR else "no warnings and no errors"
    return (
        f"{words} in the end of what #{run.number} has printed (64 KB); all of it: "
        f"finetui logs {run.number} --level {least.name.lower()}"
    )


def _style(row: Row) -> str:
    return _STYLES.get(row["level"], "dim")
