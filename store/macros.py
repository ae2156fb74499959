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

# (part, base, now) of each prompt or question, true (1) or false (0), `b`, to a row a part, `s`: the difference of two
# paired shares with the 95% interval of Agresti and Min 2005 (Statistics in Medicine 24, 729-740), which adds half a
# case to each of the four cells.
SHARES = """c AS (SELECT part, count(*) AS n, avg(base) AS base, avg(now) AS now,
                  count(*) FILTER (base > now) AS lost, count(*) FILTER (now > base) AS gained FROM b GROUP BY part),
     s AS (SELECT *, (gained - lost) / n AS change, (gained - lost) / (n + 2.0) AS middle,
                  1.959964 * sqrt((gained + lost + 1) - (gained - lost) ** 2 / (n + 2.0)) / (n + 2.0) AS half FROM c)"""

# The preference loss of a pair, nats, from its margin; label smoothing aside.
PREFERENCE = "greatest(-margin, 0) + ln(1 + exp(-abs(margin)))"

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
WITH kept AS (SELECT t.kept_step FROM runs t WHERE t.run = run),
     e AS (SELECT * FROM eval_examples x WHERE x.run = run AND x.suite = 'general'
                                          AND x.slice IS DISTINCT FROM 'samples'),
     ends AS (SELECT min(step) AS first, coalesce((SELECT kept_step FROM kept), max(step)) AS last
              FROM e)
SELECT f.example, p.prompt, p.target, f.nll / f.tokens AS before, l.nll / l.tokens AS after,
       l.nll / l.tokens - f.nll / f.tokens AS increase
FROM e f JOIN e l ON l.example = f.example LEFT JOIN examples p ON p.example = f.example
WHERE f.step = (SELECT first FROM ends) AND l.step = (SELECT last FROM ends)
ORDER BY increase DESC""",
    ),
    "changes": (
        "a, step_a, b, step_b, suite",
        "The examples of a suite that both have scored, by how much worse they are for run b at one step than for run "
        "a at another: FROM changes(42, 0, 42, 400, 'general'), FROM changes(41, 400, 42, 400, 'heldout')",
        # An older finetui kept what the base model wrote as a slice of the general suite. An example with another
        # number of tokens was read by another tokenizer.
        f"""
WITH e AS (SELECT x.*, CASE WHEN x.slice = 'samples' THEN x.slice ELSE x.suite END AS part, {PREFERENCE} AS pair_loss
           FROM eval_examples x WHERE (x.run = a AND x.step = step_a) OR (x.run = b AND x.step = step_b)),
     f AS (SELECT * FROM e WHERE e.run = a AND e.step = step_a AND e.part = suite),
     l AS (SELECT * FROM e WHERE e.run = b AND e.step = step_b AND e.part = suite),
     d AS (SELECT l.example, l.slice, l.document, l.tokens, coalesce(f.pair_loss, f.nll / f.tokens) AS before,
                  coalesce(l.pair_loss, l.nll / l.tokens) AS after, f.tokens_right AS right_before,
                  l.tokens_right AS right_after, CASE WHEN l.pair_loss IS NULL THEN 'token' ELSE 'pair' END AS per
           FROM f JOIN l ON l.example = f.example AND l.tokens = f.tokens
           WHERE l.tokens > 0 AND (f.pair_loss IS NULL) = (l.pair_loss IS NULL))
SELECT d.example, d.slice, d.document, d.tokens, d.before, d.after, d.after - d.before AS change, d.right_before,
       d.right_after, d.per, p.prompt, p.target
FROM d LEFT JOIN examples p ON p.example = d.example
WHERE d.before + d.after IS NOT NULL
ORDER BY change DESC, d.example""",
    ),
    "baselines": (
        "run",
        "The base model against the run at its last evaluation (of a stopped run, that of the kept step), on the same "
        "held-out examples: FROM baselines(42)",
        f"""
WITH kept AS (SELECT t.kept_step FROM runs t WHERE t.run = run),
     tokens AS (SELECT t.run FROM runs t WHERE t.run = run AND t.task IN ('sft', 'completion')),
     shots AS (SELECT s.value FROM evals s WHERE s.run = run AND s.suite = 'heldout_few_shot' AND s.key = 'shots'),
     e AS (SELECT x.suite, x.step, x.example, coalesce(x.document, x.example) AS draw, x.nll, x.tokens
           FROM eval_examples x WHERE x.run = run AND x.suite IN ('heldout', 'heldout_few_shot')),
     h AS (SELECT * FROM e WHERE suite = 'heldout' AND step > 0
                             AND step = coalesce((SELECT kept_step FROM kept),
                                                 (SELECT max(step) FROM e WHERE suite = 'heldout'))),
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
        "The price of a run, whole and by slice: general text at the last evaluation (of a stopped run, that of the "
        "kept step) against step 0, with what the held-out loss gained and the nats paid for each nat of it: FROM "
        "slices(42)",
        # An older finetui kept what the base model wrote as a slice of the general suite.
        f"""
WITH kept AS (SELECT t.kept_step FROM runs t WHERE t.run = run),
     e AS (SELECT * FROM eval_examples x WHERE x.run = run AND x.suite IN ('general', 'heldout')
                                          AND x.slice IS DISTINCT FROM 'samples'),
     p AS (SELECT h.suite, h.slice, coalesce(h.document, h.example) AS draw, h.step, b.nll AS base, h.nll AS now,
                  h.tokens, h.lost, h.gained
           FROM e b JOIN e h ON h.suite = b.suite AND h.example = b.example AND h.tokens = b.tokens
           WHERE b.step = 0 AND h.step > 0 AND b.nll + h.nll IS NOT NULL
             AND h.step = coalesce((SELECT kept_step FROM kept), (SELECT max(step) FROM e WHERE suite = 'general'))),
     text AS (SELECT * FROM p WHERE suite = 'general'),
     weighed AS (SELECT t.run FROM runs t WHERE t.run = run AND t.task IN ('sft', 'completion')),
     d AS (SELECT 'g' || slice AS part, * FROM text
           WHERE slice IS NOT NULL AND (SELECT count(DISTINCT slice) FROM text) > 1
           UNION ALL SELECT 'g', * FROM text
           UNION ALL SELECT 'h', p.* FROM p SEMI JOIN weighed ON true WHERE suite = 'heldout'),
     {PAIRED},
     flips AS (SELECT part, sum(lost) AS lost, sum(gained) AS gained FROM d GROUP BY part),
     h AS (SELECT -change AS gain, -hi AS gain_lo, -lo AS gain_hi FROM q WHERE part = 'h')
SELECT nullif(substr(part, 2), '') AS slice, step, base_loss, loss, change, lo, hi,
       n, lost, gained, gain, gain_lo, gain_hi, CASE WHEN gain > 0 THEN change / gain END AS per_gain
FROM q JOIN flips USING (part) LEFT JOIN h ON true
WHERE part <> 'h'
ORDER BY part""",
    ),
    "distance": (
        "run",
        "How far a run is from its base model at the last evaluation, nats per token: how much less likely texts are "
        "that the base model wrote itself, and the KL divergence where it was measured: FROM distance(42)",
        f"""
WITH e AS (SELECT CASE WHEN x.slice = 'samples' THEN x.slice ELSE x.suite END AS part, x.step, x.example, x.nll,
                  x.tokens, x.kl
           FROM eval_examples x WHERE x.run = run AND x.suite IN ('samples', 'general', 'heldout')),
     now AS (SELECT * FROM e WHERE step > 0
             AND step = (SELECT max(y.step) FROM e y WHERE y.part = e.part)),
     d AS (SELECT h.part, h.example AS draw, h.step, b.nll AS base, h.nll AS now, h.tokens
           FROM e b JOIN now h ON h.part = b.part AND h.example = b.example AND h.tokens = b.tokens
           WHERE b.step = 0 AND h.part = 'samples' AND b.nll + h.nll IS NOT NULL),
     {PAIRED},
     k AS (SELECT part, max(step) AS step, sum(kl * tokens) / nullif(sum(tokens), 0) AS kl FROM now
           WHERE kl IS NOT NULL GROUP BY part)
SELECT part AS suite, coalesce(q.step, k.step) AS step, change AS distance, lo, hi,
       n, kl
FROM q FULL JOIN k USING (part)
ORDER BY part = 'samples' DESC, part""",
    ),
    "drift": (
        "run",
        "What the model writes to general prompts at the end beside step 0, prompt by prompt: FROM drift(42)",
        f"""
WITH e AS (SELECT * FROM drift_answers x WHERE x.run = run),
     p AS (SELECT h.step, h.prompt AS draw, unnest([
             {{'place': 1, 'part': 'tokens', 'share': false, 'base': f.tokens::DOUBLE, 'now': h.tokens::DOUBLE}},
             {{'place': 2, 'part': 'entropy', 'share': false, 'base': f.entropy, 'now': h.entropy}},
             {{'place': 3, 'part': 'distinct_pairs', 'share': false, 'base': f.distinct_pairs,
              'now': h.distinct_pairs}},
             {{'place': 4, 'part': 'repetition', 'share': false, 'base': f.repetition, 'now': h.repetition}},
             {{'place': 5, 'part': 'finished', 'share': true, 'base': f.finished::DOUBLE, 'now': h.finished::DOUBLE}},
             {{'place': 6, 'part': 'refused', 'share': true, 'base': f.refused::DOUBLE, 'now': h.refused::DOUBLE}},
             {{'place': 7, 'part': 'switched', 'share': true, 'base': f.switched::DOUBLE, 'now': h.switched::DOUBLE}}
           ], recursive := true)
           FROM e f JOIN e h ON h.prompt = f.prompt
           WHERE f.step = 0 AND h.step > 0 AND h.step = (SELECT max(step) FROM e)),
     kept AS (SELECT * FROM p WHERE base + now IS NOT NULL),
     d AS (SELECT part, draw, step, base, now, 1 AS tokens FROM kept WHERE NOT share),
     {PAIRED},
     b AS (SELECT part, base, now FROM kept WHERE share),
     {SHARES},
     a AS (SELECT part, base_loss AS base, loss AS now, change, lo, hi, n FROM q
           UNION ALL SELECT part, base, now, change, middle - half, middle + half, n FROM s)
SELECT part AS measure, o.step, a.* EXCLUDE part
FROM a JOIN (SELECT DISTINCT part, place, step FROM p) o USING (part)
ORDER BY o.place""",
    ),
    "choices": (
        "run",
        "Multiple-choice questions at the end beside step 0, with McNemar's exact test: FROM choices(42)",
        f"""
WITH e AS (SELECT * FROM choice_answers x WHERE x.run = run),
     l AS (SELECT slice, max(step) AS step FROM e GROUP BY slice),
     p AS (SELECT h.slice, h.step, unnest([
             {{'measure': 'accuracy', 'base': (f.chosen = f.answer)::INT, 'now': (h.chosen = h.answer)::INT}},
             {{'measure': 'accuracy_norm', 'base': (f.chosen_norm = f.answer)::INT,
              'now': (h.chosen_norm = h.answer)::INT}}
           ], recursive := true)
           FROM e f JOIN e h ON h.slice = f.slice AND h.example = f.example
           JOIN l ON l.slice = h.slice AND l.step = h.step
           WHERE f.step = 0 AND h.step > 0),
     b AS (SELECT slice || '/' || measure AS part, base, now FROM p),
     {SHARES}
SELECT o.slice, o.measure, o.step, base, now, change, middle - half AS lo, middle + half AS hi, n, lost, gained,
       least(1.0, 2 * list_sum(list_transform(range(0, least(lost, gained) + 1), lambda k: exp(
         lgamma(lost + gained + 1) - lgamma(k + 1) - lgamma(lost + gained - k + 1) - (lost + gained) * ln(2))))) AS p
FROM s JOIN (SELECT DISTINCT slice || '/' || measure AS part, slice, measure, step FROM p) o USING (part)
ORDER BY o.slice, o.measure""",
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
        "Examples that the flags of a run were last hit by hardest, with their text: FROM worst(42)",
        """
SELECT f.flag, f.level, f.step, f.suite, f.one.id AS example, f.one.before, f.one.after, p.prompt, p.target
FROM (SELECT x.*, unnest(from_json(x.worst, '[{"id": "VARCHAR", "before": "DOUBLE", "after": "DOUBLE"}]')) AS one
      FROM (SELECT * FROM flags y WHERE y.run = run
            QUALIFY row_number() OVER (PARTITION BY y.flag, y.suite
                                       ORDER BY y.step DESC, y.attempt DESC, y.t DESC) = 1) x
     ) f
LEFT JOIN examples p ON p.example = f.one.id
ORDER BY f.step, f.flag, f.one.after - f.one.before DESC""",
    ),
}
