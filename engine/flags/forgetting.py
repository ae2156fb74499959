"""Forgetting: the general suite is worse than it was under the base model, beyond noise and margin.

Each example is compared with itself at step 0. A plain test against zero would flag nearly every clean
run, since fine-tuning always moves the general loss a little; hence the margins.
"""

from __future__ import annotations

from engine.evals.intervals import change
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

MARGINS: dict[Level, float] = {"warn": 0.05, "critical": 0.15}  # nats per token


def hits(history: History) -> dict[Level, list[bool]]:
    """At which looks (from 1) the loss was beyond each margin."""
    looks = [
        (level_at(look), change(history.nll[0], history.nll[look], history.tokens))
        for look in range(1, len(history.steps))
    ]
    return {
        level: [estimate.p_above(margin) < alpha for alpha, estimate in looks]
        for level, margin in MARGINS.items()
    }


def forgetting(history: History, context: Context) -> Flag | None:
    """The flag as it stands at the last look, or None."""
    found = hits(history)
    level = standing(found)
    if level is None:
        return None
    estimate = change(history.nll[0], history.nll[-1], history.tokens)
    lo, hi = estimate.interval()
    since = history.steps[len(history.steps) - streak(found["warn"])]
    return Flag(
        flag="forgetting",
        level=level,
        step=history.steps[-1],
        since_step=since,
        suite=history.suite,
        effect=estimate.value,
        lo=lo,
        hi=hi,
        n=estimate.n,
        looks=history.looks,
        message=(
            f"The {history.suite} loss is {estimate.value:.3f} nats per token above the base model's "
            f"(95% interval {lo:.3f} to {hi:.3f}, {estimate.n} examples): {history.loss(0):.3f} at step 0, "
            f"{history.loss(-1):.3f} at step {history.steps[-1]}, since step {since}."
        ),
        advice=_advice(context),
        worst=worst_examples(history, history.nll[0]),
    )


def _advice(context: Context) -> tuple[str, ...]:
    """Sentences in the order in which they help most."""
    ratio = max(0.05, min(0.25, 4 * context.replay))
    replay = "Mix in general text: set" if not context.replay else "Mix in more general text: raise"
    sentences = [
        f"Lower the learning rate: try train.lr={context.lr / 3:.1e}, a third of the present one.",
        f"{replay} data.replay.ratio to {ratio:.2f}.",
    ]
    return (
        *sentences,
        CHANGE_LESS[context.method],
        "Train for fewer epochs: most of the damage is done early and stays.",
    )
