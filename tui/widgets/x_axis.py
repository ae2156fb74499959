"""What the x axis of a chart counts, and where a step of a run stands on it."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Sequence

from tui.rows import Row
from tui.state import XAxis

Ruler = Callable[[float], float]  # from a step to its place on the axis

_UNITS = ((2 * 3600.0, 3600.0, "hours"), (120.0, 60.0, "minutes"), (float("-inf"), 1.0, "seconds"))


def ruler(axis: XAxis, own: Sequence[Row], counted: Sequence[Row], started: float | None) -> Ruler | None:
    """Of one run. `own`: points of what is drawn, with `step` and `t`; `counted`: of the curve in chart.COUNTED. None:
    the run has not logged it.
    """
    if axis is XAxis.STEPS:
        return float
    if axis is XAxis.TIME:
        times = {float(row["step"]): row["t"] for row in own if row["t"] is not None}
        start = min(times.values(), default=0.0) if started is None else started
        return _between([(step, t - start) for step, t in sorted(times.items())])
    points = [(float(row["step"]), float(row["last"])) for row in counted if row["last"] is not None]
    return _between([(0.0, 0.0), *points]) if points else None


def _between(points: Sequence[tuple[float, float]]) -> Ruler | None:
    """Linear between known steps; before the first and after the last one, theirs."""
    if not points:
        return None
    steps = [step for step, _ in points]

    def place(step: float) -> float:
        after = bisect_right(steps, step)
        if after in (0, len(points)):
            return points[max(0, after - 1)][1]
        (x0, y0), (x1, y1) = points[after - 1], points[after]
        return y0 + (y1 - y0) * (step - x0) / (x1 - x0)

    return place


def unit(longest: float) -> tuple[float, str]:
    """Seconds of the unit that a time axis of this length is read in, and its name."""
    return next((seconds, name) for least, seconds, name in _UNITS if longest >= least)
