"""What each task is judged by, example by example: overfitting, `converged`, the best step and what a stopped run
keeps all read the history that `judged` returns.

| task | measure of an example; less is better | task's own measure; more is better |
|---|---|---|
| sft, completion | negative log-likelihood of its targets, nats over their tokens | targets that were the likeliest |
| classification | negative log-likelihood of its class, nats | whether that class is the likeliest |
| dpo | preference loss of the pair, nats | whether the chosen answer has the higher reward |

The likelihood of DPO's chosen answers is none of these: it often falls while the preference is learned
(engine/flags/displacement.py).
"""

from __future__ import annotations

import numpy as np

from engine.flags.history import Context, History
from store.best import judged_by

# A margin divided by a temperature is that of a model that is less sure of the same preference.
TEMPERATURES = (0.5, 0.7, 1.4, 2.0, 2.8, 4.0, 8.0)


def judged(history: History | None, context: Context) -> History | None:
    """Return a suite's history by what its task is judged by; None without one.

    Looks at pairs that have no margins (those of an older finetui) are left out, but for the first: the base model
    prefers neither answer.
    """
    if history is None or context.task != "dpo":
        return history and history.of(per=judged_by(context.task).per)
    if history.margins is None:
        return None
    margins = history.margins.copy()
    if np.isnan(margins[0]).all():
        margins[0] = 0.0
    known = ~np.isnan(margins).all(axis=1)
    margins = margins[known]
    return History(
        suite=history.suite,
        steps=tuple(step for step, has in zip(history.steps, known, strict=True) if has),
        ids=history.ids,
        nll=preference_losses(margins, context.label_smoothing),
        tokens=np.ones(len(history.ids), dtype=np.int64),
        temperatures=TEMPERATURES,
        tempered=np.stack(
            [preference_losses(margins / t, context.label_smoothing) for t in TEMPERATURES], axis=1
        ),
        metric=preferred(margins),
        slices=history.slices,
        documents=history.documents,
        per=judged_by(context.task).per,
    )


def preferred(margins: np.ndarray) -> np.ndarray:
    """Return of each pair whether its chosen answer has the higher reward, from its margin: 1, 0, or 0.5 for equal."""
    return (np.sign(margins) + 1) / 2


def preference_losses(margins: np.ndarray, label_smoothing: float) -> np.ndarray:
    """Return each pair's preference loss, nats, from its margin; engine/losses/dpo_loss.py has the formula."""
    right, wrong = np.logaddexp(0.0, -margins), np.logaddexp(0.0, margins)
    return (1 - label_smoothing) * right + label_smoothing * wrong
