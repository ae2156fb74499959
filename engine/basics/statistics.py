"""How sure a mean loss is: intervals and paired changes over examples.

A suite's loss is the sum of its examples' losses over the sum of their tokens, so an interval must take
the examples as the unit that was drawn, not the tokens: tokens of one example go together. This is the
ratio estimator with linearised variance (Cochran, Sampling Techniques, 3rd ed. 1977, section 6.4):

    R = sum(y) / sum(x),  se = sqrt(k / (k - 1) * sum((y - R x)^2)) / sum(x),  k = sum(x)^2 / sum(x^2)

with Student's t on k - 1 degrees of freedom. k is Kish's effective number of examples (L. Kish, Survey Sampling, 1965,
section 11.7): n where all are as long, few where a few long ones carry the tokens.

Passages of one document are one draw: y and x are then summed by document first, so that n and k count documents (the
ultimate-cluster estimator: M. Hansen, W. Hurwitz, W. Madow, Sample Survey Methods and Theory, 1953, volume 1, chapter
6). Where examples changed askew, t is transformed (P. Hall, "On the removal of skewness by transformation", 1992) on
the side on which that makes an interval wider: skewness that a few examples show may be chance, and heavy tails look
like it. Pure functions of numpy arrays.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from finetui.ratio import Estimate as Estimate
from finetui.ratio import Measure as Measure
from finetui.ratio import ratio as ratio
from finetui.ratio import ratios as ratios
from finetui.ratio import skewed as skewed

RESAMPLES = 1000  # of a bootstrap


@dataclass(frozen=True)
class TwoPhase:
    """A ratio of sums over a whole suite, of which a part was scored; without a rest, `rest` is 0."""

    value: float
    own: float  # standard error that it would have, had the whole suite been scored
    rest: float  # standard deviation of what scoring the rest may still change
    n: int  # examples scored
    df: float = np.inf  # degrees of freedom of both
    skew: float = 0.0  # of the estimate from the whole suite
    documents: float = 1.0  # by how much `own` is larger where passages of one document are one draw

    @property
    def estimate(self) -> Estimate:
        se = float(np.hypot(self.own * self.documents, self.rest))
        return Estimate(self.value, se, self.n, self.df, self.skew)


def two_phase(
    now: np.ndarray,
    before: np.ndarray,
    tokens: np.ndarray,
    level: float,
    total: int,
    documents: np.ndarray | None = None,
) -> TwoPhase:
    """A ratio over `total` examples from the n ≥ 1 of them that were scored now (sums `now` over `tokens`, [n]), where
    all of them were scored once before: those n gave `before`, and all together the ratio `level`. `documents` as in
    `ratio`.

    The difference estimator of double sampling (Cochran, chapter 12): with d = now - before,

        R = level + sum(d) / sum(tokens),  se² = n/N se(now)² + (1 - n/N) se(d)²

    How hard the part is, compared with the whole, drops out. The rest of a document says less than another document
    would, so there the first term may be anything up to se(now)²: it is taken whole.
    """
    n, whole = len(now), ratio(now, tokens, documents)
    share = float(np.sqrt(n / total))
    larger = 1.0 if documents is None else 1 / share
    if n < total:
        changed = change(before, now, tokens, documents)
        value, rest = changed.value, changed.se * float(np.sqrt(1 - n / total))
    else:
        value, rest = float((now - before).sum() / tokens.sum()), 0.0
    return TwoPhase(level + value, whole.se * share, rest, n, whole.df, whole.skew * share, larger)


def change(
    before: np.ndarray, now: np.ndarray, tokens: np.ndarray, documents: np.ndarray | None = None
) -> Estimate:
    """Change of the loss per token between two evaluations of the same examples (nll sums, nats, [n]).

    Paired: how hard each example is drops out, which leaves only how much each one moved.
    """
    return ratio(np.asarray(now, dtype=np.float64) - np.asarray(before, dtype=np.float64), tokens, documents)


def mean(values: np.ndarray) -> Measure:
    """Mean of one number per example, n ≥ 1."""
    return ratio(values, np.ones(len(values))).measure


def share(hits: np.ndarray) -> Measure:
    """Share of hits, each from 0 to 1, [n], n ≥ 1, with the score interval, which holds for shares near 0 and 1 as
    well (Wilson 1927, "Probable inference, the law of succession, and statistical inference"), and is too wide
    rather than too narrow for hits between 0 and 1.
    """
    from scipy.special import ndtri

    n, p = len(hits), float(np.mean(hits))
    z = float(ndtri(0.975))
    centre = (p + z**2 / (2 * n)) / (1 + z**2 / n)
    half = z / (1 + z**2 / n) * float(np.sqrt(p * (1 - p) / n + z**2 / (4 * n**2)))
    return Measure(p, centre - half, centre + half, n)


def bootstrap(statistic: Callable[[np.ndarray], float], n: int) -> Measure:
    """A statistic of a whole suite, n ≥ 1, with its percentile interval over resamples of the examples (Efron &
    Tibshirani, An Introduction to the Bootstrap, 1993, chapter 13). `statistic` gets indices of examples, int [n].

    The seed is fixed: the same examples give the same interval.
    """
    random = np.random.default_rng(0)
    values = [statistic(random.integers(0, n, n)) for _ in range(RESAMPLES)]
    lo, hi = np.percentile(values, [2.5, 97.5])
    return Measure(statistic(np.arange(n)), float(lo), float(hi), n)
