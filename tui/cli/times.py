"""A time that somebody writes: `02:00`, `2026-11-30 02:00`, `+2h`."""

from __future__ import annotations

import re
from datetime import datetime, timedelta

_AFTER = re.compile(r"\+(\d{1,5})([mhd])")
_UNITS = {"m": "minutes", "h": "hours", "d": "days"}
_FORMS = "give 02:00 (the next time that it is), 2030-01-31 02:00, or +90m, +2h, +1d from now"


def parse_time(text: str, now: datetime) -> float:
    """Return Unix seconds. Raises ValueError with a sentence."""
    if match := _AFTER.fullmatch(text):
        return (now + timedelta(**{_UNITS[match[2]]: int(match[1])})).timestamp()
    try:
        clock = datetime.strptime(text, "%H:%M").time()  # local, as people say it
    except ValueError:
        return _date(text, now)
    at = datetime.combine(now.date(), clock)
    return (at if at > now else at + timedelta(days=1)).timestamp()


def _date(text: str, now: datetime) -> float:
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        raise ValueError(f"{text} is no time: {_FORMS}") from None
    if at.timestamp() <= now.timestamp():
        raise ValueError(f"{text} is over: {_FORMS}")
    return at.timestamp()
