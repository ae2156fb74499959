"""The named queries about single examples: which got worse, which better, and all there is on one of them."""

from __future__ import annotations

from store.macros import PREFERENCE
from store.queried import Query

HEAD = 300  # characters of an example's text in a list; the whole text may have many thousands

# The suite that an example counts to: an older finetui kept what the base model wrote as a slice of the general one.
_SUITE = "CASE WHEN x.slice = 'samples' THEN x.slice ELSE x.suite END"


def looks(run: int) -> Query:
    """suite, slice, step, n (examples scored), kept (the run stands at the weights of this step): the evaluations of a
    run whose examples are known one by one.
    """
    return (
        f"""
SELECT suite, slice, step, n, coalesce(step = (SELECT r.kept_step FROM runs r WHERE r.run = $run), false) AS kept
FROM (SELECT {_SUITE} AS suite, x.slice, x.step, count(x.nll) AS n FROM eval_examples x WHERE x.run = $run GROUP BY ALL)
ORDER BY suite, slice NULLS FIRST, step""",
        {"run": run},
    )


def changes(
    run: int,
    suite: str,
    step_before: int,
    step_after: int,
    before: int | None = None,
    slice: str | None = None,
    words: str = "",
    best_first: bool = False,
    limit: int | None = None,
) -> Query:
    """example, slice, document, tokens, before, after, change (nats per token, of pairs per pair), right_before,
    right_after (tokens), per, text (its beginning), and of all that were compared: examples, worse, better, mean.

    Of a run between two steps, or from a step of the run `before` on. `words`: only examples that have this text.
    """
    order = "ASC NULLS LAST" if best_first else "DESC NULLS LAST"
    return (
        f"""
SELECT * EXCLUDE (prompt, target), left(coalesce(nullif(prompt, ''), target), {HEAD}) AS text,
       count(*) OVER () AS examples, count(*) FILTER (change > 0) OVER () AS worse,
       count(*) FILTER (change < 0) OVER () AS better,
       sum(change * CASE per WHEN 'pair' THEN 1 ELSE tokens END) OVER ()
         / sum(CASE per WHEN 'pair' THEN 1 ELSE tokens END) OVER () AS mean
FROM changes($before, $step_before, $run, $step_after, $suite)
WHERE slice IS NOT DISTINCT FROM coalesce($slice, slice)
  AND contains(lower(concat_ws(' ', prompt, target)), lower($words))
ORDER BY change {order}, example LIMIT $limit""",
        {
            "run": run,
            "before": run if before is None else before,
            "suite": suite,
            "step_before": step_before,
            "step_after": step_after,
            "slice": slice,
            "words": words,
            "limit": limit,
        },
    )


def example_text(example: str) -> Query:
    """suite, prompt, target: the whole text of an example. No rows: it is not known."""
    return "SELECT suite, prompt, target FROM examples WHERE example = $example LIMIT 1", {"example": example}


def example_losses(run: int, suite: str, example: str) -> Query:
    """step, loss (nats per token, of a pair per pair), tokens, tokens_right: an example at each look that scored it."""
    return (
        f"""
SELECT x.step, coalesce({PREFERENCE}, x.nll / nullif(x.tokens, 0)) AS loss, x.tokens, x.tokens_right
FROM eval_examples x WHERE x.run = $run AND {_SUITE} = $suite AND x.example = $example ORDER BY x.step""",
        {"run": run, "suite": suite, "example": example},
    )


def answers(run: int, example: str) -> Query:
    """step, text: what the model wrote to an example's prompt, in order of step. No rows: it was not asked."""
    return (
        """
SELECT step, text FROM (SELECT run, step, prompt, text FROM samples
                        UNION ALL SELECT run, step, prompt, text FROM drift_answers)
WHERE run = $run AND prompt = (SELECT e.prompt FROM examples e WHERE e.example = $example AND e.prompt <> '' LIMIT 1)
ORDER BY step""",
        {"run": run, "example": example},
    )
