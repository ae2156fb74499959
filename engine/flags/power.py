"""What a suite cannot show: the smallest change that a flag tells with a chance of 80%, from the flags' own levels.

A look hits if (value - margin) / se is above the t of its level (engine/flags/multiplicity.py). With a true change of

    margin + (t + z √(1 + t² / (2 df))) · se,   se = sd / √n

that has the chance whose normal quantile is z (the usual approximation to the noncentral t distribution: N. Johnson, B.
Welch, "Applications of the non-central t-distribution", 1940). A flag needs two hits in a row, so it is nearly that.
"""

from __future__ import annotations

import math

from scipy.special import stdtrit

from engine.flags import forgetting, overfitting
from engine.flags.multiplicity import ALPHA, level_at

CHANCE_QUANTILE = 0.842  # standard normal, of 80%
# Standard deviation from row to row of the change of the loss, nats per token: of held-out rows in two runs that
# overfitted by 0.33 and 0.44, and of general text in runs that forgot about 0.1.
TYPICAL_SD = {"heldout": 0.4, "general": 0.15}
ALL_LOOKS = 57  # of a run with `evals.every: auto`, at most


def smallest(suite: str, n: int, looks: int, sd: float | None = None) -> float:
    """Return the smallest rise of the loss, nats per token, that `n` rows of a suite show at look `looks`; infinite for
    fewer than 2 rows. `heldout` is tested for overfitting, any other suite or slice for forgetting.

    `sd`: standard deviation of the change from row to row, nats per token, if not the typical one.
    """
    if n < 2:
        return math.inf
    rises = suite == "heldout"
    margin = (overfitting if rises else forgetting).MARGINS["warn"]
    level = level_at(max(1, looks), overfitting.ALPHA if rises else ALPHA)
    sd = TYPICAL_SD["heldout" if rises else "general"] if sd is None else sd
    t = float(stdtrit(n - 1, 1 - level))
    return margin + (t + CHANCE_QUANTILE * math.sqrt(1 + t**2 / (2 * (n - 1)))) * sd / math.sqrt(n)


def sd_of(lo: float, hi: float, n: int) -> float:
    """Return the standard deviation from row to row that a 95% interval of a mean change over `n` ≥ 2 rows has."""
    return (hi - lo) / 2 / float(stdtrit(n - 1, 0.975)) * math.sqrt(n)
