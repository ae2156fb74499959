"""Which columns are times, and how people read them."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from engine.basics.wording import moment

# Columns of the store, and keys of `--json`, that are Unix seconds.
TIMES = frozenset(
    ("created", "started", "ended", "t", "first_t", "last_t", "not_before", "removed", "mirrored")
)
# The years 2001 to 2286: a difference of times, which may have such a name, is none.
_FIRST, _LAST = 1e9, 1e10


def as_moment(name: str, value: Any) -> Any:
    """A time of the store as one on this machine's clock, with its zone; any other value as it is."""
    if name in TIMES and isinstance(value, float | Decimal) and _FIRST <= value < _LAST:
        return moment(float(value))
    return value
