"""The curves of a metric, as a screen draws them."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from store import rollups
from store.queried import Planned, Query, numbers

_POINTS = "SELECT run, step, t, value AS min, value AS max, value AS last, 1 AS n"


def curves(runs: Sequence[int], key: str, buckets: int = 400) -> Planned:
    """run, step, t, min, max, last, n per bucket of a run's steps; one row per point where there are no more of them.

    A bucket is a power of two steps wide, and the first begins at step 0: there are more than half as many as asked
    for, and while a run logs, those behind it stay as they are, and so does what a screen has drawn of them. `step` and
    `t` are those of the bucket's last point. min and max pass over NaN where they can. All runs in one query, since
    planning takes as long as reading 10,000 points; and planned for these series alone, since a query for all that
    a series can be takes twice as long.
    """
    chosen = f"run IN ({numbers(runs)}) AND key = $key"
    series = f"""
SELECT run, first_step, last_step, n,
  run IN (SELECT run FROM rollups WHERE {chosen} AND width = {rollups.LEVELS[-1]}) AS is_long
FROM run_summary WHERE {chosen} ORDER BY run"""
    return Planned((series, {"key": key}), lambda rows: _of_series(rows, key, buckets))


def _of_series(rows: Iterable[tuple[int, int, int, int, bool]], key: str, buckets: int) -> Query:
    """`rows`: number, first and last step, points, and whether it has rollups, of each run that has the metric."""
    widths: dict[int, list[int]] = {}  # runs by the steps of a bucket
    levels: dict[int, list[int]] = {}  # runs by the level that they are read from; of 1 from their points
    for run, first_step, last_step, n, is_long in rows:
        width = _width(first_step, last_step, n, buckets)
        widths.setdefault(width, []).append(run)
        levels.setdefault(rollups.level_of(width) if is_long else 1, []).append(run)
    parts = [
        f"SELECT run, step, t, min, max, last, n FROM rollups WHERE {_of(runs)} AND width = {level}"
        if level > 1
        else f"{_POINTS} FROM metrics_cold WHERE {_of(runs)}"
        for level, runs in levels.items()
    ]
    every = [run for runs in widths.values() for run in runs]
    parts.append(f"{_POINTS} FROM metrics_live WHERE {_of(every)}")
    width_of = " ".join(f"WHEN run IN ({numbers(runs)}) THEN {width}" for width, runs in widths.items())
    sql = f"""
SELECT run, {rollups.OF_ROWS}
FROM ({" UNION ALL ".join(parts)})
GROUP BY run, step // {next(iter(widths)) if len(widths) == 1 else f"CASE {width_of or 'WHEN true THEN 1'} END"}
ORDER BY run, step"""
    return sql, {"key": key}


def _of(runs: Sequence[int]) -> str:
    return f"run IN ({numbers(runs)}) AND key = $key"


def _width(first_step: int, last_step: int, n: int, buckets: int) -> int:
    """Steps of a bucket: 1 where the points are few."""
    if n <= buckets:
        return 1
    return 2 ** math.ceil(math.log2(max(1, (last_step - first_step + 1) / buckets)))
