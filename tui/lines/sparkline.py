"""A curve in one line."""

from __future__ import annotations

import math
from collections.abc import Sequence

LEVELS = "▁▂▃▄▅▆▇█"


def sparkline(values: Sequence[float], width: int, span: tuple[float, float] | None = None) -> str:
    """At most `width` characters, each as high as the last value of its share of the values; blank where it is no
    number. `span`: what the lowest and the highest stand for, if not the least and greatest value.
    """
    if not values or width < 1:
        return ""
    count = min(width, len(values))
    picked = [values[(at + 1) * len(values) // count - 1] for at in range(count)]
    finite = [value for value in picked if math.isfinite(value)]
    if not finite:
        return " " * count
    low, high = span or (min(finite), max(finite))
    return "".join(_level(value, low, high) for value in picked)


def _level(value: float, low: float, high: float) -> str:
    if not math.isfinite(value):
        return " "
    share = (value - low) / (high - low) if high > low else 0.5
    return LEVELS[max(0, min(len(LEVELS) - 1, int(share * len(LEVELS))))]
