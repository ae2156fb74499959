"""Long series in short: for every 64, 256, 1024, … steps of a series its least, greatest and last value, so that a
curve of any length is drawn from some thousand rows and loses no spike.

A series that is shorter than LONG steps has none: it is read whole. store/settling.py makes them.
"""

from __future__ import annotations

LEVELS = tuple(64 * 4**power for power in range(8))  # steps that a row is of, to a million
LONG = 400 * LEVELS[0]  # steps: a shorter series is drawn from its points

# How several rows become one; min and max pass over NaN where they can (DuckDB takes it for the greatest value).
_MERGED = (
    "max(step) AS step, max(t) AS t, min({min}) AS min,"
    " coalesce(max(CASE WHEN NOT isnan({max}) THEN {max} END), min({min})) AS max,"
    " arg_max({last}, step) AS last, {n} AS n"
)
OF_POINTS = _MERGED.format(min="value", max="value", last="value", n="count(*)")
OF_ROWS = _MERGED.format(min="min", max="max", last="last", n="sum(n)::BIGINT")


def level_of(width: int) -> int:
    """Return the level to read for buckets of a width, a power of two; 1, the points, below the first level."""
    return max((level for level in LEVELS if level <= width), default=1)


def is_long(first_step: int, last_step: int) -> bool:
    """Whether a series needs rows here."""
    return last_step - first_step >= LONG
