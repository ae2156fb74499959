"""What other tools and papers would have said: the rules that the flags are measured against.

Each is a pure function from what a run has measured to whether it would flag, look by look from step 0 on; the first
True is the flag. None of them was tuned: the constants are those of their authors, or the ones commonly used.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from scipy.special import ndtr

from engine.basics.statistics import change, ratio
from engine.flags.history import History

Hits = list[bool]


def patience(losses: np.ndarray, looks: int) -> Hits:
    """No new best loss for this many looks (Keras' and Hugging Face's early stopping); float [looks]."""
    best = [int(np.argmin(losses[: k + 1])) for k in range(len(losses))]
    return [k - at >= looks for k, at in enumerate(best)]


def generalisation_loss(losses: np.ndarray, alpha: float) -> Hits:
    """GL_alpha of L. Prechelt, "Automatic early stopping using cross validation", 1998: the loss is more than alpha
    per cent above its minimum so far.
    """
    return [bool(100 * (losses[k] / losses[: k + 1].min() - 1) > alpha) for k in range(len(losses))]


def rises(losses: np.ndarray, strips: int) -> Hits:
    """UP_s of Prechelt: the loss rose in s successive strips; a strip ends at each look."""
    up = np.concatenate([[False], np.diff(losses) > 0])
    return [k >= strips and bool(up[k - strips + 1 : k + 1].all()) for k in range(len(losses))]


def generalisation_loss_while_learning(losses: np.ndarray, seen: np.ndarray, alpha: float) -> Hits:
    """GL_alpha, and the training loss is below what it was at the best look."""
    best = [int(np.argmin(losses[: k + 1])) for k in range(len(losses))]
    found = generalisation_loss(losses, alpha)
    return [hit and bool(seen[k] < seen[best[k]]) for k, hit in enumerate(found)]


def gap(losses: np.ndarray, seen: np.ndarray, nats: float) -> Hits:
    """Held-out loss this far above training loss, more than they were apart at step 0."""
    apart = (losses - losses[0]) - (seen - seen[0])
    return [bool(value > nats) for value in apart]


def relative(losses: np.ndarray, share: float) -> Hits:
    """This much above the loss at step 0 (pyrecall's threshold, and the usual rule of thumb)."""
    return [bool(value > (1 + share) * losses[0]) for value in losses]


def unpaired(history: History, reference: np.ndarray, alpha: float = 0.05) -> Hits:
    """One-sided z-test of two independent means (lm-eval's), against the look that `reference` [looks] names."""
    found = [ratio(row, history.tokens) for row in history.nll]
    hits = []
    for k, before in enumerate(reference):
        spread = np.hypot(found[k].se, found[before].se)
        hits.append(k != before and bool(ndtr(-(found[k].value - found[before].value) / spread) < alpha))
    return hits


def paired(history: History, reference: np.ndarray, alpha: float = 0.05) -> Hits:
    """Paired one-sided t-test against zero, uncorrected, against the look that `reference` [looks] names."""
    return [
        k != before and change(history.nll[before], history.nll[k], history.tokens).p_above(0.0) < alpha
        for k, before in enumerate(reference)
    ]


def _losses(history: History) -> np.ndarray:
    return np.array([history.loss(k) for k in range(len(history.steps))])


def _best(history: History) -> np.ndarray:
    losses = _losses(history)
    return np.array([int(np.argmin(losses[: k + 1])) for k in range(len(losses))])


def _base(history: History) -> np.ndarray:
    return np.zeros(len(history.steps), dtype=int)


GAP = 0.5  # nats per token

# From the held-out and the seen suite.
OVERFITTING: dict[str, Callable[[History, History], Hits]] = {
    "patience 3": lambda heldout, seen: patience(_losses(heldout), 3),
    "patience 5": lambda heldout, seen: patience(_losses(heldout), 5),
    "GL2": lambda heldout, seen: generalisation_loss(_losses(heldout), 2),
    "GL5": lambda heldout, seen: generalisation_loss(_losses(heldout), 5),
    "UP3": lambda heldout, seen: rises(_losses(heldout), 3),
    "GL5, training falls": lambda heldout, seen: generalisation_loss_while_learning(
        _losses(heldout), _losses(seen), 5
    ),
    "gap 0.5": lambda heldout, seen: gap(_losses(heldout), _losses(seen), GAP),
    "relative 10% (GL10)": lambda heldout, seen: generalisation_loss(_losses(heldout), 10),
    "unpaired z": lambda heldout, seen: unpaired(heldout, _best(heldout)),
    "paired p<0.05": lambda heldout, seen: paired(heldout, _best(heldout)),
}

# From the general suite, against the base model.
FORGETTING: dict[str, Callable[[History], Hits]] = {
    "relative 5%": lambda general: relative(_losses(general), 0.05),
    "relative 10%": lambda general: relative(_losses(general), 0.10),
    "unpaired z": lambda general: unpaired(general, _base(general)),
    "paired p<0.05": lambda general: paired(general, _base(general)),
}
