"""Decide at which steps a run is evaluated, where the recipe leaves that to finetui (`evals.every: auto`).

Drift is fast at first and slow later, so looks are close together at first: steps 5, 10, 20, 40, 80, 150, then every 2%
of the run. Most of these may be skipped, so that evaluations stay within `evals.budget`, a share of the wall time.
Every tenth of the run is evaluated whatever that costs: most detectors need two hits in a row and forecasts need a
few points, so that with fewer than ten looks flags would come after the damage, if at all. What the budget leaves
beside them is spread evenly over the rest of the run. Pure but for the clock. Torch-free.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from engine.recipe.fields import AUTO, Share, parse_share

EARLY = (5, 10, 20, 40, 80, 150)  # steps
LATER = Share(percent=2)
CERTAIN = Share(percent=10)


@dataclass(frozen=True)
class TimeSpent:
    """The time that an attempt has spent: seconds of training and of looks, steps done and steps in all, and the
    seconds that a certain look takes, and one that is not certain (it may score less).
    """

    train_s: float
    eval_s: float
    done: int
    steps: int
    certain_s: float
    look_s: float

    def affordable_looks(self, budget: float, certain: int) -> float:
        """Return how many looks that are not certain the budget still allows beside `certain` ones; `budget` is a share
        of the wall time.
        """
        if budget >= 1 or self.look_s <= 0:
            return float("inf")
        train_s = self.train_s * self.steps / max(1, self.done)
        return (train_s * budget / (1 - budget) - self.eval_s - certain * self.certain_s) / self.look_s


def is_due(step: int, every: Share, total: int) -> bool:
    """Whether something done at step 0, at the end and `every` so often is done at this step.

    A percentage gives evenly spread steps, none of them just before the end.
    """
    if step in (0, total):
        return True
    if every.percent is None:
        return step % every.of(total) == 0
    interval = total * every.percent / 100
    return int(step / interval) > int((step - 1) / interval)


def is_wanted(step: int, total: int) -> bool:
    """Whether this step is evaluated if there is time for it."""
    return step in EARLY or (step > EARLY[-1] and is_due(step, LATER, total))


def is_affordable(step: int, total: int, last: int, spent: TimeSpent, budget: float) -> bool:
    """Whether there is time for a look that is not certain; `last` is the step of the latest look.

    Looks that are certain and still to come are paid for first.
    """
    certain = 10 - 10 * step // total
    affordable = spent.affordable_looks(budget, certain)
    if affordable < 1:
        return False
    return step in EARLY or (step - last) * (affordable + certain) >= total - last


class Schedule:
    """The looks of one attempt, with the time that they take."""

    def __init__(
        self,
        every: str | int,
        budget: str | int,
        total: int,
        step: int,
        agree: Callable[[bool], bool] = bool,
        share: float = 1.0,
        clock: Callable[[], float] | None = None,
    ) -> None:
        """`step`: where the attempt begins. `agree`: makes all of several processes decide the same. `share`: what a
        look that is not certain is expected to take, of the time of one that is; once there was one, its time counts.
        `clock`: seconds, where they are predicted instead of measured.
        """
        self._every = None if every == AUTO else parse_share(every)
        self._budget = (parse_share(budget).percent or 0.0) / 100
        self._total, self._first, self._last, self._agree = total, step, step, agree
        self._clock = clock or time.monotonic
        self._began = self._clock()
        self._share, self._eval_s, self._certain_s = share, 0.0, 0.0
        self._look_s: float | None = None

    def is_certain(self, step: int) -> bool:
        """Whether this step is evaluated whatever that costs."""
        return is_due(step, self._every or CERTAIN, self._total)

    def is_due(self, step: int) -> bool:
        """Whether this step is to be evaluated now."""
        if self.is_certain(step):
            return True
        if self._every or not is_wanted(step, self._total):
            return False
        train_s = self._clock() - self._began - self._eval_s
        steps = self._total - self._first
        look_s = self._share * self._certain_s if self._look_s is None else self._look_s
        certain_s = max(self._certain_s, look_s)  # the first look may have been read from the base cache
        spent = TimeSpent(train_s, self._eval_s, step - self._first, steps, certain_s, look_s)
        return self._agree(is_affordable(step, self._total, self._last, spent, self._budget))

    @contextmanager
    def apart(self) -> Iterator[None]:
        """Count the time inside neither as training nor as a look."""
        began = self._clock()
        try:
            yield
        finally:
            self._began += self._clock() - began

    @contextmanager
    def timing(self, step: int) -> Iterator[None]:
        """Measure the time of the look inside."""
        began = self._clock()
        try:
            yield
        finally:
            seconds = self._clock() - began
            if self.is_certain(step):
                self._certain_s = seconds
            else:
                self._look_s = seconds
            self._eval_s, self._last = self._eval_s + seconds, step
