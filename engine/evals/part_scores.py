"""Score a part of a suite where that is enough: engine/flags/part.py has the rules."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

import numpy as np

from engine.basics.statistics import Measure
from engine.evals.looks import Looks
from engine.evals.outcome import Outcome
from engine.flags import part
from engine.flags.history import History
from engine.recipe.fields import SAMPLES
from engine.recipe.sections import Evals, Flags
from engine.tasks.prepare import Suite

Score = Callable[[Suite, np.ndarray | None], Outcome]  # at these indices; None: all of them


def first_part(suite: Suite, evals: Evals, step: int, last: int, total: int) -> np.ndarray | None:
    """Return the indices to score first at a step, int64; None: the whole suite. `last`: step of the look before."""
    if part.is_whole(suite.name, step, last, total):
        return None
    places = np.flatnonzero(_part(suite, evals))
    return None if len(places) == len(suite.examples) else places


def _part(suite: Suite, evals: Evals) -> np.ndarray:
    """Return which examples a look scores first, bool [examples]."""
    names = suite.passages_of or [example.id for example in suite.examples]
    return part.choose_part(names, suite.slices, evals.first_part(suite.name))


def complete(
    outcomes: dict[str, Outcome], suites: list[Suite], looks: Looks, step: int, score: Score, flags: Flags
) -> dict[str, Outcome]:
    """Return every suite's outcome, with the rest of the suite scored where a detector needs it; the measures of a
    suite that stays partial are estimates of the whole. `flags`: the recipe's, for their margins.
    """
    partial = {
        suite.name: suite for suite in suites if len(outcomes[suite.name].scores.ids) < len(suite.examples)
    }
    histories = {name: looks.history(name, (step, outcomes[name].scores)) for name in partial}
    to_complete = set()
    for name, history in histories.items():
        if history and name not in ("seen", SAMPLES) and part.wants_rest(history, flags):
            to_complete |= {name} if name == part.GENERAL else {"heldout", "seen"}
    for name, suite in partial.items():
        outcome = outcomes[name]
        if name in to_complete:
            scored_ids = set(outcome.scores.ids)
            rest = np.array([i for i, example in enumerate(suite.examples) if example.id not in scored_ids])
            rest_outcome = score(suite, rest)
            ids = [example.id for example in suite.examples]
            scores = outcome.scores.with_rest(rest_outcome.scores, ids)
            outcomes[name] = Outcome(scores, scores.measures, seconds=outcome.seconds + rest_outcome.seconds)
        elif history := histories[name]:
            outcomes[name] = replace(outcome, measures=_whole_measures(history))
    return outcomes


def tokens_read(suite: Suite, ids: Sequence[str]) -> int:
    """Return how many tokens a look read of the examples of a suite that it scored."""
    scored = set(ids)
    return sum(len(example.tokens) for example in suite.examples if example.id in scored)


def partial_cost(suites: list[Suite], evals: Evals) -> float:
    """Return the cost of a look that stays partial, as a share of that of a whole one: by the tokens that it reads."""
    read_tokens, all_tokens = 0, 0
    for suite in suites:
        lengths = np.array([len(example.tokens) for example in suite.examples])
        chosen = _part(suite, evals)
        read_tokens, all_tokens = read_tokens + int(lengths[chosen].sum()), all_tokens + int(lengths.sum())
    return read_tokens / all_tokens


def _whole_measures(history: History) -> dict[str, Measure]:
    """Estimate the measures of a suite at its last look, which scored a part of it."""
    estimates = {"loss": history.estimate(-1), "token_accuracy": history.estimate(-1, rows=history.right)}
    return {name: estimate.estimate.measure for name, estimate in estimates.items()}
