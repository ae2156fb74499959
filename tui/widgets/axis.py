"""Ranges, ticks and their labels: pure arithmetic, no screen."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from itertools import pairwise


def nice_ticks(low: float, high: float, most: int) -> list[float]:
    """Round values inside [low, high], at most `most`, spaced by 1, 2 or 5 times a power of ten."""
    if most < 1 or not high > low:
        return [low]
    step = nice_step((high - low) / most)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    if last - first + 1 > most:
        step = nice_step(step * 1.01)
        first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [index * step for index in range(first, last + 1)]


def nice_step(at_least: float) -> float:
    """The smallest of 1, 2, 5 times a power of ten that is not below `at_least`."""
    power = 10.0 ** math.floor(math.log10(at_least))
    return next(power * factor for factor in (1, 2, 5, 10) if power * factor >= at_least * (1 - 1e-9))


def log_ticks(low: float, high: float, most: int) -> list[float]:
    """1, 2 and 5 times powers of ten where they fit, powers of ten alone where not; both ends above 0."""
    powers = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for factors in ((1, 2, 5), (1,)):
        ticks = [factor * 10.0**power for power in powers for factor in factors]
        ticks = [tick for tick in ticks if low * (1 - 1e-9) <= tick <= high * (1 + 1e-9)]
        if 2 <= len(ticks) <= most:
            return ticks
    if len(ticks) > most:
        return ticks[:: math.ceil(len(ticks) / most)]
    return nice_ticks(low, high, most)


def padded(low: float, high: float, log: bool) -> tuple[float, float]:
    """A little air above and below, snapped outwards, so that a live curve seldom moves the axis."""
    if log:
        low, high = math.log10(low), math.log10(high)
    if high - low < 1e-12 * max(1.0, abs(high)):
        half = abs(high) * 0.05 or 0.5
        low, high = low - half, high + half
    grain = nice_step((high - low) / 25)
    bottom, top = math.floor(low / grain - 0.2) * grain, math.ceil(high / grain + 0.2) * grain
    return (10**bottom, 10**top) if log else (bottom, top)


def share_of(value: float, ends: tuple[float, float], *, log: bool) -> float:
    """Where a value is between the ends of an axis: 0 at the lower one, 1 at the upper."""
    low, high = ends
    if log:
        value, low, high = math.log10(value), math.log10(low), math.log10(high)
    return (value - low) / (high - low)


def live_end(step: float, total: float | None) -> float:
    """Where the x axis of a live run ends: an eighth, a quarter, half or all of its planned steps."""
    if not total or step >= total:
        return step
    return next(total / parts for parts in (8, 4, 2, 1) if step <= total / parts)


def tick_labels(ticks: list[float]) -> list[str]:
    """Equally precise labels: 0.5 and 1.0, 200 and 400, 1k and 2k, 1e-4 and 2e-4."""
    largest = max((abs(tick) for tick in ticks), default=0.0)
    gap = min((b - a for a, b in pairwise(ticks)), default=largest or 1.0)
    if largest and (largest < 1e-3 or largest >= 1e9):
        digits = decimals(gap / 10 ** math.floor(math.log10(largest) + 1e-9))
        shown = (f"{tick:.{digits}e}" if tick else "0" for tick in ticks)
        return [label.replace("e-0", "e-").replace("e+0", "e") for label in shown]
    for limit, unit in ((1e6, "M"), (1e3, "k")):
        if largest >= 10 * limit or (largest >= limit and _whole(tick / limit for tick in ticks)):
            return [f"{tick / limit:.{decimals(gap / limit)}f}{unit}" if tick else "0" for tick in ticks]
    return [f"{tick:.{decimals(gap)}f}" for tick in ticks]


def is_round(tick: float) -> bool:
    """Whether it is 1, 2 or 5 times a power of ten, and so says what it is alone."""
    mantissa = tick / 10 ** math.floor(math.log10(tick) + 1e-9)
    return any(abs(mantissa - factor) < 1e-6 for factor in (1, 2, 5))


def _whole(values: Iterable[float]) -> bool:
    return all(abs(value - round(value)) < 1e-6 for value in values)


def decimals(gap: float) -> int:
    """Decimal places that tell values apart which differ by `gap`."""
    return max(0, min(8, -math.floor(math.log10(gap) + 1e-9))) if gap > 0 else 0


def value(number: float) -> str:
    """Four significant digits, short; a whole number from ten thousand on."""
    if number and (abs(number) < 1e-3 or abs(number) >= 1e6):
        return f"{number:.2e}".replace("e-0", "e-").replace("e+0", "e")
    return f"{number:.4g}" if abs(number) < 1e4 else f"{number:.0f}"


def position(x: float) -> str:
    """A place on an x axis: a whole number whole, any other with four significant digits."""
    return f"{x:.0f}" if x == round(x) else f"{x:.4g}"


def without_outliers(values: Sequence[float]) -> tuple[float, float]:
    """The range of the values inside Tukey's outer fences: three times the middle half's width from it (Exploratory
    Data Analysis, 1977). Where nothing is that far out, the range of all.
    """
    ordered = sorted(values)
    lower, upper = _quantile(ordered, 0.25), _quantile(ordered, 0.75)
    reach = 3 * (upper - lower)
    inside = [number for number in ordered if lower - reach <= number <= upper + reach]
    return inside[0], inside[-1]


def _quantile(ordered: Sequence[float], share: float) -> float:
    """Linear between the neighbours, as in NumPy."""
    at = share * (len(ordered) - 1)
    below = math.floor(at)
    above = min(below + 1, len(ordered) - 1)
    return ordered[below] + (ordered[above] - ordered[below]) * (at - below)
