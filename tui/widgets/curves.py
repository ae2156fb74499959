"""From answers of the daemon to a `Plot`: which curves, smoothed how, over which steps."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from engine.flags import words
from store.states import RunState
from tui.lines.text import Line
from tui.rows import Row, Run, Snapshot, ask
from tui.state import SMOOTHING, ChartView, XAxis
from tui.widgets import plot
from tui.widgets import x_axis as x_axis_of
from tui.widgets.axis import live_end
from tui.widgets.canvas import Mark, Series
from tui.widgets.chart import BUCKETS, Shown, counted, is_training
from tui.widgets.plot import Plot
from tui.widgets.x_axis import Ruler


def make(
    snapshot: Snapshot, shown: Sequence[Shown], key: str, view: ChartView, *, color: bool, empty: str = ""
) -> Plot:
    """The plot of one key for some runs, the first one on top."""
    placed = [(item, _ruler(snapshot, item, key, view.x_axis)) for item in shown]
    seconds, x_name = _unit(placed, view.x_axis)
    rulers = {item: _scaled(ruler, seconds) for item, ruler in placed if ruler}
    series = [made for item, place in rulers.items() if (made := _series(snapshot, item, key, view, place))]
    ends = [_end(item.run) for item in shown] if view.x_axis is XAxis.STEPS else []
    last = max([*ends, *(one.x[-1] for one in series)], default=0.0)
    window = view.window(last) if last else None
    missing = ", ".join(
        f"#{item.run.number}"
        for item, ruler in placed
        if ruler is None and snapshot.has(counted(item, view.x_axis))
    )
    without = f"{missing} logged no {x_name}" if missing else ""
    return Plot(
        tuple(series),
        tuple(_marks(snapshot, rulers, key)),
        log=view.log,
        x_range=window,
        glyphs=view.glyphs,
        rhythm=not color,
        empty=empty or without or why_empty(shown, key),
        x_name=x_name,
        without=without,
        outliers=view.outliers,
        cross=None if view.cross is None or not window else window[0] + view.cross * (window[1] - window[0]),
    )


def _ruler(snapshot: Snapshot, item: Shown, key: str, x_axis: XAxis) -> Ruler | None:
    own = _rows(snapshot, item, key)
    return x_axis_of.ruler(x_axis, own, snapshot.rows(counted(item, x_axis)), item.run.started)


def _unit(placed: Sequence[tuple[Shown, Ruler | None]], x_axis: XAxis) -> tuple[float, str]:
    """What x is divided by, and what it is called; nothing for steps, as it has always been."""
    if x_axis is XAxis.TIME:
        longest = max((ruler(item.run.step) for item, ruler in placed if ruler), default=0.0)
        return x_axis_of.unit(longest)
    return 1.0, "" if x_axis is XAxis.STEPS else x_axis.value


def _scaled(ruler: Ruler, seconds: float) -> Ruler:
    return ruler if seconds == 1.0 else lambda step: ruler(step) / seconds


def title(key: str, made: Plot, view: ChartView) -> str:
    """What a chart shows and how, for where it stands alone."""
    smoothed = f"smoothed {SMOOTHING[view.smooth]:g}" if any(one.raw for one in made.series) else ""
    return " · ".join(filter(None, (key, "log y" if made.log else "", smoothed)))


def named(made: Plot, runs: Iterable[Run]) -> Plot:
    """The plot with names of the runs beside their numbers."""
    names = {f"#{run.number}": f"#{run.number} {run.name}" for run in runs}
    return replace(
        made, series=tuple(replace(one, label=names.get(one.label, one.label)) for one in made.series)
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


def _rows(snapshot: Snapshot, item: Shown, key: str) -> list[Row]:
    """The points of a curve: of an evaluation with `value`, `lo` and `hi`, else with `last`, `min` and `max`."""
    suite, _, name = key.partition("/")
    evals = [] if is_training(key) else snapshot.rows(ask("evals", run=item.run.number))
    points = [row for row in evals if row["suite"] == suite and row["key"] == name]
    if points:
        return sorted(points, key=lambda row: row["step"])
    return snapshot.rows(ask("curve", run=item.run.number, key=key, buckets=BUCKETS))


def _series(snapshot: Snapshot, item: Shown, key: str, view: ChartView, place: Ruler) -> Series | None:
    label = f"#{item.run.number}"
    rows = _rows(snapshot, item, key)
    if not rows:
        return None
    x = tuple(place(row["step"]) for row in rows)
    if "value" in rows[0]:
        low, high = _column(rows, "lo"), _column(rows, "hi")
        return Series(label, item.slot, x, _column(rows, "value"), low, high, interval=True)
    y, low, high = _column(rows, "last"), _column(rows, "min"), _column(rows, "max")
    if weight := SMOOTHING[view.smooth]:
        return Series(label, item.slot, x, smooth(y, weight), y, y, raw=y)
    return Series(label, item.slot, x, y, low, high)


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


def _marks(snapshot: Snapshot, rulers: Mapping[Shown, Ruler], key: str) -> Iterable[Mark]:
    suite = key.split("/", 1)[0]
    for item, place in rulers.items():
        for row in words.newest(snapshot.rows(ask("flags", run=item.run.number))):
            if words.is_withdrawn(row):
                continue
            if row.get("suite") in (None, "", suite) or is_training(key):
                since = row.get("since_step")
                yield Mark(
                    place(float(row["step"] if since is None else since)),
                    "bad" if row.get("level") == "critical" else "warn",
                )
