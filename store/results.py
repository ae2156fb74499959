"""The views that say what came of each run, and which of them can be compared."""

from __future__ import annotations

from store.best import sql_of_task, sql_of_unit

View = tuple[str, str, dict[str, str]]  # comment, SELECT, comments of the columns

# What a program that is not ours holds out is known by the examples that it logs. Else its runs may be compared within
# its project, and one without a project with no other.
_SET = """coalesce(r.heldout_set, d.heldout,
                CASE WHEN r.task IS NULL THEN coalesce('project ' || r.project, 'run ' || r.run) END)"""

_SET_SAYS = (
    "hash of the rows held out; where it is not known, of the data and the share held out, and of another program's "
    "run its project"
)
_UNIT_SAYS = (
    "what the held-out loss is in: nats per token, per text or per pair; NULL of another program's run"
)

RESULTS: View = (
    "One row per run: what it was trained on, what came of it, and what that took",
    f"""
WITH shares AS (  -- of runs that do not say which rows they held out: a set of its own, or a share of the training data
  SELECT s.run, max(s.fingerprint) FILTER (s.role = 'train') AS train,
         coalesce(max(s.fingerprint) FILTER (s.role = 'heldout'),
                  concat_ws(' ', max(s.fingerprint) FILTER (s.role = 'train'),
                            any_value(p.value) FILTER (p.key = 'data.heldout'),
                            any_value(p.value) FILTER (p.key = 'data.limit'))) AS heldout
  FROM datasets s LEFT JOIN params p ON p.run = s.run AND p.key IN ('data.heldout', 'data.limit')
  GROUP BY s.run
), judged AS (
  SELECT run, kept_step, {sql_of_task("task", "'{metric}'")} AS metric FROM runs
), looks AS (
  SELECT e.run,
         any_value(e.value) FILTER (e.suite = 'heldout' AND e.step = 0) AS heldout_base,
         any_value(e.value) FILTER (e.suite = 'general' AND e.step = 0) AS general_base,
         arg_max(e.value, e.step) FILTER (e.suite = 'heldout' AND e.step > 0) AS heldout,
         arg_max(e.value, e.step) FILTER (e.suite = 'general' AND e.step > 0) AS general
  FROM evals e JOIN judged j USING (run)
  WHERE e.step <= coalesce(j.kept_step, e.step)
    AND (e.suite || '/' || e.key = j.metric OR (e.suite = 'general' AND e.key = 'loss'))
  GROUP BY e.run
), spent AS (
  SELECT run, sum(s) / 3600 AS hours, sum(s * gpus) / 3600 AS gpu_hours, sum(s * price) / 3600 AS cost
  FROM (SELECT run, gpus, price, coalesce(ended, last_t, started) - started AS s FROM attempts) GROUP BY run
)
SELECT r.run, r.name, r.state, r.model, r.method, r.task, r.seed, r.seedless_hash,
       coalesce(r.train_set, d.train) AS train_set, {_SET} AS heldout_set, r.heldout_tokens,
       {sql_of_unit("r.task")} AS unit, l.heldout_base,
       coalesce(l.heldout, CASE WHEN h.last_step > 0 THEN h.last END) AS heldout, h.best AS heldout_best, h.best_step,
       h.higher_is_better,
       l.heldout_base - l.heldout AS gain, l.general - l.general_base AS forgotten,
       t.last AS tokens, r.step, s.hours, nullif(s.gpu_hours, 0) AS gpu_hours, s.cost
FROM runs r JOIN judged j USING (run)
LEFT JOIN run_summary h ON h.run = r.run AND h.key = j.metric
LEFT JOIN run_summary t ON t.run = r.run AND t.key = 'train/tokens'
LEFT JOIN looks l ON l.run = r.run
LEFT JOIN shares d ON d.run = r.run
LEFT JOIN spent s ON s.run = r.run
ORDER BY r.run""",
    {
        "run": "number of the run",
        "name": "name from the recipe",
        "state": "state of the run",
        "model": "base model: a path, bundled:NAME or a hub id",
        "method": "what is trained: full, lora, qlora",
        "task": "what the loss is: sft, completion, classification, dpo",
        "seed": "seed of data order, initialisation and dropout",
        "seedless_hash": "hash of the recipe without its name and seed",
        "step": "latest optimiser step logged",
        "train_set": "hash of the rows trained on; of another trainer's run that of the data it was given",
        "heldout_set": _SET_SAYS,
        "heldout_tokens": "what the loss is a mean over; differs where another tokenizer read the same rows",
        "unit": _UNIT_SAYS,
        "heldout_base": "held-out loss of the base model, at step 0",
        "heldout": "held-out loss of the weights that were kept; NULL before a step is evaluated",
        "heldout_best": "least held-out loss of any evaluation after step 0",
        "best_step": "step of the least held-out loss",
        "higher_is_better": "whether the greatest is the best and not the least: another program may say so",
        "gain": "by how much the held-out loss fell below that of the base model",
        "forgotten": "by how much the general loss, nats per token, rose above that of the base model",
        "tokens": "tokens trained on",
        "hours": "hours of all attempts",
        "gpu_hours": "the same times the GPUs of each; NULL on the CPU",
        "cost": "price of these hours; NULL where no price was known",
    },
)

LEADERBOARD: View = (
    "Runs by their best held-out loss, among those that can be compared: one task, held-out set, unit, tokenizer",
    """
SELECT row_number() OVER (PARTITION BY s.task, s.heldout_set, s.unit, s.heldout_tokens, s.higher_is_better
                          ORDER BY if(s.higher_is_better, -s.heldout_best, s.heldout_best) NULLS LAST, s.run) AS place,
       s.run, s.name, s.task, s.state, s.method, s.model, s.heldout_best, s.best_step, s.heldout AS heldout_last,
       s.unit, s.forgotten AS general_delta, t.last AS tokens_per_s, r.trainable, s.train_set, s.heldout_set,
       s.heldout_tokens
FROM results s
JOIN runs r ON r.run = s.run
LEFT JOIN run_summary t ON t.run = s.run AND t.key = 'train/tokens_per_s'
WHERE s.heldout IS NOT NULL
ORDER BY s.task, s.heldout_set, s.heldout_tokens, place""",
    {
        "place": "1 for the best of those that it can be compared with",
        "run": "number of the run",
        "name": "name from the recipe",
        "task": "what the loss is of: a text's class, or a token",
        "state": "state of the run",
        "method": "what is trained",
        "model": "base model",
        "heldout_best": "least held-out loss of any evaluation after step 0 (of preferences, preference loss)",
        "best_step": "step of the least held-out loss",
        "heldout_last": "held-out loss of the weights that were kept",
        "unit": _UNIT_SAYS,
        "general_delta": "general loss now minus that of the base model; above 0 is forgetting",
        "tokens_per_s": "last training speed",
        "trainable": "parameters that are trained",
        "train_set": "hash of the rows trained on; of another trainer's run that of the data it was given",
        "heldout_set": _SET_SAYS,
        "heldout_tokens": "what the loss is a mean over; differs where another tokenizer read the same rows",
    },
)
