"""Flags that need curves alone: a loss that is no number, jumps, a held-out loss that rises.

Another trainer reports no losses of single examples, so nothing can be tested pair by pair, and a rise is a sign
(`watch`), never a warning.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from engine.flags.elsewhere import CALMER, EARLIER
from engine.flags.flag import Flag
from engine.flags.history import Context
from engine.flags.instability import back_to_normal, instability
from engine.flags.nan import nan
from engine.flags.states import Today, follow, warns

LOSS, NORM, HELDOUT = "train/loss", "train/grad_norm", "heldout/loss"
LEAST_RISE = 0.02  # nats per token above the least held-out loss, at two looks in a row
_CONTEXT = Context(method="command", lr=0.0, replay=0.0)


class CurveFlags:
    """The flags of one attempt, as its curves grow."""

    def __init__(self) -> None:
        self._curves: dict[str, dict[int, float]] = {LOSS: {}, NORM: {}, HELDOUT: {}}
        self._stated: dict[tuple[str, str], Flag] = {}
        self._unchecked: set[int] = set()  # steps with something new
        self._broken = False  # by a loss that is no number: nothing after it says anything

    def go_on(self, earlier: Mapping[tuple[int, str], float], step: int) -> None:
        """Take what attempts before have measured up to the step that this one goes on from."""
        for (at, name), value in earlier.items():
            if name in self._curves and at <= step:
                self._curves[name][at] = value
        self._broken = any(not math.isfinite(loss) for loss in self._curves[LOSS].values())

    def add(self, steps: Mapping[int, Mapping[str, float]]) -> list[Flag]:
        """Take new measures by step; return the lines to write of flags: raised, confirmed, weakened or withdrawn."""
        for step, values in steps.items():
            for name, curve in self._curves.items():
                if name in values:
                    curve[step] = values[name]
        self._unchecked.update(steps)
        lines: list[Flag] = []
        if any(LOSS in values for values in steps.values()):
            lines += self._training()
        if any(HELDOUT in values for values in steps.values()):
            lines += self._heldout()
        self._stated.update({(line.flag, line.suite): line for line in lines})
        return lines

    def _training(self) -> list[Flag]:
        if self._broken:
            return []
        losses_at, norms_at = self._curves[LOSS], self._curves[NORM]
        outcome = "no weights after it can be trusted"
        for step in sorted(self._unchecked & losses_at.keys()):
            if flag := nan(step, losses_at[step], norms_at.get(step, 0.0), _CONTEXT, outcome):
                self._broken = True
                return [replace(flag, actions=CALMER)]
        self._unchecked.clear()
        steps = evenly_spaced_end(sorted(losses_at))
        if len(steps) < 2:
            return []
        losses = np.array([losses_at[step] for step in steps])
        norms = np.array([norms_at.get(step, 1.0) for step in steps])
        first, every = steps[0], steps[1] - steps[0]
        stated = self._lines_of("instability", "train")
        since = next((flag.since_step for flag in stated if warns(flag)), None)
        unstable = instability(losses, norms, first, _CONTEXT, since, every)

        def today(flag: Flag) -> Today:
            return Today(back_to_normal(losses, norms, first, flag.since_step, every))

        now = [replace(unstable, actions=CALMER)] if unstable else []
        return follow(stated, now, steps[-1], len(steps), today)

    def _lines_of(self, flag: str, suite: str) -> list[Flag]:
        """Return the last line of a flag, if it has one."""
        return [line for key, line in self._stated.items() if key == (flag, suite)]

    def _heldout(self) -> list[Flag]:
        curve = {step: loss for step, loss in sorted(self._curves[HELDOUT].items()) if math.isfinite(loss)}
        if len(curve) < 3:
            return []
        steps, losses = list(curve), list(curve.values())
        best = min(range(len(steps)), key=losses.__getitem__)
        rises = [loss - losses[best] for loss in losses[best + 1 :]]
        stated = self._lines_of("overfitting", "heldout")
        raised = []
        if len(rises) >= 2 and min(rises[-2:]) > LEAST_RISE:
            since = next(
                step for step, rise in zip(steps[best + 1 :], rises, strict=True) if rise > LEAST_RISE
            )
            raised = [_rise(steps, losses, best, since)]

        def today(flag: Flag) -> Today:
            return Today(
                f"The held-out loss is {losses[-1]:.3f}; its least is {losses[best]:.3f}, at step {steps[best]}."
            )

        return follow(stated, raised, steps[-1], len(steps) - 1, today)


def _rise(steps: Sequence[int], losses: Sequence[float], best: int, since: int) -> Flag:
    rise = losses[-1] - losses[best]
    return Flag(
        flag="overfitting",
        level="watch",
        step=steps[-1],
        since_step=since,
        suite="heldout",
        effect=rise,
        lo=math.nan,
        hi=math.nan,
        n=0,
        looks=len(steps) - 1,
        message=(
            f"The held-out loss has risen from {losses[best]:.3f} at step {steps[best]} to {losses[-1]:.3f}. The "
            "trainer reports no single examples, so how much of this is chance cannot be said."
        ),
        actions=EARLIER,
    )


def evenly_spaced_end(steps: Sequence[int]) -> list[int]:
    """Return the last steps, ascending, that lie as far apart as the last two do."""
    if len(steps) < 2:
        return list(steps)
    every, first = steps[-1] - steps[-2], len(steps) - 2
    while first > 0 and steps[first] - steps[first - 1] == every:
        first -= 1
    return list(steps[first:])
