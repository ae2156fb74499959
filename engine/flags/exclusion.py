"""Flags that say opposite things do not stand together.

A rise of the held-out loss has one cause. After instability, the loss on training examples is high and comes back
slowly; that it is not surely above its value at the best step is no evidence that it fits the training examples too
well. So while instability stands, a rise is overfitting only if the training loss surely did not rise. And a held-out
loss that surely falls again is recovering: it is not called overfitting anew. A run whose loss has risen has not
converged.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from engine.basics.statistics import Estimate
from engine.flags import actions
from engine.flags.evidence import Evidence
from engine.flags.flag import Flag
from engine.flags.history import Context, History, losses
from engine.flags.multiplicity import level_at
from engine.flags.overfitting import SURE, surely_did_not_rise
from engine.flags.states import stands, warns

CAUSES = ("overfitting", "overconfident", "instability")  # of a rise of the held-out loss: one of them


def are_opposite(one: Flag, other: Flag) -> bool:
    """Whether two flags name different causes of one rise."""
    return (
        one.suite == other.suite == "heldout"
        and one.flag in CAUSES
        and other.flag in CAUSES
        and one.flag != other.flag
    )


def without_contradictions(
    hits: Sequence[Flag], stated: Sequence[Flag], evidence: Evidence, context: Context
) -> list[Flag]:
    """Return what a look shows, without what cannot be true beside the rest of it, or beside what stands."""
    rise = next((flag for flag in hits if flag.flag in CAUSES and flag.suite == "heldout"), None)
    if rise is None or evidence.heldout is None or evidence.seen is None:
        return list(hits)
    others = [flag for flag in hits if flag is not rise and flag.flag != "converged"]
    if rise.flag == "instability":
        return [rise, *others]
    if is_recovering(evidence.heldout) and not any(_is_rise(flag) for flag in stated):
        return others
    if any(flag.flag == "instability" and warns(flag) for flag in (*stated, *others)):
        best = int(np.argmin(losses(evidence.heldout.nll, evidence.heldout.tokens)))
        moved = evidence.seen.change(evidence.seen.steps.index(evidence.heldout.steps[best]), -1)
        if not surely_did_not_rise(moved):
            return [_as_instability(rise, evidence.heldout, best, moved, stated, context), *others]
    return [rise, *others]


def is_recovering(heldout: History) -> bool:
    """Whether the loss surely falls: since its highest value after its best, and over the last two looks."""
    if heldout.looks < 3:
        return False
    by_look = losses(heldout.nll, heldout.tokens)
    best = int(np.argmin(by_look))
    peak = best + int(np.argmax(by_look[best:]))
    if peak == heldout.looks:
        return False
    since_peak, lately = (heldout.change(look, -1).negative for look in (peak, heldout.looks - 2))
    return since_peak.p_above(0.0) < level_at(heldout.looks) and lately.p_above(0.0) < SURE


def _is_rise(flag: Flag) -> bool:
    return flag.flag in CAUSES and flag.suite == "heldout" and stands(flag)


def _as_instability(
    rise: Flag, heldout: History, best: int, moved: Estimate, stated: Sequence[Flag], context: Context
) -> Flag:
    before = next((flag for flag in stated if flag.flag == "instability" and _is_rise(flag)), None)
    level = rise.level if rise.level != "info" else before.level if before else "watch"
    lo, hi = moved.interval()
    return replace(
        rise,
        flag="instability",
        level=level,
        since_step=before.since_step if before else rise.since_step,
        message=(
            f"The {heldout.suite} loss is {rise.effect:.3f} {heldout.unit} above its best at step "
            f"{heldout.steps[best]} (95% interval {rise.lo:.3f} to {rise.hi:.3f}, {rise.n} examples), and the run has "
            f"not come back from its instability: the loss on training examples has changed by {moved.value:+.3f} "
            f"since then ({lo:+.3f} to {hi:+.3f}), which does not show that it did not rise."
        ),
        actions=actions.instability(context),
    )
