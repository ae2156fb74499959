"""Last and best value of every metric of a run, kept point by point: the run table never scans metrics."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, fields
from types import MappingProxyType
from typing import Any

import duckdb

from store.best import HIGHER_IS_BETTER

RESULT = "heldout/"  # of these, step 0 is the base model's: it is never the best of a run


@dataclass(slots=True)
class Summary:
    """One row of `run_summary`, less its key. `best` is None until there is a finite value."""

    last: float
    last_step: int
    best: float | None
    best_step: int | None
    n: int
    first_step: int
    higher_is_better: bool


COLUMNS = tuple(item.name for item in fields(Summary))
Summaries = dict[str, Summary]
_AS_NAMED: Mapping[str, bool] = MappingProxyType({})


def add(
    summaries: Summaries, step: int, values: dict[str, float], directions: Mapping[str, bool] = _AS_NAMED
) -> None:
    """Fold in one line. Of equal steps the later line is the last, of equal bests the earlier one. `directions`:
    whether higher is better, where the line says so: it counts from the first line of a metric on.
    """
    for key, value in values.items():
        known = summaries.get(key)
        if known is None:
            higher = directions.get(key, key.endswith(HIGHER_IS_BETTER))
            summaries[key] = known = Summary(value, step, None, None, 0, step, higher)
        known.n += 1
        known.first_step = min(known.first_step, step)
        if step >= known.last_step:
            known.last, known.last_step = value, step
        best = known.best
        if step == 0 and key.startswith(RESULT):
            better = False
        elif best is None:
            better = math.isfinite(value)
        elif known.higher_is_better:
            better = best < value < math.inf
        else:
            better = value < best and value > -math.inf
        if better:
            known.best, known.best_step = value, step


def load(cursor: duckdb.DuckDBPyConnection, run: int) -> Summaries:
    """What is committed for a run."""
    sql = f"SELECT key, {', '.join(COLUMNS)} FROM run_summary WHERE run = $run"
    return {key: Summary(*rest) for key, *rest in cursor.execute(sql, {"run": run}).fetchall()}


def repair(cursor: duckdb.DuckDBPyConnection, run: int, directions: Mapping[str, bool] = _AS_NAMED) -> None:
    """Work out a run's summaries afresh from its metrics, by the same rules as `add`. `directions`: whether higher is
    better, where that is said by now; of other metrics it stays as it is.
    """
    score = "CASE WHEN list_contains($higher, key) THEN -value ELSE value END"
    counts = f"isfinite(value) AND (step > 0 OR NOT starts_with(key, '{RESULT}'))"
    parameters: dict[str, Any] = {"run": run}
    said = cursor.execute("SELECT key FROM run_summary WHERE run = $run AND higher_is_better", parameters)
    higher = {key for (key,) in said.fetchall() if directions.get(key, True)}
    parameters |= {"higher": sorted(higher | {key for key, is_so in directions.items() if is_so})}
    cursor.execute("DELETE FROM run_summary WHERE run = $run", {"run": run})
    cursor.execute(
        f"""
INSERT INTO run_summary
SELECT run, key, arg_max(value, (step, attempt, t)), max(step),
       arg_min(value, ({score}, attempt, t)) FILTER ({counts}),
       arg_min(step, ({score}, attempt, t)) FILTER ({counts}), count(*), min(step),
       list_contains($higher, key)
FROM metrics WHERE run = $run GROUP BY run, key""",
        parameters,
    )
