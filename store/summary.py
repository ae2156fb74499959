"""Last and best value of every metric of a run, kept point by point: the run table never scans metrics."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
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


COLUMNS = tuple(item.name for item in fields(Summary))
Summaries = dict[str, Summary]


def add(summaries: Summaries, step: int, values: dict[str, float]) -> None:
    """Fold in one line. Of equal steps the later line is the last, of equal bests the earlier one."""
    for key, value in values.items():
        known = summaries.get(key)
        if known is None:
            summaries[key] = known = Summary(value, step, None, None, 0, step)
        known.n += 1
        known.first_step = min(known.first_step, step)
        if step >= known.last_step:
            known.last, known.last_step = value, step
        best = known.best
        if step == 0 and key.startswith(RESULT):
            better = False
        elif best is None:
            better = math.isfinite(value)
        elif key.endswith(HIGHER_IS_BETTER):
            better = best < value < math.inf
        else:
            better = value < best and value > -math.inf
        if better:
            known.best, known.best_step = value, step


def load(cursor: duckdb.DuckDBPyConnection, run: int) -> Summaries:
    """What is committed for a run."""
    sql = f"SELECT key, {', '.join(COLUMNS)} FROM run_summary WHERE run = $run"
    return {key: Summary(*rest) for key, *rest in cursor.execute(sql, {"run": run}).fetchall()}


def repair(cursor: duckdb.DuckDBPyConnection, run: int) -> None:
    """Work out a run's summaries afresh from its metrics, by the same rules as `add`."""
    higher = " OR ".join(f"ends_with(key, '{end}')" for end in HIGHER_IS_BETTER)
    score = f"CASE WHEN {higher} THEN -value ELSE value END"
    counts = f"isfinite(value) AND (step > 0 OR NOT starts_with(key, '{RESULT}'))"
    parameters: dict[str, Any] = {"run": run}
    cursor.execute("DELETE FROM run_summary WHERE run = $run", parameters)
    cursor.execute(
        f"""
INSERT INTO run_summary
SELECT run, key, arg_max(value, (step, attempt, t)), max(step),
       arg_min(value, ({score}, attempt, t)) FILTER ({counts}),
       arg_min(step, ({score}, attempt, t)) FILTER ({counts}), count(*), min(step)
FROM metrics WHERE run = $run GROUP BY run, key""",
        parameters,
    )
