"""Table macros of the projection: questions with an argument, each with its comment."""

from __future__ import annotations

# (part, draw, step, base, now, tokens) of each example, `d`, to a row a part: `q`, with the ratio estimator of
# engine/basics/statistics.py. `draw`: the document that it is a passage of, or the example itself.
PAIRED = """g AS (SELECT part, max(step) AS step, sum(base) AS base, sum(now) AS now, sum(tokens)::DOUBLE AS tokens,
                  count(*) AS pairs FROM d GROUP BY part, draw),
     m AS (SELECT part, max(step) AS step, sum(base) / sum(tokens) AS base_loss, sum(now) / sum(tokens) AS loss,
                  sum(now - base) / sum(tokens) AS change, sum(pairs)::BIGINT AS n, sum(tokens) AS total,
                  nullif(sum(tokens) ** 2 / sum(tokens ** 2), 1) AS kish FROM g GROUP BY part),
     u AS (SELECT part, sum((now - base - change * tokens) ** 2) AS squares,
                  sum((now - base - change * tokens) ** 3) AS cubes
           FROM (SELECT g.part, g.now, g.base, g.tokens, m.change FROM g JOIN m USING (part)) GROUP BY part),
     r AS (SELECT *, 1.959964 AS z, greatest(1, kish - 1) AS v, sqrt(kish / (kish - 1) * squares) / total AS se,
                  coalesce(cubes / nullif(squares, 0) ** 1.5, 0) AS skew
           FROM m JOIN u USING (part)),
     t AS (  -- Student's t from the normal quantile: Abramowitz and Stegun, 26.7.5
       SELECT *, z + (z**3 + z) / (4 * v) + (5 * z**5 + 16 * z**3 + 3 * z) / (96 * v**2)
         + (3 * z**7 + 19 * z**5 + 17 * z**3 - 15 * z) / (384 * v**3) AS t FROM r),
     q AS (  -- and for changes that are askew, Hall's transform where it widens the interval
       SELECT *, least(skew, -1e-9) AS l, greatest(skew, 1e-9) AS g,
              change - 3 / l * (cbrt(1 + l * (t - l / 6)) - 1) * se AS lo,
              change - 3 / g * (cbrt(1 - g * (t + g / 6)) - 1) * se AS hi
       FROM t
     )"""

# macro: (parameters, comment, SELECT)
MACROS: dict[str, tuple[str, str, str]] = {
    "curve": (
        "run, key",
        "Every point of one metric of one run: FROM curve(42, 'train/loss')",
        "SELECT m.step, m.value, m.t, m.attempt FROM metrics m WHERE m.run = run AND m.key = key ORDER BY m.step",
    ),
    "compare": (
        "a, b",
        "Last and best of every metric of two runs: FROM compare(41, 42)",
        """
SELECT coalesce(x.key, y.key) AS key, x.last AS last_a, y.last AS last_b, y.last - x.last AS difference,
       x.best AS best_a, y.best AS best_b, x.best_step AS best_step_a, y.best_step AS best_step_b
FROM (SELECT * FROM run_summary s WHERE s.run = a) x
FULL JOIN (SELECT * FROM run_summary s WHERE s.run = b) y ON x.key = y.key
ORDER BY 1""",
    ),
    "forgotten": (
        "run",
        "General examples by how much worse they got since the base model: FROM forgotten(42)",
        """
WITH e AS (SELECT * FROM eval_examples x WHERE x.run = run AND x.suite = 'general'),
     ends AS (SELECT min(step) AS first, max(step) AS last FROM e)
SELECT f.example, p.prompt, p.target, f.nll / f.tokens AS before, l.nll / l.tokens AS after,
       l.nll / l.tokens - f.nll / f.tokens AS increase
FROM e f JOIN e l ON l.example = f.example LEFT JOIN examples p ON p.example = f.example
WHERE f.step = (SELECT first FROM ends) AND l.step = (SELECT last FROM ends)
ORDER BY increase DESC""",
    ),
    "baselines": (
        "run",
        "The base model against the run at its last evaluation, on the same held-out examples: FROM baselines(42)",
        f"""
WITH tokens AS (SELECT t.run FROM runs t WHERE t.run = run AND t.task IN ('sft', 'completion')),
     shots AS (SELECT s.value FROM evals s WHERE s.run = run AND s.suite = 'heldout_few_shot' AND s.key = 'shots'),
     e AS (SELECT x.suite, x.step, x.example, coalesce(x.document, x.example) AS draw, x.nll, x.tokens
           FROM eval_examples x WHERE x.run = run AND x.suite IN ('heldout', 'heldout_few_shot')),
     h AS (SELECT * FROM e WHERE suite = 'heldout' AND step > 0
                             AND step = (SELECT max(step) FROM e WHERE suite = 'heldout')),
     d AS (SELECT b.suite AS part, h.draw, h.step, b.nll AS base, h.nll AS now, h.tokens
           FROM e b JOIN h ON h.example = b.example AND h.tokens = b.tokens
           WHERE b.step = 0 AND b.nll + h.nll IS NOT NULL),
     {PAIRED}
SELECT CASE part WHEN 'heldout' THEN 'zero-shot' ELSE 'few-shot' END AS baseline,
       CASE part WHEN 'heldout' THEN 0.0 ELSE shots.value END AS shots,
       step, base_loss, loss, change, lo, hi, n
FROM q SEMI JOIN tokens ON true LEFT JOIN shots ON true
ORDER BY part""",
    ),
    "slices": (
        "run",
        "General text at the last evaluation against step 0, whole and by slice: FROM slices(42)",
        f"""
WITH e AS (SELECT * FROM eval_examples x WHERE x.run = run AND x.suite = 'general'),
     p AS (SELECT h.slice, coalesce(h.document, h.example) AS draw, h.step, b.nll AS base, h.nll AS now,
                  h.tokens, h.lost, h.gained
           FROM e b JOIN e h ON h.example = b.example AND h.tokens = b.tokens
           WHERE b.step = 0 AND h.step > 0 AND h.step = (SELECT max(step) FROM e) AND b.nll + h.nll IS NOT NULL),
     d AS (SELECT slice AS part, * EXCLUDE slice FROM p WHERE slice IS NOT NULL
           UNION ALL SELECT '', * EXCLUDE slice FROM p),
     {PAIRED},
     flips AS (SELECT part, sum(lost) AS lost, sum(gained) AS gained FROM d GROUP BY part)
SELECT nullif(part, '') AS slice, step, base_loss, loss, change, lo, hi, n, lost, gained
FROM q JOIN flips USING (part)
ORDER BY part""",
    ),
    "hardware_use": (
        "since",
        "Averages of the hardware over time since a moment, Unix seconds: FROM hardware_use(epoch(now()) - 86400)",
        # Each sample stands for the time since the one before. Nobody knows what was in a gap: 60 s of it count.
        """
SELECT key, sum(value * least(held, 60.0)) / sum(least(held, 60.0)) AS average, max(value) AS highest,
       sum(least(held, 60.0)) / 3600 AS hours
FROM (SELECT x.key, x.value, x.t - lag(x.t) OVER (PARTITION BY x.key ORDER BY x.t) AS held
      FROM system_metrics x WHERE x.t >= since)
WHERE held > 0 AND isfinite(value)
GROUP BY key
ORDER BY key""",
    ),
    "worst": (
        "run",
        "Examples that the flags of a run were hit by hardest, with their text: FROM worst(42)",
        """
SELECT f.flag, f.level, f.step, f.suite, f.one.id AS example, f.one.before, f.one.after, p.prompt, p.target
FROM (SELECT x.*, unnest(from_json(x.worst, '[{"id": "VARCHAR", "before": "DOUBLE", "after": "DOUBLE"}]')) AS one
      FROM flags x WHERE x.run = run) f
LEFT JOIN examples p ON p.example = f.one.id
ORDER BY f.step, f.flag, f.one.after - f.one.before DESC""",
    ),
}
