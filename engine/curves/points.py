"""What a file of curves says, in the form that all readers return."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

LARGEST_STEP = 2**53  # what a float holds exactly


@dataclass(frozen=True, slots=True)
class Point:
    """One measure at an optimiser step."""

    step: int
    name: str  # as in our logs: `train/loss`
    value: float
    t: float | None = field(default=None, compare=False)  # when, Unix seconds, where the file says it


@dataclass(frozen=True)
class Reading:
    """What is new in a file since it was read before."""

    points: tuple[Point, ...] = ()
    total_steps: int | None = None  # of the whole run, where the file says it
    problem: str | None = None  # what of it could not be used, in words


def number(value: Any) -> float | None:
    """Return a measure as a number, also where JSON has NaN as text; None for what is none."""
    if isinstance(value, bool) or not isinstance(value, int | float | str):
        return None
    if isinstance(value, str) and value.strip("+-").lower() not in ("nan", "inf", "infinity"):
        return None
    try:
        return float(value)
    except OverflowError:  # a whole number of hundreds of digits
        return math.inf if float(str(value)) > 0 else -math.inf


def whole(value: Any) -> int | None:
    """Return a step: a whole number from 0 on; None for what is none, or no run can reach."""
    as_number = number(value)
    if as_number is None or not 0 <= as_number < LARGEST_STEP or as_number != int(as_number):
        return None
    return int(as_number)
