"""Metrics are moved from `metrics_live`, where they are written, to `metrics_cold`, where they are read fastest, and
long series get their rollups.
"""

from __future__ import annotations

from collections.abc import Iterable

import duckdb

from store import rollups
from store.queried import numbers


def move(cursor: duckdb.DuckDBPyConnection, runs: Iterable[int]) -> None:
    """Move the metrics of runs that go on from `metrics_live` to `metrics_cold`, and make rows of them."""
    chosen = _chosen(runs)
    _move(cursor, chosen)
    if long := _long_of(cursor, chosen):
        _add(cursor, "metrics_live", _chosen(long))
    cursor.execute(f"DELETE FROM metrics_live WHERE {chosen}")


def settle(cursor: duckdb.DuckDBPyConnection, runs: Iterable[int]) -> None:
    """The same of runs that have ended. Their rows are then as a rebuild makes them: one for a bucket."""
    chosen = _chosen(runs)
    _move(cursor, chosen)
    cursor.execute(f"DELETE FROM metrics_live WHERE {chosen}")
    if long := _long_of(cursor, chosen):
        make(cursor, long)


def make(cursor: duckdb.DuckDBPyConnection, runs: Iterable[int]) -> None:
    """Make the rows of runs whose metrics are in `metrics_cold`."""
    chosen = _chosen(runs)
    cursor.execute(f"DELETE FROM rollups WHERE {chosen}")
    _add(cursor, "metrics_cold", chosen)


def _chosen(runs: Iterable[int]) -> str:
    """Constants in SQL, not a parameter: only the row groups that may hold these runs are read then."""
    return f"run IN ({numbers(tuple(runs))})"


def _move(cursor: duckdb.DuckDBPyConnection, chosen: str) -> None:
    cursor.execute(
        f"INSERT INTO metrics_cold SELECT * FROM metrics_live WHERE {chosen} ORDER BY run, key, step"
    )


def _long_of(cursor: duckdb.DuckDBPyConnection, chosen: str) -> list[int]:
    is_long = f"last_step - first_step >= {rollups.LONG}"
    sql = f"SELECT DISTINCT run FROM run_summary WHERE {chosen} AND {is_long}"
    return [run for (run,) in cursor.execute(sql).fetchall()]


def _add(cursor: duckdb.DuckDBPyConnection, moved: str, chosen: str) -> None:
    """Series that have rows get more, of the points that were moved; those that have become long get all of theirs."""
    points = f"SELECT run, key, step // {rollups.LEVELS[0]} AS bucket, min(step) AS first_step, {rollups.OF_POINTS}"
    cursor.execute(
        f"""
INSERT INTO rollups
WITH known AS MATERIALIZED (
  SELECT DISTINCT run, key FROM rollups WHERE {chosen} AND width = {rollups.LEVELS[-1]}
), fresh AS MATERIALIZED (
  SELECT run, key FROM metrics_cold ANTI JOIN known USING (run, key) WHERE {chosen}
  GROUP BY run, key HAVING max(step) - min(step) >= {rollups.LONG}
), added AS MATERIALIZED (
  {points} FROM {moved} JOIN known USING (run, key) WHERE {chosen} GROUP BY run, key, bucket
  UNION ALL {points} FROM metrics_cold JOIN fresh USING (run, key) WHERE {chosen} GROUP BY run, key, bucket
)
SELECT run, key, width, min(first_step) AS first_step, {rollups.OF_ROWS}
FROM added, (SELECT unnest({list(rollups.LEVELS)}) AS width) GROUP BY run, key, width, first_step // width
ORDER BY run, key, width, first_step"""
    )
