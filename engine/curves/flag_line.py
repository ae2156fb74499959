"""A flag as its line in the log."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Sequence
from typing import Any

from engine.flags.flag import Flag
from store import lines


def flag_line(flag: Flag) -> lines.Flag:
    """Return the line; what is not finite is null there."""
    body = finite(dataclasses.asdict(flag))
    forecast = lines.Forecast(**body["forecast"]) if flag.forecast else None
    return lines.Flag(**{**body, "forecast": forecast})


def finite(value: Any) -> Any:
    """Replace infinite and not-a-number values by null, where they mean that there is none."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: finite(inner) for key, inner in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [finite(inner) for inner in value]
    return value
