"""The named queries: what the screen and the command line ask, each as SQL with parameters.

Every function returns `(sql, parameters)` for `cursor.execute`. This module imports neither DuckDB nor
pyarrow, so that whoever prints a table can also print the SQL that made it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

from store.macros import PAIRED
from store.states import ACTIVE, RunState, sql_list

Query = tuple[str, dict[str, Any]]

_SUMMARIES = """
summaries AS (
  SELECT run,
         any_value(last) FILTER (key = 'train/loss') AS loss,
         any_value(last) FILTER (key = 'heldout/loss') AS heldout,
         any_value(best) FILTER (key = 'heldout/loss') AS heldout_best,
         any_value(last) FILTER (key = 'general/loss') AS general,
         any_value(last) FILTER (key = 'train/tokens_per_s') AS tokens_per_s
  FROM run_summary
  WHERE key IN ('train/loss', 'heldout/loss', 'general/loss', 'train/tokens_per_s')
  GROUP BY run
)"""

RUNS_SQL = f"""
WITH {_SUMMARIES},
times AS (
  -- An attempt that left no end is over since its last line, unless it is the one that runs now.
  SELECT a.run,
         sum(coalesce(a.ended, CASE WHEN r.state IN {sql_list(ACTIVE)} AND a.attempt = r.attempt
                                    THEN $now ELSE a.last_t END, a.started) - a.started) AS elapsed_s
  FROM attempts a JOIN runs r USING (run) GROUP BY a.run
),
flagged AS (
  SELECT run, count(DISTINCT (flag, suite)) FILTER (level IN ('warn', 'critical')) AS flags,
         CASE max(CASE level WHEN 'critical' THEN 3 WHEN 'warn' THEN 2 ELSE 1 END)
           WHEN 3 THEN 'critical' WHEN 2 THEN 'warn' ELSE 'info' END AS flag_level
  FROM flags GROUP BY run
)
SELECT r.run, r.name, r.state, r.reason, r.waiting_for, r.priority, r.method, r.model, r.step, r.total_steps,
       CASE WHEN r.state = '{RunState.FINISHED}' THEN 1.0
            WHEN r.step <= r.total_steps THEN r.step / nullif(r.total_steps, 0)::DOUBLE END AS progress,
       CASE WHEN r.state = '{RunState.RUNNING}' AND c.last_step > c.first_step THEN greatest(0.0,
            (r.total_steps - r.step) * (c.last_t - c.first_t) / (c.last_step - c.first_step)
            - ($now - c.last_t)) END AS eta_s,
       t.elapsed_s, s.loss, s.heldout, s.heldout_best, s.general, s.tokens_per_s,
       coalesce(f.flags, 0) AS flags, f.flag_level, r.phase, r.attempt, r.sweep, r.parent,
       r.created, r.started, r.ended
FROM runs r
LEFT JOIN summaries s USING (run)
LEFT JOIN attempts c ON c.run = r.run AND c.attempt = r.attempt
LEFT JOIN times t ON t.run = r.run
LEFT JOIN flagged f ON f.run = r.run
ORDER BY r.run"""

COMPARE_TABLE_SQL = """
SELECT r.run, r.name, r.method, r.trainable,
       h0.value AS heldout_base, h.last AS heldout_last, h.best AS heldout_best,
       g0.value AS general_base, g.last AS general_last, g.last - g0.value AS general_delta,
       speed.last AS tokens_per_s, memory.last AS peak_memory_mb,
       (SELECT count(DISTINCT (flag, suite)) FROM flags f
        WHERE f.run = r.run AND f.level IN ('warn', 'critical')) AS flags
FROM runs r
LEFT JOIN run_summary h ON h.run = r.run AND h.key = 'heldout/loss'
LEFT JOIN run_summary g ON g.run = r.run AND g.key = 'general/loss'
LEFT JOIN run_summary speed ON speed.run = r.run AND speed.key = 'train/tokens_per_s'
LEFT JOIN run_summary memory ON memory.run = r.run AND memory.key = 'memory/peak_mb'
LEFT JOIN evals h0 ON h0.run = r.run AND h0.suite = 'heldout' AND h0.key = 'loss' AND h0.step = 0
LEFT JOIN evals g0 ON g0.run = r.run AND g0.suite = 'general' AND g0.key = 'loss' AND g0.step = 0
WHERE r.run IN ({runs})
ORDER BY r.run"""


def runs() -> Query:
    """The run table, one row per run: state, progress 0..1, seconds left and elapsed, last losses, flags.

    Seconds left come from the steps per second of the current attempt, evaluations included. Reads
    `run_summary`, never `metrics`.
    """
    return RUNS_SQL, {"now": time.time()}


def run(run: int) -> Query:
    """One run with every column of `runs`, and its columns of the run table. No rows: no such run."""
    return (
        f"SELECT r.*, t.* EXCLUDE (run, name, state, reason, waiting_for, priority, method, model, step, total_steps,"
        f" phase, attempt, sweep, parent, created, started, ended)"
        f" FROM runs r JOIN ({RUNS_SQL}) t ON t.run = r.run WHERE r.run = $run",
        {"run": run, "now": time.time()},
    )


def attempts(run: int) -> Query:
    """The attempts of a run, in order."""
    return "SELECT * FROM attempts WHERE run = $run ORDER BY attempt", {"run": run}


def params(run: int) -> Query:
    """key, value: the recipe of a run, one row per leaf."""
    return "SELECT key, value FROM params WHERE run = $run ORDER BY key", {"run": run}


def curves(runs: Sequence[int], key: str, buckets: int = 400) -> Query:
    """run, step, t, min, max, last, n per bucket of a run's steps; one row per point where there are no more of them.

    `step` and `t` are those of the bucket's last point. min and max pass over NaN where they can. All runs in one
    query, since planning takes as long as reading 10,000 points.
    """
    chosen = f"run IN ({_numbers(runs)}) AND key = $key"
    return (
        f"""
WITH span AS MATERIALIZED (
  SELECT run, min(step) AS low, max(step) - min(step) + 1 AS width, count(*) AS points FROM metrics
  WHERE {chosen} GROUP BY run
)
SELECT run, max(step) AS step, max(t) AS t, min(value) AS min,
       coalesce(max(CASE WHEN NOT isnan(value) THEN value END), min(value)) AS max,
       arg_max(value, step) AS last, count(*) AS n
FROM metrics JOIN span USING (run)
WHERE {chosen}
GROUP BY run, CASE WHEN points <= $buckets THEN step ELSE (step - low) * $buckets // width END
ORDER BY run, step""",
        {"key": key, "buckets": buckets},
    )


def keys(run: int) -> Query:
    """key, last, last_step, best, best_step, n: the metrics a run has."""
    return "SELECT * EXCLUDE (run) FROM run_summary WHERE run = $run ORDER BY key", {"run": run}


def evals(run: int, suite: str | None = None) -> Query:
    """Every evaluation result of a run, in order of step."""
    return (
        "SELECT * FROM evals WHERE run = $run AND suite = coalesce($suite, suite) ORDER BY step, suite, key",
        {"run": run, "suite": suite},
    )


def eval_examples(run: int, suite: str, step: int | None = None) -> Query:
    """step, example, slice, prompt, target, nll, tokens, tokens_right, lost, gained, kl, loss (nats per token), at a
    step, else at the last.
    """
    return (
        """
SELECT x.step, x.example, x.slice, e.prompt, e.target, x.nll, x.tokens, x.tokens_right, x.lost, x.gained, x.kl,
       x.nll / nullif(x.tokens, 0) AS loss
FROM eval_examples x LEFT JOIN examples e USING (example)
WHERE x.run = $run AND x.suite = $suite AND x.step = coalesce($step,
  (SELECT max(step) FROM eval_examples y WHERE y.run = $run AND y.suite = $suite))
ORDER BY loss DESC, x.example""",
        {"run": run, "suite": suite, "step": step},
    )


def baselines(run: int) -> Query:
    """baseline (zero-shot, few-shot), shots, step, base_loss, loss, change, lo, hi, n: the base model against the run
    at its last evaluation, nats per token.

    Paired by example, with the 95% interval of the ratio estimator (engine/basics/statistics.py). Of tasks whose loss
    is that of target tokens; empty before the second evaluation.
    """
    return "SELECT * FROM baselines($run)", {"run": run}


def slices(run: int) -> Query:
    """slice (None, all of it, first), step, base_loss, loss, change, lo, hi, n, lost, gained: general text at the run's
    last evaluation against step 0, nats per token, paired by example as in `baselines`. Empty before the second one.
    """
    return "SELECT * FROM slices($run)", {"run": run}


def flags(run: int | None = None) -> Query:
    """The flags of a run (or of all), the latest first."""
    return "SELECT * FROM flags WHERE run = coalesce($run, run) ORDER BY t DESC", {"run": run}


def worst(run: int) -> Query:
    """flag, level, step, suite, example, before, after (nats per token), prompt, target: what its flags were hit by."""
    return "SELECT * FROM worst($run)", {"run": run}


def samples(run: int, step: int | None = None) -> Query:
    """step, idx, prompt, text, t: what the model wrote, at one step or at all."""
    return (
        "SELECT step, idx, prompt, text, t FROM samples WHERE run = $run AND step = coalesce($step, step)"
        " ORDER BY step, idx",
        {"run": run, "step": step},
    )


def checkpoints(run: int) -> Query:
    """step, path (relative to the run directory), bytes, t, attempt, present (on the disk)."""
    return (
        "SELECT step, path, bytes, t, attempt, present FROM checkpoints WHERE run = $run ORDER BY step",
        {"run": run},
    )


def damage(run: int) -> Query:
    """attempt, message, body, t: the lines and values of a run's files that cannot be read."""
    return (
        "SELECT attempt, message, body, t FROM events WHERE run = $run AND kind = 'unreadable'"
        " ORDER BY t, attempt, message",
        {"run": run},
    )


def memory(run: int) -> Query:
    """attempt, step, cause (probe, out_of_memory, end), predicted_mb, measured_mb, error (relative, of the
    prediction), limit_mb, micro_tokens, device, in the order in which they were measured."""
    return (
        "SELECT attempt, step, cause, predicted_mb, measured_mb, predicted_mb / measured_mb - 1 AS error, limit_mb, "
        "micro_tokens, device FROM memory WHERE run = $run ORDER BY t",
        {"run": run},
    )


def datasets(run: int) -> Query:
    """role, source, fingerprint, n_rows, bytes."""
    return "SELECT * EXCLUDE (run) FROM datasets WHERE run = $run ORDER BY role, source", {"run": run}


def events(run: int | None = None, after: float = 0.0, limit: int = 200) -> Query:
    """The last `limit` events after a time, oldest first; of one run or of all."""
    return (
        """
SELECT * FROM (
  SELECT run, attempt, t, kind, level, message, body FROM events
  WHERE ($run IS NULL OR run = $run) AND t > $after ORDER BY t DESC LIMIT $limit
) ORDER BY t""",
        {"run": run, "after": after, "limit": limit},
    )


def params_diff(runs: Sequence[int]) -> Query:
    """key, run, value: the recipe's leaves in which the runs differ; value is NULL where a run has none."""
    return (
        """
WITH chosen AS (SELECT unnest($runs) AS run),
     grid AS (
       SELECT k.key, c.run, p.value
       FROM (SELECT DISTINCT key FROM params WHERE list_contains($runs, run) AND key <> 'name') k
       CROSS JOIN chosen c LEFT JOIN params p ON p.run = c.run AND p.key = k.key
     )
SELECT key, run, value FROM grid
WHERE key IN (SELECT key FROM grid GROUP BY key HAVING count(DISTINCT value) > 1 OR count(value) < count(*))
ORDER BY key, run""",
        {"runs": list(runs)},
    )


def compare_metrics(runs: Sequence[int]) -> Query:
    """key, run, last, last_step, best, best_step of every metric of the runs."""
    return (
        "SELECT key, run, last, last_step, best, best_step FROM run_summary WHERE list_contains($runs, run)"
        " ORDER BY key, run",
        {"runs": list(runs)},
    )


def paired(a: int, b: int, suite: str = "heldout") -> Query:
    """difference, lo, hi, n, step_a, step_b: how much worse b is than a, in nats per token, over the same examples.

    Sum of (nll_b - nll_a) over the sum of the tokens, at each run's last evaluation of the suite, of the examples that
    have as many tokens in both (others were read by another tokenizer). The interval is that of the ratio estimator, as
    in `baselines`; NULL for fewer than two common examples. One row.
    """
    return (
        f"""
WITH x AS (SELECT * FROM eval_examples WHERE run = $a AND suite = $suite),
     y AS (SELECT * FROM eval_examples WHERE run = $b AND suite = $suite),
     d AS (
       SELECT '' AS part, coalesce(y.document, y.example) AS draw, y.step, x.nll AS base, y.nll AS now, y.tokens
       FROM x JOIN y ON y.example = x.example AND y.tokens = x.tokens
       WHERE x.step = (SELECT max(step) FROM x) AND y.step = (SELECT max(step) FROM y)
         AND y.tokens > 0 AND x.nll + y.nll IS NOT NULL
     ),
     {PAIRED}
SELECT change AS difference, lo, hi, coalesce(n, 0) AS n, step_a, step_b
FROM (SELECT (SELECT max(step) FROM x) AS step_a, (SELECT max(step) FROM y) AS step_b) LEFT JOIN q ON true""",
        {"a": a, "b": b, "suite": suite},
    )


def hardware(since: float | None = None) -> Query:
    """t, key, value: every sample since a time; without one the latest value of each key, and device labels."""
    if since is not None:
        return "SELECT t, key, value FROM system_metrics WHERE t > $since ORDER BY t, key", {"since": since}
    return (
        """
SELECT max(t) AS t, key, arg_max(value, t) AS value,
       (SELECT m.value FROM meta m WHERE m.key = 'device/' || split_part(s.key, '/', 1)) AS label
FROM system_metrics s
WHERE t > (SELECT max(t) FROM system_metrics) - 60
GROUP BY key ORDER BY key""",
        {},
    )


def leaderboard(limit: int = 100) -> Query:
    """Runs by best held-out loss, task by task."""
    return "SELECT * FROM leaderboard LIMIT $limit", {"limit": limit}


def compare_table_sql(runs: Sequence[int]) -> str:
    """The SQL of `compare_table`, whole and without parameters: what the command line prints under the table."""
    return COMPARE_TABLE_SQL.strip().format(runs=_numbers(runs))


def compare_table(runs: Sequence[int]) -> Query:
    """One row per run: method, trainable parameters, held-out base/last/best, general base/last/delta,
    tokens/s, peak memory (MiB), flags."""
    return compare_table_sql(runs), {}


def _numbers(runs: Sequence[int]) -> str:
    """For `IN (…)`: constants, so that only the row groups that may hold these runs are read."""
    return ", ".join(str(int(number)) for number in runs) or "NULL"


NAMED: dict[str, Callable[..., Query]] = {
    query.__name__: query
    for query in (
        runs,
        run,
        attempts,
        params,
        curves,
        keys,
        evals,
        baselines,
        slices,
        eval_examples,
        flags,
        worst,
        samples,
        checkpoints,
        damage,
        memory,
        datasets,
        events,
        params_diff,
        compare_metrics,
        paired,
        hardware,
        leaderboard,
        compare_table,
    )
}
