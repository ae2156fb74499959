"""A look at a suite that may do with a part of it: engine/flags/part.py has the rules."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from engine.basics.statistics import Measure
from engine.evals.looks import Looks
from engine.evals.outcome import Outcome
from engine.flags import part
from engine.flags.flag import History
from engine.tasks.prepare import Suite

Score = Callable[[Suite, np.ndarray | None], Outcome]  # at these places; None: all of them


def first_part(suite: Suite, per_look: int, step: int, last: int, total: int) -> np.ndarray | None:
    """The places to score first at a step, int64; None: the whole suite. `last`: the step of the look before."""
    if part.is_whole(suite.name, step, last, total):
        return None
    places = np.flatnonzero(part.part([example.id for example in suite.examples], suite.slices, per_look))
    return None if len(places) == len(suite.examples) else places


def completed(
    found: dict[str, Outcome], suites: list[Suite], looks: Looks, step: int, score: Score
) -> dict[str, Outcome]:
    """Every suite's outcome, the rest of it scored where that is wanted; what is left partial says of the whole suite
    what can be said.
    """
    partial = {
        suite.name: suite for suite in suites if len(found[suite.name].scores.ids) < len(suite.examples)
    }
    histories = {name: looks.history(name, (step, found[name].scores)) for name in partial}
    wanted = set()
    for name, history in histories.items():
        if history and name != "seen" and part.wants_rest(history):
            wanted |= {name} if name == part.GENERAL else {"heldout", "seen"}
    for name, suite in partial.items():
        before = found[name]
        if name in wanted:
            have = set(before.scores.ids)
            rest = np.array([i for i, example in enumerate(suite.examples) if example.id not in have])
            other = score(suite, rest)
            ids = [example.id for example in suite.examples]
            scores = before.scores.with_rest(other.scores, ids)
            found[name] = Outcome(scores, scores.measures, seconds=before.seconds + other.seconds)
        elif history := histories[name]:
            found[name] = replace(before, measures=_of_whole(history))
    return found


def share(suites: list[Suite], per_look: int) -> float:
    """What a look that stays partial costs, as a share of a whole one: by the tokens that it reads."""
    read, there = 0, 0
    for suite in suites:
        lengths = np.array([len(example.tokens) for example in suite.examples])
        chosen = part.part([example.id for example in suite.examples], suite.slices, per_look)
        read, there = read + int(lengths[chosen].sum()), there + int(lengths.sum())
    return read / there


def _of_whole(history: History) -> dict[str, Measure]:
    """The measures of a suite at its last look, of which a part was scored."""
    found = {"loss": history.estimate(-1), "token_accuracy": history.estimate(-1, rows=history.right)}
    return {name: estimate.estimate.measure for name, estimate in found.items()}
