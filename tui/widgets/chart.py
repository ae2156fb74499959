"""From answers of the daemon to a `Plot`: which curves, smoothed how, over which steps."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from engine.flags import words
from store.states import RunState
from tui.lines.text import Line
from tui.rows import Request, Row, Run, Snapshot, ask
from tui.state import SMOOTHING, ChartView
from tui.widgets import plot
from tui.widgets.axis import live_end
from tui.widgets.plot import Mark, Plot, Series

BUCKETS = 400


@dataclass(frozen=True)
class Shown:
    """A run in a chart, with its colour."""

    run: Run
    slot: int


def requests(shown: Iterable[Shown], key: str) -> list[Request]:
    """The answers that a chart of `key` needs."""
    wanted = []
    for item in shown:
        wanted.append(ask("curve", run=item.run.number, key=key, buckets=BUCKETS))
        if not is_training(key):
            wanted.append(ask("evals", run=item.run.number))
        wanted.append(ask("flags", run=item.run.number))
    return wanted


def is_training(key: str) -> bool:
    """Logged at every step, not an evaluation with an interval."""
    return key.split("/", 1)[0] in ("train", "memory")


def make(
    snapshot: Snapshot, shown: Sequence[Shown], key: str, view: ChartView, *, color: bool, empty: str = ""
) -> Plot:
    """The plot of one key for some runs, the first one on top."""
    series = [made for item in shown if (made := _series(snapshot, item, key, view))]
    ends = [_end(item.run) for item in shown]
    last = max([*ends, *(one.x[-1] for one in series)], default=0.0)
    return Plot(
        tuple(series),
        tuple(_marks(snapshot, shown, key)),
        log=view.log,
        x_range=view.window(last) if last else None,
        glyphs=view.glyphs,
        rhythm=not color,
        empty=empty or why_empty(shown, key),
    )


def lines(made: Plot, width: int, height: int) -> list[Line]:
    return plot.render(made, width, height)


def why_empty(shown: Sequence[Shown], key: str) -> str:
    if not shown:
        return "no run selected"
    if all(item.run.state == RunState.QUEUED for item in shown):
        return "not started yet"
    return f"no {key} yet"


def _end(run: Run) -> float:
    return live_end(run.step, run.total_steps) if run.live else float(run.step)


def _series(snapshot: Snapshot, item: Shown, key: str, view: ChartView) -> Series | None:
    label = f"#{item.run.number}"
    if not is_training(key) and (made := _eval_series(snapshot, item, key, label)):
        return made
    rows = snapshot.rows(ask("curve", run=item.run.number, key=key, buckets=BUCKETS))
    if not rows:
        return None
    x, y = _column(rows, "step"), _column(rows, "last")
    low, high = _column(rows, "min"), _column(rows, "max")
    if weight := SMOOTHING[view.smooth]:
        return Series(label, item.slot, x, smooth(y, weight), y, y, last=y[-1])
    return Series(label, item.slot, x, y, low, high)


def _eval_series(snapshot: Snapshot, item: Shown, key: str, label: str) -> Series | None:
    suite, _, name = key.partition("/")
    rows = [
        row
        for row in snapshot.rows(ask("evals", run=item.run.number))
        if row["suite"] == suite and row["key"] == name
    ]
    if not rows:
        return None
    rows.sort(key=lambda row: row["step"])
    low, high = _column(rows, "lo"), _column(rows, "hi")
    return Series(label, item.slot, _column(rows, "step"), _column(rows, "value"), low, high, interval=True)


def _column(rows: Sequence[Row], name: str) -> tuple[float, ...]:
    return tuple(math.nan if row[name] is None else float(row[name]) for row in rows)


def smooth(values: Sequence[float], weight: float) -> tuple[float, ...]:
    """Exponential moving average, corrected for its start (Kingma and Ba 2015, section 3); NaN stays NaN."""
    average, mass, result = 0.0, 0.0, []
    for value in values:
        if not math.isfinite(value):
            result.append(value)
            continue
        average = weight * average + (1 - weight) * value
        mass = weight * mass + (1 - weight)
        result.append(average / mass)
    return tuple(result)


def _marks(snapshot: Snapshot, shown: Sequence[Shown], key: str) -> Iterable[Mark]:
    suite = key.split("/", 1)[0]
    for item in shown:
        for row in words.newest(snapshot.rows(ask("flags", run=item.run.number))):
            if words.is_withdrawn(row):
                continue
            if row.get("suite") in (None, "", suite) or is_training(key):
                since = row.get("since_step")
                yield Mark(
                    float(row["step"] if since is None else since),
                    "bad" if row.get("level") == "critical" else "warn",
                )
