"""The named queries: what the screen and the command line ask, each as SQL with parameters.

Every function returns `(sql, parameters)` for `cursor.execute`. This module imports neither DuckDB nor
pyarrow, so that whoever prints a table can also print the SQL that made it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence

from store.best import sql_of_task
from store.comparisons import compare_metrics, disagreements, paired, params_diff, shared_examples
from store.curves import curves
from store.example_queries import answers, changes, example_losses, example_text, looks
from store.queried import Planned, Query, numbers
from store.states import ACTIVE, RunState, sql_list

# What the held-out suite of a run's task is judged by: the name of its curve.
_JUDGED = sql_of_task("r.task", "'{metric}'")

_SUMMARIES = f"""
summaries AS (
  SELECT run,
         any_value(last) FILTER (key = 'train/loss') AS loss,
         any_value(last) FILTER (key = judged) AS heldout,
         any_value(best) FILTER (key = judged) AS heldout_best,
         any_value(best_step) FILTER (key = judged) AS heldout_best_step,
         any_value(last) FILTER (key = 'general/loss') AS general,
         any_value(last) FILTER (key = 'train/tokens_per_s') AS tokens_per_s
  FROM run_summary JOIN (SELECT r.run, {_JUDGED} AS judged FROM runs r) USING (run)
  WHERE key IN ('train/loss', 'general/loss', 'train/tokens_per_s') OR key = judged
  GROUP BY run
)"""

# Seconds and price of every attempt.
ATTEMPT_SECONDS = f"""
  SELECT a.run, a.price, coalesce(a.ended, CASE WHEN r.state IN {sql_list(ACTIVE)} AND a.attempt = r.attempt
                                                THEN $now ELSE a.last_t END, a.started) - a.started AS s
  FROM attempts a JOIN runs r USING (run)"""

RUNS_SQL = f"""
WITH {_SUMMARIES},
times AS (
  -- An attempt that left no end is over since its last line, unless it is the one that runs now.
  SELECT run, sum(s) AS elapsed_s, sum(s * price) / 3600 AS cost FROM ({ATTEMPT_SECONDS}) GROUP BY run
),
related AS (  -- numbers of the runs that a few were made from or are copies of
  SELECT c.run, min(o.run) FILTER (o.uuid = c.parent) AS parent, min(o.run) FILTER (o.uuid = c.copy_of) AS copy_of
  FROM (SELECT run, parent, copy_of, unnest([parent, copy_of]) AS other FROM runs
        WHERE parent IS NOT NULL OR copy_of IS NOT NULL) c
  JOIN runs o ON o.uuid = c.other GROUP BY c.run
),
flagged AS (  -- as they stand: the last line of each counts
  SELECT run, count(*) FILTER (level IN ('warn', 'critical')) AS flags,
         CASE max(CASE level WHEN 'critical' THEN 3 WHEN 'warn' THEN 2 ELSE 1 END)
           WHEN 3 THEN 'critical' WHEN 2 THEN 'warn' ELSE 'info' END AS flag_level
  FROM (SELECT run, flag, suite, arg_max(level, (step, t)) AS level FROM flags GROUP BY run, flag, suite)
  GROUP BY run
)
SELECT r.run, r.name, r.state, r.reason, r.waiting_for, r.priority, r.method, r.model, r.step, r.total_steps,
       CASE WHEN r.state = '{RunState.FINISHED}' THEN 1.0
            WHEN r.step <= r.total_steps THEN r.step / nullif(r.total_steps, 0)::DOUBLE END AS progress,
       CASE WHEN r.state = '{RunState.RUNNING}' AND c.last_step > c.first_step AND r.total_steps > 0 THEN greatest(0.0,
            (r.total_steps - r.step) * (c.last_t - c.first_t) / (c.last_step - c.first_step)
            - ($now - c.last_t)) END AS eta_s,
       t.elapsed_s, s.loss,
       -- Of a run that a flag stopped: the weights that it kept are nearly always those of the best step.
       CASE WHEN r.kept_step = s.heldout_best_step THEN s.heldout_best ELSE s.heldout END AS heldout,
       s.heldout_best, s.general, s.tokens_per_s,
       coalesce(f.flags, 0) AS flags, f.flag_level, r.phase, r.attempt, r.sweep, k.parent,
       k.copy_of, r.created, r.started, r.ended, r.task, r.held, r.tags, r.queue_group, t.cost, r.logged
FROM runs r
LEFT JOIN summaries s USING (run)
LEFT JOIN attempts c ON c.run = r.run AND c.attempt = r.attempt
LEFT JOIN times t ON t.run = r.run
LEFT JOIN flagged f ON f.run = r.run
LEFT JOIN related k ON k.run = r.run
ORDER BY r.run"""

COMPARE_TABLE_SQL = """
SELECT r.run, r.name, r.method, r.trainable,
       h0.value AS heldout_base, h.last AS heldout_last, h.best AS heldout_best,
       g0.value AS general_base, g.last AS general_last, g.last - g0.value AS general_delta,
       speed.last AS tokens_per_s, memory.last AS peak_memory_mb,
       (SELECT count(*) FROM (SELECT arg_max(level, (step, t)) AS level FROM flags f
                              WHERE f.run = r.run GROUP BY flag, suite) WHERE level IN ('warn', 'critical')) AS flags
FROM runs r
LEFT JOIN run_summary h ON h.run = r.run AND h.key = {judged}
LEFT JOIN run_summary g ON g.run = r.run AND g.key = 'general/loss'
LEFT JOIN run_summary speed ON speed.run = r.run AND speed.key = 'train/tokens_per_s'
LEFT JOIN run_summary memory ON memory.run = r.run AND memory.key = 'memory/peak_mb'
LEFT JOIN evals h0 ON h0.run = r.run AND h0.suite = 'heldout' AND h0.key = split_part(h.key, '/', 2) AND h0.step = 0
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
        f"SELECT r.* EXCLUDE (parent, copy_of),"
        f" t.* EXCLUDE (run, name, state, reason, waiting_for, priority, method, model, step, total_steps,"
        f" phase, attempt, sweep, created, started, ended, task, held, tags, queue_group, logged)"
        f" FROM runs r JOIN ({RUNS_SQL}) t ON t.run = r.run WHERE r.run = $run",
        {"run": run, "now": time.time()},
    )


def attempts(run: int) -> Query:
    """The attempts of a run, in order."""
    return "SELECT * FROM attempts WHERE run = $run ORDER BY attempt", {"run": run}


def params(run: int) -> Query:
    """key, value: the recipe of a run, one row per leaf."""
    return "SELECT key, value FROM params WHERE run = $run ORDER BY key", {"run": run}


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
    """slice (None, all of it, first), step, base_loss, loss, change, lo, hi, n, lost, gained, gain, gain_lo, gain_hi,
    per_gain: general text at the run's last evaluation against step 0, nats per token, paired by example as in
    `baselines`; and the fall of the held-out loss there, with nats paid per nat gained (None where nothing was gained,
    and for tasks whose loss is of another kind). Empty before the second evaluation.
    """
    return "SELECT * FROM slices($run)", {"run": run}


def distance(run: int) -> Query:
    """suite, step, distance, lo, hi, n, kl: how far a run is from its base model at its last evaluation, nats per
    token. `distance` is of `samples`, which the base model wrote. Empty before the second evaluation.
    """
    return "SELECT * FROM distance($run)", {"run": run}


def drift(run: int) -> Query:
    """measure (tokens, entropy, distinct_pairs, repetition, finished, refused, switched), step, base, now, change, lo,
    hi, n: what the model writes to general prompts at its last round against step 0, paired by prompt. Empty before it.
    """
    return "SELECT * FROM drift($run)", {"run": run}


def choices(run: int) -> Query:
    """slice, measure (accuracy, accuracy_norm), step, base, now, change, lo, hi, n, lost, gained, p: multiple-choice
    questions at their last round against step 0, paired by question; p of McNemar's exact test. Empty before that.
    """
    return "SELECT * FROM choices($run)", {"run": run}


def flags(run: int | None = None) -> Query:
    """The flags of a run (or of all), a row a look, the latest first."""
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
    """step, path (relative to the run directory, whole for a command), bytes, t, attempt, present (on the disk)."""
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


def similar(run: int) -> Query:
    """run, heldout_base, heldout, general_base, general, params (list of {key, value}), scaling, scaling_factor,
    scaling_helps, scaling_kept: the finished runs with the base model, task and data of one, itself too.

    Losses at step 0 and at the last evaluation, nats per token (of preference pairs: nats per pair); the scaling is the
    last one, its message in `scaling`.
    """
    return (
        """
WITH data AS (  -- which rows a run was trained on and held out
  SELECT r.run, r.model, r.task,
         (SELECT string_agg(concat_ws(' ', d.role, d.fingerprint), ', ' ORDER BY d.role, d.source)
           FROM datasets d WHERE d.run = r.run AND d.role IN ('train', 'heldout')) AS files,
         (SELECT string_agg(concat_ws(' ', p.key, p.value), ', ' ORDER BY p.key)
           FROM params p WHERE p.run = r.run AND p.key IN ('data.heldout', 'data.limit')) AS share
  FROM runs r
),
alike AS (
  SELECT o.run, CASE o.task WHEN 'dpo' THEN 'preference_loss' ELSE 'loss' END AS key
  FROM data o JOIN data d ON d.run = $run AND o.model = d.model AND o.task = d.task
    AND o.files IS NOT DISTINCT FROM d.files AND o.share IS NOT DISTINCT FROM d.share
  JOIN runs r ON r.run = o.run AND (r.state = 'finished' OR o.run = $run)
),
ends AS (
  SELECT a.run, e.suite, arg_min(e.value, e.step) AS base, arg_max(e.value, e.step) AS last
  FROM alike a JOIN evals e ON e.run = a.run
   AND ((e.suite = 'heldout' AND e.key = a.key) OR (e.suite = 'general' AND e.key = 'loss'))
  GROUP BY a.run, e.suite
),
last_scaling AS (SELECT run, arg_max(struct_pack(message, factor, helps, kept), t) AS s FROM scalings GROUP BY run)
SELECT a.run, h.base AS heldout_base, h.last AS heldout, g.base AS general_base, g.last AS general,
       (SELECT list(struct_pack(key := p.key, value := p.value) ORDER BY p.key)
          FROM params p WHERE p.run = a.run) AS params,
       s.s.message AS scaling, s.s.factor AS scaling_factor, s.s.helps AS scaling_helps, s.s.kept AS scaling_kept
FROM alike a JOIN ends h ON h.run = a.run AND h.suite = 'heldout'
LEFT JOIN ends g ON g.run = a.run AND g.suite = 'general'
LEFT JOIN last_scaling s ON s.run = a.run
ORDER BY a.run""",
        {"run": run},
    )


def scalings(run: int) -> Query:
    """t, step, factor, helps, kept, message: the times that a run was scored at factors below 1, the last one last."""
    return "SELECT * EXCLUDE (run) FROM scalings WHERE run = $run ORDER BY t", {"run": run}


def scale_points(run: int) -> Query:
    """half, factor, chosen, suite, slice, loss, change, lo, hi, n: the factors of a run's last scaling."""
    return (
        "SELECT * EXCLUDE (run, t) FROM scale_points WHERE run = $run"
        " AND t = (SELECT max(t) FROM scalings WHERE run = $run) ORDER BY half, factor, suite DESC, slice NULLS FIRST",
        {"run": run},
    )


def scaled(run: int) -> Query:
    """t, step, factor, output, path: the folders that hold weights of a run at a factor below 1."""
    return "SELECT * EXCLUDE (run) FROM scaled WHERE run = $run ORDER BY t", {"run": run}


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


def hardware_history(seconds: float, step: float) -> Query:
    """key, slot, value: mean load and memory in each `step` of the last `seconds`; slot 0 is the newest. A sample
    stands for the time since the one before, at most a step. A step without a sample has no row.
    """
    return (
        """
SELECT key, slot, coalesce(sum(value * held) / nullif(sum(held), 0), avg(value)) AS value
FROM (SELECT key, value, (floor(last / $step) - floor(t / $step))::BIGINT AS slot,
             least(coalesce(t - lag(t) OVER of_key, lead(t) OVER of_key - t), $step) AS held
FROM system_metrics, (SELECT max(t) AS last FROM system_metrics)
WHERE t > (SELECT max(t) FROM system_metrics) - $seconds
  AND (key IN ('cpu/percent', 'ram/used_gb') OR key LIKE 'gpu%/util' OR key LIKE 'gpu%/memory_used_gb')
WINDOW of_key AS (PARTITION BY key ORDER BY t))
GROUP BY key, slot ORDER BY key, slot""",
        {"seconds": seconds, "step": step},
    )


def leaderboard(limit: int = 100) -> Query:
    """Runs by best held-out loss, task by task."""
    return "SELECT * FROM leaderboard LIMIT $limit", {"limit": limit}


def compare_table_sql(runs: Sequence[int]) -> str:
    """The SQL of `compare_table`, whole and without parameters: what the command line prints under the table."""
    return COMPARE_TABLE_SQL.strip().format(runs=numbers(runs), judged=_JUDGED)


def compare_table(runs: Sequence[int]) -> Query:
    """One row per run: method, trainable parameters, held-out base/last/best, general base/last/delta,
    tokens/s, peak memory (MiB), flags."""
    return compare_table_sql(runs), {}


NAMED: dict[str, Callable[..., Query | Planned]] = {
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
        distance,
        drift,
        choices,
        eval_examples,
        flags,
        worst,
        looks,
        changes,
        example_text,
        example_losses,
        answers,
        samples,
        checkpoints,
        damage,
        memory,
        similar,
        scalings,
        scale_points,
        scaled,
        datasets,
        events,
        params_diff,
        compare_metrics,
        paired,
        disagreements,
        shared_examples,
        hardware,
        hardware_history,
        leaderboard,
        compare_table,
    )
}
