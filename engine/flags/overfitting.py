"""Overfitting: the held-out loss has turned up beyond noise since its best evaluation.

The best evaluation of many looks lucky, and any later one worse. So the held-out examples are split in two
halves: the best step is chosen on one and the rise since then is measured on the other, both ways round.
The loss on training examples tells the cause: it still falls (overfitting) or rises too (instability).
"""

from __future__ import annotations

import hashlib
from functools import lru_cache

import numpy as np

from engine.evals.intervals import Estimate, change
from engine.flags.flag import (
    CHANGE_LESS,
    Context,
    Flag,
    History,
    Level,
    level_at,
    standing,
    streak,
    worst_examples,
)

MARGINS: dict[Level, float] = {"warn": 0.01, "critical": 0.15}  # nats per token
FEWEST = 4  # examples in a half


def hits(heldout: History) -> dict[Level, list[bool]]:
    """At which looks (from 1) the loss had risen beyond each margin since its best."""
    looks = [(level_at(look), _rise(heldout, look)) for look in range(1, len(heldout.steps))]
    return {
        level: [rise is not None and rise[0].p_above(margin) < alpha for alpha, rise in looks]
        for level, margin in MARGINS.items()
    }


def overfitting(heldout: History, seen: History, context: Context) -> Flag | None:
    """The flag as it stands at the last look (`overfitting` or `instability`), or None.

    `seen` has the same evaluations as `heldout`.
    """
    found = hits(heldout)
    level = standing(found)
    rise = _rise(heldout, heldout.looks)
    if level is None or rise is None:
        return None
    estimate, before = rise
    best = int(np.argmin(heldout.nll.sum(axis=1)))
    overfitted = seen.loss(-1) <= seen.loss(best)
    lo, hi = estimate.interval()
    trained = f"from {seen.loss(best):.3f} to {seen.loss(-1):.3f}"
    return Flag(
        flag="overfitting" if overfitted else "instability",
        level=level,
        step=heldout.steps[-1],
        since_step=heldout.steps[len(heldout.steps) - streak(found["warn"])],
        suite=heldout.suite,
        effect=estimate.value,
        lo=lo,
        hi=hi,
        n=estimate.n,
        looks=heldout.looks,
        message=(
            f"The {heldout.suite} loss has risen by {estimate.value:.3f} nats per token (95% interval {lo:.3f} to "
            f"{hi:.3f}, {estimate.n} examples) since its best at step {heldout.steps[best]}, while the loss on "
            f"training examples {'fell' if overfitted else 'rose too'} ({trained})."
        ),
        advice=_overfitting_advice(heldout.steps[best], context)
        if overfitted
        else _instability_advice(context),
        worst=worst_examples(heldout, before),
    )


def _rise(history: History, look: int) -> tuple[Estimate, np.ndarray] | None:
    """Rise from the best look to this one, and each example's loss at the best look chosen without it."""
    halves = _halves(history.ids)
    if min(halves.sum(), (~halves).sum()) < FEWEST:
        return None
    so_far = history.nll[: look + 1]
    best_of_half = {half: int(np.argmin(so_far[:, halves == half].sum(axis=1))) for half in (True, False)}
    if look in best_of_half.values():
        return None  # still at its best
    before = np.where(halves, so_far[best_of_half[False]], so_far[best_of_half[True]])
    return change(before, so_far[look], history.tokens), before


@lru_cache(maxsize=4)
def _halves(ids: tuple[str, ...]) -> np.ndarray:
    """Which examples are in the first half, by content hash: bool [examples]."""
    return np.array([hashlib.sha256(f"half:{id}".encode()).digest()[0] % 2 == 0 for id in ids], dtype=bool)


def _overfitting_advice(best_step: int, context: Context) -> tuple[str, ...]:
    return (
        f"Use the weights from around step {best_step}: set train.max_steps={max(1, best_step)}, "
        "or flags.overfitting=stop.",
        "Add training data, or remove rows that say the same.",
        f"Let it learn less by heart: fewer epochs, a lower train.lr. {CHANGE_LESS[context.method]}",
    )


def _instability_advice(context: Context) -> tuple[str, ...]:
    return (
        f"Lower the learning rate: try train.lr={context.lr / 3:.1e}, a third of the present one.",
        "Make steps steadier: raise train.tokens_per_step or train.warmup, or lower train.grad_clip.",
    )
