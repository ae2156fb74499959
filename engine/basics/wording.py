"""Bytes, durations and times as people read them, the same on the command line, on the screen and in messages. An
absent value is an en dash.
"""

from __future__ import annotations

import math
from datetime import datetime

NONE = "–"


def size(number: float | None) -> str:
    """Bytes in binary units, with a decimal below 100 where it says something: 512 B, 12 KiB, 3.4 MiB, 24 GiB."""
    if number is None:
        return NONE
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if abs(number) < 1023.5 or unit == "TiB":
            break
        number /= 1024
    digits = f"{number:,.0f}" if unit == "B" or abs(number) >= 99.95 else f"{number:.1f}".removesuffix(".0")
    return f"{digits} {unit}"


def last_line(output: str, otherwise: str) -> str:
    """The last line that a program printed, where most say why they failed; `otherwise` if it printed nothing."""
    return (output.strip().splitlines() or [otherwise])[-1]


def duration(seconds: float | None) -> str:
    """9s, 3m 20s, 2h 05m, 3d 4h: two units at most."""
    if seconds is None or not math.isfinite(seconds) or seconds < 0:
        return NONE
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    days, hour = divmod(hours, 24)
    if days:
        return f"{days}d {hour}h"
    if hours:
        return f"{hours}h {minute:02}m"
    return f"{minutes}m {second:02}s" if minutes else f"{second}s"


def moment(time: float | datetime | None) -> str:
    """A time (Unix seconds, or one that knows its zone) on this machine's clock, with the zone that it is in; one that
    knows no zone as it is.
    """
    if time is None:
        return NONE
    if isinstance(time, datetime) and time.tzinfo is None:
        return f"{time:%Y-%m-%d %H:%M:%S}"
    local = (time if isinstance(time, datetime) else datetime.fromtimestamp(time)).astimezone()
    return f"{local:%Y-%m-%d %H:%M:%S %Z}"
