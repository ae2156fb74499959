"""Runs of a sweep that can no longer win, by the same held-out examples as the best one.

At each look a run is compared with the best finished run of its sweep, at the last look of that run which was no later
in its training. The run is behind where its loss is higher by more than it may still gain on it:

    d = own(s) - best(s) - log2(T / s) * (own(h) - own(s)) / log2(s / h)

own(s): its lowest loss so far, of T steps; h: its last look at or before half of the steps so far. A run thus counts as
able to gain as much with each doubling of its steps as the last one brought, on top of all that the best one gained
from there on; losses that follow a power of the steps bring less with each. Where h is step 0, its whole gain counts
for one doubling. d is a paired difference of the examples, a ratio estimate (engine/basics/statistics.py), and the run
is stopped where the one-sided test of d > 0 says so. Look k is tested at 6 ALPHA / (pi k)^2, so that a run that is not
behind is stopped at one of its looks with a probability of at most ALPHA.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from engine.basics.statistics import change

ALPHA = 0.05
FEWEST = 8  # examples that both runs have


@dataclass(frozen=True)
class Example:
    """A held-out example as scored at one look."""

    loss: float  # nats, summed
    tokens: int
    draw: str  # the document that it is of, or itself


Look = Mapping[str, Example]


@dataclass(frozen=True)
class Progress:
    """The looks of one run, by step, the first (step 0) included, and how many steps it has."""

    steps: int
    looks: Mapping[int, Look]


@dataclass(frozen=True)
class Behind:
    """By how much a run is behind at a look, in nats per token beyond what it may still gain."""

    step: int
    difference: float  # to the best run at this point of its training
    least: float  # lower end of the interval of what it would still lack at the end
    n: int  # examples


def behind(own: Progress, best: Progress) -> Behind | None:
    """Return how far a run is behind the best one by its last look; None where it may still win."""
    steps = sorted(step for step in own.looks if step > 0)
    if not steps or not own.steps or not best.steps:
        return None
    step = steps[-1]
    level = 6 * ALPHA / (math.pi * len(steps)) ** 2
    share = step / own.steps
    at = [look for look in best.looks if 0 < look / best.steps <= share]
    if not at:
        return None
    half = max((look for look in own.looks if look <= step / 2), default=None)
    if half is None:
        return None
    mine, earlier, theirs = own.looks[_lowest(own, steps)], own.looks[half], best.looks[_lowest(best, at)]
    common = sorted(
        key
        for key in mine.keys() & earlier.keys() & theirs.keys()
        if mine[key].tokens == theirs[key].tokens == earlier[key].tokens
    )
    if len(common) < FEWEST:
        return None
    tokens = np.array([mine[key].tokens for key in common], dtype=np.float64)
    loss, loss_earlier, loss_theirs = (
        np.array([look[key].loss for key in common]) for look in (mine, earlier, theirs)
    )
    draws = {draw: place for place, draw in enumerate(dict.fromkeys(mine[key].draw for key in common))}
    documents = np.array([draws[mine[key].draw] for key in common])
    gain = (loss_earlier - loss) / (math.log2(step / half) if half else 1.0)
    left = math.log2(1 / share) if gain.sum() > 0 else 0.0
    lacking = change(loss_theirs, loss - left * gain, tokens, documents)
    if lacking.p_above(0.0) >= level:
        return None
    difference = change(loss_theirs, loss, tokens, documents).value
    return Behind(step, difference, lacking.interval(1 - 2 * level)[0], len(common))


def _lowest(run: Progress, steps: Sequence[int]) -> int:
    """Return the step among these at which the loss per token was lowest."""

    def loss(step: int) -> float:
        look = run.looks[step].values()
        return sum(one.loss for one in look) / max(1, sum(one.tokens for one in look))

    return min(steps, key=loss)
