"""Runs that make no progress: dead from the start, or converged long ago.

Both claim that a change is nearly zero, which a large p-value does not show. So the claim itself is tested: the
change is beyond neither end of a small interval, by two one-sided tests (D. Schuirmann, 1987).
"""

from __future__ import annotations

import numpy as np

from engine.basics.statistics import Estimate
from engine.flags import actions
from engine.flags.flag import Flag
from engine.flags.history import Context, History
from engine.flags.multiplicity import HITS_IN_A_ROW, level_at, streak

FLAT = 0.005  # nats per token: a run that moved the seen loss by less has learned nothing
SETTLED = 0.01  # nats per token: the held-out loss has moved by less since
STEPS, SHARE = 20, 0.1  # of training, before a run may be called dead: both
NO_GRADIENT_STEPS = 5
CONVERGED_FROM, CONVERGED_BY = 0.25, 0.5  # of the run; and of its steps so far, settled after


def no_gradient(norms: np.ndarray, step: int, context: Context) -> Flag | None:
    """Return a critical flag if the gradient (norms, float [steps], up to step `step`) has been zero from the start."""
    if len(norms) < NO_GRADIENT_STEPS or np.any(norms > 0):
        return None
    return Flag(
        flag="dead",
        level="critical",
        step=step,
        since_step=step - len(norms) + 1,
        suite="train",
        effect=0.0,
        lo=0.0,
        hi=0.0,
        n=len(norms),
        looks=len(norms),
        message=f"The gradient has been zero at all {len(norms)} steps: no trained weight affects the loss.",
        actions=actions.dead(context, no_gradient=True),
    )


def dead(seen: History, context: Context) -> Flag | None:
    """Return a warning if the loss on training examples is still the base model's, at two looks in a row."""
    total = context.total_steps or 0
    if seen.looks < HITS_IN_A_ROW or seen.steps[-1] < max(STEPS, SHARE * total):
        return None
    flat = [
        _is_within(seen.change(0, look), FLAT, level_at(look)) and seen.steps[look] >= STEPS
        for look in range(1, len(seen.steps))
    ]
    if streak(flat) < HITS_IN_A_ROW:
        return None
    estimate = seen.change(0, seen.looks)
    lo, hi = estimate.interval()
    return Flag(
        flag="dead",
        level="warn",
        step=seen.steps[-1],
        since_step=0,
        suite=seen.suite,
        effect=estimate.value,
        lo=lo,
        hi=hi,
        n=estimate.n,
        looks=seen.looks,
        message=(
            f"Nothing has been learned in {seen.steps[-1]} steps: the loss on training examples has changed by "
            f"{estimate.value:+.4f} {seen.unit} (95% interval {lo:+.4f} to {hi:+.4f}, {estimate.n} examples)."
        ),
        actions=actions.dead(context, no_gradient=False),
        per=seen.per,
    )


def converged(heldout: History, context: Context) -> Flag | None:
    """Return information if the held-out loss fell and has then not moved for half of the steps so far or more."""
    total = context.total_steps or heldout.steps[-1]
    now = heldout.looks
    if now < 4 or heldout.steps[-1] < CONVERGED_FROM * total:
        return None
    fell = heldout.change(now, 0)  # from now to the base: positive if the loss fell
    if fell.p_above(2 * SETTLED) >= level_at(now):
        return None
    # A look at fewer examples is less sure, so it neither shows nor ends that the loss has settled.
    earlier = [int(look) for look in heldout.peers(now) if 0 < look < now]
    settled = [_is_within(heldout.change(look, now), SETTLED, level_at(now)) for look in earlier]
    looks = streak(settled)
    since = earlier[-looks] if looks else now
    if looks < 2 or heldout.steps[since] > CONVERGED_BY * heldout.steps[-1]:
        return None
    estimate = heldout.change(since, now)
    lo, hi = estimate.interval()
    return Flag(
        flag="converged",
        level="info",
        step=heldout.steps[-1],
        since_step=heldout.steps[since],
        suite=heldout.suite,
        effect=estimate.value,
        lo=lo,
        hi=hi,
        n=estimate.n,
        looks=heldout.looks,
        message=(
            f"The {heldout.suite} loss has moved by {estimate.value:+.4f} {heldout.unit} (95% interval {lo:+.4f} to "
            f"{hi:+.4f}, {estimate.n} examples) since step {heldout.steps[since]}: the run has converged."
        ),
        actions=actions.converged(heldout.steps[since]),
        per=heldout.per,
    )


def _is_within(estimate: Estimate, margin: float, alpha: float) -> bool:
    """Whether both tests, that the true change is beyond one end or the other, are rejected."""
    return max(estimate.p_above(-margin), estimate.negative.p_above(-margin)) < alpha
