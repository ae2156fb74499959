"""A curve in one line."""

from __future__ import annotations

import math
from collections.abc import Sequence

LEVELS = "▁▂▃▄▅▆▇█"
ASCII_LEVELS = "_.-~=+*#"


def sparkline(values: Sequence[float], width: int, *, unicode: bool = True) -> str:
    """At most `width` characters, each as high as the last value of its share of the values; blank where it is no
    number.
    """
    if not values or width < 1:
        return ""
    count = min(width, len(values))
    picked = [values[(at + 1) * len(values) // count - 1] for at in range(count)]
    finite = [value for value in picked if math.isfinite(value)]
    if not finite:
        return " " * count
    low, high = min(finite), max(finite)
    levels = LEVELS if unicode else ASCII_LEVELS
    return "".join(_level(value, low, high, levels) for value in picked)


def _level(value: float, low: float, high: float, levels: str) -> str:
    if not math.isfinite(value):
        return " "
    share = (value - low) / (high - low) if high > low else 0.5
    return levels[min(len(levels) - 1, int(share * len(levels)))]
