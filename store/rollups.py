"""Long series in short: for every 64, 256, 1024, … steps of a series its least, greatest and last value, so that a
curve of any length is drawn from some thousand rows and loses no spike.

Made as metrics are moved to `metrics_cold`. A series that is shorter than LONG steps has none: it is read whole.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # the screen knows the queries, and has no database
    import duckdb

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


def level_of(width: str) -> str:
    """In SQL: the level to read for buckets of a width, which is a power of two and no less than the first level."""
    return f"least({LEVELS[-1]}, pow(4, floor(log2({width}) / 2))::BIGINT)"


def move(cursor: duckdb.DuckDBPyConnection, runs: Iterable[int]) -> None:
    """Move the metrics of runs that go on from `metrics_live` to `metrics_cold`, and make rows of them."""
    chosen = {"runs": list(runs)}
    _move(cursor, chosen)
    if long := _long_of(cursor, chosen):
        _add(cursor, "metrics_live", {"runs": long})
    cursor.execute("DELETE FROM metrics_live WHERE list_contains($runs, run)", chosen)


def settle(cursor: duckdb.DuckDBPyConnection, runs: Iterable[int]) -> None:
    """The same of runs that have ended. Their rows are then as a rebuild makes them: one for a bucket."""
    chosen = {"runs": list(runs)}
    _move(cursor, chosen)
    cursor.execute("DELETE FROM metrics_live WHERE list_contains($runs, run)", chosen)
    if long := _long_of(cursor, chosen):
        make(cursor, long)


def make(cursor: duckdb.DuckDBPyConnection, runs: Iterable[int]) -> None:
    """Make the rows of runs whose metrics are in `metrics_cold`."""
    chosen = {"runs": list(runs)}
    cursor.execute("DELETE FROM rollups WHERE list_contains($runs, run)", chosen)
    _add(cursor, "metrics_cold", chosen)


def is_long(first_step: int, last_step: int) -> bool:
    """Whether a series needs rows here."""
    return last_step - first_step >= LONG


def _move(cursor: duckdb.DuckDBPyConnection, chosen: dict[str, Any]) -> None:
    cursor.execute(
        "INSERT INTO metrics_cold SELECT * FROM metrics_live WHERE list_contains($runs, run) ORDER BY run, key, step",
        chosen,
    )


def _long_of(cursor: duckdb.DuckDBPyConnection, chosen: dict[str, Any]) -> list[int]:
    sql = f"SELECT DISTINCT run FROM run_summary WHERE list_contains($runs, run) AND last_step - first_step >= {LONG}"
    return [run for (run,) in cursor.execute(sql, chosen).fetchall()]


def _add(cursor: duckdb.DuckDBPyConnection, moved: str, chosen: dict[str, Any]) -> None:
    """Series that have rows get more, of the points that were moved; those that have become long get all of theirs."""
    points = f"SELECT run, key, step // {LEVELS[0]} AS bucket, min(step) AS first_step, {OF_POINTS}"
    cursor.execute(
        f"""
INSERT INTO rollups
WITH known AS MATERIALIZED (
  SELECT DISTINCT run, key FROM rollups WHERE list_contains($runs, run) AND width = {LEVELS[-1]}
), fresh AS MATERIALIZED (
  SELECT run, key FROM metrics_cold ANTI JOIN known USING (run, key) WHERE list_contains($runs, run)
  GROUP BY run, key HAVING max(step) - min(step) >= {LONG}
), added AS MATERIALIZED (
  {points} FROM {moved} JOIN known USING (run, key) GROUP BY run, key, bucket
  UNION ALL {points} FROM metrics_cold JOIN fresh USING (run, key) GROUP BY run, key, bucket
)
SELECT run, key, width, min(first_step) AS first_step, {OF_ROWS}
FROM added, (SELECT unnest({list(LEVELS)}) AS width) GROUP BY run, key, width, first_step // width
ORDER BY run, key, width, first_step""",
        chosen,
    )
