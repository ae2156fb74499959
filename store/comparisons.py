"""The named queries about several runs at once: what differs in their recipes, metrics and example by example."""

from __future__ import annotations

from collections.abc import Sequence

from store.macros import PAIRED, PREFERENCE
from store.queried import Query, numbers


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
    """key, run, last, last_step, best, best_step, higher_is_better of every metric of the runs."""
    return (
        "SELECT key, run, last, last_step, best, best_step, higher_is_better FROM run_summary"
        " WHERE list_contains($runs, run) ORDER BY key, run",
        {"runs": list(runs)},
    )


def paired(a: int, b: int, suite: str = "heldout") -> Query:
    """difference, lo, hi, n, step_a, step_b, per: how much worse b is than a, nats per token, over the same examples.

    Sum of (nll_b - nll_a) over the sum of the tokens, at each run's last evaluation of the suite (of a stopped run,
    that of the kept step), of the examples that have as many tokens in both (others were read by another tokenizer).
    Held-out preference pairs: of the preference loss (label smoothing aside), per pair. The interval is that of the
    ratio estimator, as in `baselines`; NULL for fewer than two common examples. One row.
    """
    return (
        f"""
WITH e AS (SELECT *, {PREFERENCE} AS preference FROM eval_examples
           WHERE run IN ($a, $b) AND suite = $suite AND slice IS DISTINCT FROM 'samples'),
     x AS (SELECT * FROM e WHERE run = $a),
     y AS (SELECT * FROM e WHERE run = $b),
     ends AS (SELECT coalesce((SELECT kept_step FROM runs WHERE run = $a), (SELECT max(step) FROM x)) AS step_a,
                     coalesce((SELECT kept_step FROM runs WHERE run = $b), (SELECT max(step) FROM y)) AS step_b),
     d AS (
       SELECT '' AS part, coalesce(y.document, y.example) AS draw, y.step,
              coalesce(x.preference, x.nll) AS base, coalesce(y.preference, y.nll) AS now,
              CASE WHEN x.preference IS NULL THEN y.tokens ELSE 1 END AS tokens
       FROM x JOIN y ON y.example = x.example AND y.tokens = x.tokens
       WHERE x.step = (SELECT step_a FROM ends) AND y.step = (SELECT step_b FROM ends)
         AND (x.preference IS NULL) = (y.preference IS NULL) AND y.tokens > 0 AND x.nll + y.nll IS NOT NULL
     ),
     {PAIRED}
SELECT change AS difference, lo, hi, coalesce(n, 0) AS n, step_a, step_b,
       CASE WHEN (SELECT count(preference) FROM x) > 0 THEN 'pair' ELSE 'token' END AS per
FROM ends LEFT JOIN q ON true""",
        {"a": a, "b": b, "suite": suite},
    )


def _scored(runs: Sequence[int]) -> str:
    """`scored`: the held-out and general examples of some runs, as in `paired`: at each run's last evaluation (of a
    stopped run, that of the kept step); loss in nats per token (`per`), of preference pairs per pair.
    """
    return f"""
e AS (SELECT * FROM eval_examples
      WHERE run IN ({numbers(runs)}) AND suite IN ('heldout', 'general') AND slice IS DISTINCT FROM 'samples'),
ends AS (SELECT e.run, e.suite, coalesce(any_value(r.kept_step), max(e.step)) AS step
         FROM e JOIN runs r USING (run) GROUP BY e.run, e.suite),
scored AS (
  SELECT e.run, e.suite, e.step, e.example, e.slice, e.tokens,
         coalesce({PREFERENCE}, e.nll / e.tokens) AS loss,
         CASE WHEN e.margin IS NULL THEN 'token' ELSE 'pair' END AS per
  FROM e JOIN ends USING (run, suite, step) WHERE e.tokens > 0 AND isfinite(loss)
)"""


def disagreements(runs: Sequence[int], limit: int = 50) -> Query:
    """suite, example, slice, prompt, target, tokens, per, spread, run, step, loss: the held-out and general examples
    whose losses are farthest apart between runs (`spread`), at most `limit` of each suite; one row a run.

    Only what several runs have scored with as many tokens: others were read by another tokenizer.
    """
    return (
        f"""
WITH {_scored(runs)},
spreads AS (
  SELECT suite, example, tokens, per, max(loss) - min(loss) AS spread FROM scored
  GROUP BY suite, example, tokens, per HAVING count(*) > 1
  QUALIFY row_number() OVER (PARTITION BY suite, example ORDER BY count(*) DESC, tokens) = 1
),
widest AS (SELECT * FROM spreads
           QUALIFY row_number() OVER (PARTITION BY suite ORDER BY spread DESC, example) <= $limit)
SELECT w.suite, w.example, s.slice, x.prompt, x.target, w.tokens, w.per, w.spread, s.run, s.step, s.loss
FROM widest w JOIN scored s USING (suite, example, tokens, per) LEFT JOIN examples x USING (example)
ORDER BY w.spread DESC, w.suite, w.example, s.run""",
        {"limit": limit},
    )


def shared_examples(a: int, runs: Sequence[int]) -> Query:
    """run, suite, n, n_a, shared, alike: how many examples each run was scored on at its last evaluation, how
    many run `a`, how many both, and how many of these with as many tokens.
    """
    return (
        f"""
WITH {_scored([a, *runs])},
sizes AS (SELECT suite, count(*) AS n FROM scored WHERE run = $a GROUP BY suite)
SELECT y.run, y.suite, count(*) AS n, coalesce(any_value(z.n), 0) AS n_a, count(x.example) AS shared,
       count(*) FILTER (x.tokens = y.tokens AND x.per = y.per) AS alike
FROM scored y LEFT JOIN scored x ON x.run = $a AND x.suite = y.suite AND x.example = y.example
LEFT JOIN sizes z ON z.suite = y.suite
WHERE y.run IN ({numbers(runs)})
GROUP BY y.run, y.suite
ORDER BY y.run, y.suite""",
        {"a": a},
    )
