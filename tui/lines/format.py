"""Numbers as people read them; bytes and durations are in engine/basics/wording.py. An absent value is an en dash."""

from __future__ import annotations

import math
from contextlib import suppress
from datetime import datetime
from pathlib import Path

from engine.basics.wording import NONE, moment


def loss(value: float | None) -> str:
    """Three decimals; the places that a loss curve is told apart by."""
    if value is None:
        return NONE
    if not math.isfinite(value):
        return "NaN" if math.isnan(value) else "inf"
    return f"{value:.3f}" if abs(value) < 1000 else f"{value:.3g}"


def delta(value: float | None) -> str:
    """A signed difference: +0.012, −0.3."""
    if value is None or not math.isfinite(value):
        return NONE
    text = f"{value:+.3f}" if abs(value) >= 0.0005 or value == 0 else f"{value:+.1e}"
    return text.replace("-", "−")


def count(value: float | None) -> str:
    """999, 1.2k, 34k, 5.6M."""
    if value is None:
        return NONE
    for limit, unit in ((1e9, "G"), (1e6, "M"), (1e3, "k")):
        if abs(value) >= limit:
            scaled = value / limit
            return f"{scaled:.1f}{unit}" if abs(scaled) < 10 else f"{scaled:.0f}{unit}"
    return f"{value:.0f}"


def value(number: object) -> str:
    """A cell of a result table."""
    if number is None:
        return NONE
    if isinstance(number, bool):
        return "true" if number else "false"
    if isinstance(number, float):
        if not math.isfinite(number):
            return "NaN" if math.isnan(number) else ("inf" if number > 0 else "−inf")
        return f"{number:.0f}" if 1e6 <= abs(number) < 1e15 else f"{number:.6g}"
    if isinstance(number, datetime):
        return moment(number)
    return str(number)


def interval(low: float | None, high: float | None) -> str:
    """A confidence interval: [1.20, 1.31]."""
    return "" if low is None or high is None else f"[{loss(low)}, {loss(high)}]"


def short_path(path: Path) -> str:
    """`~/…` for what is below the user's own directory."""
    with suppress(ValueError, RuntimeError):
        return f"~/{path.relative_to(Path.home())}"
    return str(path)
