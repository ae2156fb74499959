"""The run table as lines: only the rows in view are made, so that 10,000 runs cost as much as ten."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from engine.basics.safe_text import one_line
from engine.basics.wording import duration
from engine.recipe.kinds import COMMAND
from store.states import ACTIVE, WAITING, RunState
from tui.bindings import key_of
from tui.lines import format, theme
from tui.lines.text import Line, centered, cut, distinct, fit, left, line_width, right, width_of, wrap
from tui.rows import Run
from tui.run_groups import Head, why

# States of a run that may stand between two steps: how far it is says more than the word.
UNDER_WAY = ACTIVE | {RunState.PAUSED, RunState.INTERRUPTED}
SHORT = {COMMAND: "cmd"}  # methods, where the column is narrow
GIVE_WAY = ("model", "step", "train", "ETA", "method", "general")
LEAST_NAME = 12
READING = "No run has been read yet: the database is made from the logs"


class TableView(NamedTuple):
    """What of the table is shown, and how."""

    rows: Sequence[Run | Head]
    cursor: int  # index into rows
    top: int  # index of the first row in view
    slots: Mapping[int, int]  # run number → colour of its curve, for marked runs
    sort: str = "#"
    down: bool = True
    empty: str = ""
    etas: Mapping[int, float] = {}  # run number → seconds left
    highest: int = 0  # number of a run, of all that there are
    # Columns that the user chose: key → run → value.
    values: Mapping[str, Mapping[int, str]] = {}
    says_why: bool = False  # what a run waits for, where its results would stand


class _Column(NamedTuple):
    name: str
    width: int
    at_right: bool = False


def empty() -> str:
    return f"No runs yet. Queue one with: finetui run recipe.yaml, or press {key_of('new_run', 'dashboard')}"


def columns(width: int, highest: int = 0, extra: Sequence[str] = ()) -> list[_Column]:
    """What fits: numbers are whole, name takes the rest; model, step and flag names only where there is room. The
    user's own columns come first, and the usual numbers give way to them.
    """
    wide, wider = width >= 110, width >= 150
    chosen = [
        _Column("#", max(4, len(f"#{highest}")), True),
        _Column("name", 0),
        *([_Column("model", 20)] if wider else []),
        _Column("method", 6),
        _Column("state", 24 if wide else 12),
        *([_Column("step", 11, True)] if wide else []),
        _Column("ETA", 7 if wide else 6, True),
        _Column("train", 8 if wide else 6, True),
        _Column("held-out", 8, True),
        _Column("general", 8 if wide else 7, True),
        _Column("flags", 5, True),
    ]
    own = [_Column(key, max(8, min(16, width_of(title(key)))), True) for key in extra]
    chosen[-1:-1] = own
    gap = 2 if wide else 1

    def taken() -> int:
        return 2 + sum(column.width for column in chosen) + gap * (len(chosen) - 1)

    for name in GIVE_WAY if own else ():
        if width - taken() < LEAST_NAME:
            chosen = [column for column in chosen if column.name != name]
    room = max(6, width - taken())
    return [_Column("name", room) if column.name == "name" else column for column in chosen]


def title(key: str) -> str:
    """A column's heading: the last part of a recipe's key says enough; of a metric, its suite belongs to it."""
    return key if "/" in key else key.rpartition(".")[2]


def lines(view: TableView, width: int, height: int) -> list[Line]:
    """Header, then as many rows as fit."""
    chosen = columns(width, view.highest, tuple(view.values))
    gap = "  " if width >= 110 else " "
    if not view.rows:
        says: list[Line] = [[(centered(row, width), "dim")] for row in wrap(view.empty, width - 2)]
        middle: list[Line] = [[] for _ in range(max(0, (height - 1 - len(says)) // 2))]
        return [_header(view, chosen, gap), *middle, *says][:height]
    rows = view.rows[view.top : view.top + height - 1]
    room = next(column.width for column in chosen if column.name == "name")
    names = distinct({one_line(row.name): None for row in rows if not isinstance(row, Head)}, room)
    body = [
        _head(view, row, view.top + at == view.cursor, width)
        if isinstance(row, Head)
        else _row(view, row, view.top + at == view.cursor, chosen, gap, width, names)
        for at, row in enumerate(rows)
    ]
    return [_header(view, chosen, gap), *body]


def _head(view: TableView, head: Head, cursor: bool, width: int) -> Line:
    """The line of a group: its name, and what there is to say of its runs."""
    facts = " · ".join(filter(None, [head.facts, head.left(view.etas)]))
    line: Line = [
        ("▌", "cursor") if cursor else (" ", ""),
        ("▾ " if head.is_open else "▸ ", "dim"),
        (cut(one_line(head.name), width // 2), "title"),
        ("  ", ""),
    ]
    return fit([*line, (cut(one_line(facts), max(0, width - line_width(line))), "dim")], width)


def _header(view: TableView, chosen: list[_Column], gap: str) -> Line:
    line: Line = [("  ", "dim")]
    for at, column in enumerate(chosen):
        is_sorted = column.name == view.sort
        text = title(column.name)
        if is_sorted:  # a heading gives way to the arrow
            text = cut(text, column.width - 1) + ("▾" if view.down else "▴")
        shown = right(text, column.width) if column.at_right else left(text, column.width)
        line += [(gap if at else "", ""), (shown, "accent" if is_sorted else "faint")]
    return line


def _row(
    view: TableView,
    run: Run,
    cursor: bool,
    chosen: list[_Column],
    gap: str,
    width: int,
    names: Mapping[str, str],
) -> Line:
    """`names`: what each name of the rows in view is shown as."""
    slot = view.slots.get(run.number)
    mark = (
        (theme.MARKERS[slot % len(theme.MARKERS)], theme.slot_style(slot)) if slot is not None else (" ", "")
    )
    line: Line = [("▌", "cursor") if cursor else (" ", ""), mark]
    for at, column in enumerate(chosen):
        line.append((gap if at else "", ""))
        line += _cell(view, run, column, cursor, names)
        if column.name == "state" and view.says_why and run.state in WAITING and not view.values:
            line += [(gap, ""), (cut(one_line(why(run)), width - line_width(line) - len(gap)), "dim")]
            break
    return fit(line, width)


def _cell(view: TableView, run: Run, column: _Column, cursor: bool, names: Mapping[str, str]) -> Line:
    if column.name == "state":
        return _state(run, column.width)
    if column.name == "flags":
        style = "bad" if run.flag_level == "critical" else "warn"
        return [(right(f"⚑ {run.flags}", column.width), style) if run.flags else (" " * column.width, "")]
    text, style = _text(view, run, column.name)
    if column.name == "name":
        text = names[text]
    shown = right(text, column.width) if column.at_right else left(text, column.width)
    return [(shown, "bright" if cursor and column.name == "name" else style)]


def _text(view: TableView, run: Run, name: str) -> tuple[str, str]:
    dull = "dim" if run.state in (RunState.CANCELLED, RunState.QUEUED) else "text"
    if name == "#":
        return f"#{run.number}", "dim"
    if name == "name":
        return one_line(run.name), dull
    if name == "model":
        return one_line(run.model.removeprefix("bundled:")), "dim"
    if name == "method":
        return SHORT.get(run.method, run.method), "dim"
    if name == "step":
        return (f"{run.step}/{run.total_steps}" if run.total_steps else ""), "dim"
    if name == "ETA":
        return (_short(view.etas[run.number]) if run.number in view.etas else ""), "text"
    if name in view.values:
        return _number(view.values[name].get(run.number)), "text"
    if name == "train":
        return format.loss(run.loss), "dim" if run.loss is not None else "faint"
    number = run.heldout if name == "held-out" else run.general
    return format.loss(number), "text" if number is not None else "faint"


def _number(value: str | None) -> str:
    """A value of the user's columns, short where it is a long number."""
    if value is None:
        return format.NONE
    try:
        return value if len(value) <= 8 else f"{float(value):.4g}"
    except ValueError:
        return one_line(value)


def _state(run: Run, width: int) -> Line:
    look = theme.state_look(run.standing)
    if run.state not in UNDER_WAY or not run.total_steps:
        word = run.phase if run.state == RunState.RUNNING and run.phase else run.standing
        return [(f"{look.glyph} ", look.style), (left(word, width - 2), look.style)]
    share = min(1.0, run.step / run.total_steps)
    percent = f"{100 * share:3.0f}%"
    return [(f"{look.glyph} ", look.style), *bar(share, width - 7, "bar"), (" " + percent, "text")]


def bar(share: float, width: int, style: str) -> Line:
    """A bar of `width` columns, filled to a share in half columns."""
    halves = round(max(0.0, min(1.0, share)) * width * 2)
    full, half = divmod(halves, 2)
    rest = width - full - half
    return [("━" * full + "╸" * half, style), ("─" * rest, "bar-rest")]


def _short(seconds: float) -> str:
    """At most six columns, coarse, so that a live table changes little."""
    if seconds < 100:
        return f"{seconds:.0f}s"
    minutes = seconds / 60
    if minutes < 100:
        return f"{minutes:.0f}m"
    return f"{minutes / 60:.1f}h" if minutes < 24 * 60 else f"{minutes / 1440:.1f}d"


def about(run: Run) -> tuple[str, str]:
    """What there is to say about a run in one line, and its style."""
    if run.state in WAITING:
        if run.state == RunState.QUEUED:
            why = run.waiting_for or run.reason
            return (f"waits: {why}" if why else run.state), "dim"
        return " · ".join(filter(None, (run.waiting_for, run.reason))) or run.state, "dim"
    if run.state in (RunState.FAILED, RunState.CANCELLED, RunState.PAUSED):
        why = f": {run.reason}" if run.reason else ""
        at = f" at step {run.step}/{run.total_steps}" if run.total_steps else ""
        text = f"{run.state}{at}{why} · {key_of('resume', 'dashboard')} goes on with it"
        return text, "bad" if run.state == RunState.FAILED else "dim"
    if run.state == RunState.FINISHED:
        took = run.ended - run.started if run.ended and run.started else None
        best = f" · best held-out {format.loss(run.heldout_best)}" if run.heldout_best is not None else ""
        if run.reason:
            return f"{run.reason} · took {duration(took)}", "dim"
        return f"finished in {duration(took)}{best}", "dim"
    parts = [run.phase or run.state]
    if run.total_steps:
        parts.append(f"step {run.step}/{run.total_steps}")
    if run.tokens_per_s:
        parts.append(f"{format.count(run.tokens_per_s)} tokens/s")
    if run.attempt > 1:
        parts.append(f"attempt {run.attempt}")
    return " · ".join(parts), "text"
