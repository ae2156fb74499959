"""Displacement: preference training makes the chosen answers less likely, and the rejected ones even less.

The preference loss sees the difference of the two only, so it is content when both fall (A. Pal et al., "Smaug", 2024;
N. Razin et al., "Unintentional unalignment", 2024). What both lose goes to answers that nobody has looked at. It is
common, and most often harmless: so it is information, unless

- the preference is not learned: the share of held-out pairs that are told apart is not surely above a half; or
- the chosen answers have lost more than half a nat per token: an answer of 20 tokens is then e^10, or 22,000, times
  less likely than under the base model, and what the model writes instead has to be read.
"""

from __future__ import annotations

import numpy as np

from engine.basics.statistics import Measure, mean, share
from engine.flags import actions
from engine.flags.flag import Flag, Level
from engine.flags.history import Context, History, worst_examples
from engine.flags.measure import preferred
from engine.flags.multiplicity import HITS_IN_A_ROW, level_at, streak

SHOWN, FAR = 0.05, 0.5  # nats per token that the chosen answers have lost


def displacement(pairs: History, context: Context) -> Flag | None:
    """Return the flag as it stands at the last look, or None. `pairs`: negative log-likelihoods of the chosen answers,
    with margins.
    """
    if pairs.margins is None or pairs.looks < HITS_IN_A_ROW or np.isnan(pairs.margins[-HITS_IN_A_ROW:]).any():
        return None
    fallen = [_lost(pairs, look, SHOWN) for look in range(1, len(pairs.steps))]
    if streak(fallen) < HITS_IN_A_ROW or _rejected_change(pairs, context.beta).value >= 0:
        return None
    looks = range(len(pairs.steps) - HITS_IN_A_ROW, len(pairs.steps))
    ahead = [share(preferred(pairs.margins[look])) for look in looks]
    unlearned = all(one.lo <= 0.5 for one in ahead)
    far = all(_lost(pairs, look, FAR) for look in looks)
    level: Level = "warn" if unlearned or far else "info"
    lost = pairs.change(0, -1)
    lo, hi = lost.interval()
    return Flag(
        flag="displacement",
        level=level,
        step=pairs.steps[-1],
        since_step=pairs.steps[len(pairs.steps) - streak(fallen)],
        suite=pairs.suite,
        effect=lost.value,
        lo=lo,
        hi=hi,
        n=lost.n,
        looks=pairs.looks,
        message=_message(pairs, context.beta, unlearned, far),
        actions=actions.displacement(context),
        worst=worst_examples(pairs, pairs.nll[0]),
    )


def _lost(pairs: History, look: int, margin: float) -> bool:
    return pairs.change(0, look).p_above(margin) < level_at(look)


def _chosen_change(pairs: History) -> np.ndarray:
    """Return the change of each chosen answer's log-likelihood since step 0; float64 [pairs], nats."""
    return pairs.nll[0] - pairs.nll[-1]


def _rejected_change(pairs: History, beta: float) -> Measure:
    """Estimate the mean change of the rejected answers' log-likelihood since step 0, nats per answer.

    From the margin, beta · (gain of chosen − gain of rejected), and the gain of chosen.
    """
    assert pairs.margins is not None
    first = np.nan_to_num(pairs.margins[0])
    return mean(_chosen_change(pairs) - (pairs.margins[-1] - first) / beta)


def _message(pairs: History, beta: float, unlearned: bool, far: bool) -> str:
    assert pairs.margins is not None
    chosen, rejected = mean(_chosen_change(pairs)), _rejected_change(pairs, beta)
    right = share(preferred(pairs.margins[-1]))
    lost = pairs.change(0, -1)
    sentences = [
        f"Both answers have become less likely: since step 0 the log-likelihood of the chosen ones has changed by "
        f"{chosen.value:+.1f} nats an answer (95% interval {chosen.lo:+.1f} to {chosen.hi:+.1f}; {-lost.value:+.3f} a "
        f"token), that of the rejected ones by {rejected.value:+.1f} ({rejected.lo:+.1f} to {rejected.hi:+.1f}); "
        f"{right.n} pairs, of which {right.value:.0%} ({right.lo:.0%} to {right.hi:.0%}) have the chosen one ahead."
    ]
    if unlearned:
        sentences.append("That is not surely more than half of them: nothing was gained for it.")
    if far:
        sentences.append(
            "The chosen answers have lost so much that the model now writes others: read the samples."
        )
    if not (unlearned or far):
        sentences.append("That is common with this loss and no fault by itself.")
    return " ".join(sentences)
