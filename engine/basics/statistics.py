"""How sure a mean loss is: intervals and paired changes over examples.

A suite's loss is the sum of its examples' losses over the sum of their tokens, so an interval must take
the examples as the unit that was drawn, not the tokens: tokens of one example go together. This is the
ratio estimator with linearised variance (Cochran, Sampling Techniques, 3rd ed. 1977, section 6.4):

    R = sum(y) / sum(x),  se = sqrt(n / (n - 1) * sum((y - R x)^2)) / sum(x)

with Student's t on n - 1 degrees of freedom. Pure functions of numpy arrays.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtri, stdtr, stdtrit

RESAMPLES = 1000  # of a bootstrap


@dataclass(frozen=True)
class Measure:
    """A result with its 95% interval, where it has one (else infinite)."""

    value: float
    lo: float
    hi: float
    n: int  # examples


@dataclass(frozen=True)
class Estimate:
    """A ratio of sums with its standard error; `se` is infinite for fewer than two examples."""

    value: float
    se: float
    n: int

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """Two-sided interval; (-inf, inf) for fewer than two examples."""
        if self.n < 2:
            return -np.inf, np.inf
        half = float(stdtrit(self.n - 1, (1 + level) / 2)) * self.se
        return self.value - half, self.value + half

    @property
    def measure(self) -> Measure:
        return Measure(self.value, *self.interval(), self.n)

    def p_above(self, margin: float) -> float:
        """p-value of the one-sided test that the true value is not above `margin`."""
        if self.n < 2:
            return 1.0
        if self.se == 0:
            return 0.0 if self.value > margin else 1.0
        return float(stdtr(self.n - 1, -(self.value - margin) / self.se))


@dataclass(frozen=True)
class TwoPhase:
    """A ratio of sums over a whole suite, of which a part was scored; without a rest, `rest` is 0."""

    value: float
    own: float  # standard error that it would have, had the whole suite been scored
    rest: float  # standard deviation of what scoring the rest may still change
    n: int  # examples scored

    @property
    def estimate(self) -> Estimate:
        return Estimate(self.value, float(np.hypot(self.own, self.rest)), self.n)


def two_phase(now: np.ndarray, before: np.ndarray, tokens: np.ndarray, level: float, total: int) -> TwoPhase:
    """A ratio over `total` examples from the n ≥ 1 of them that were scored now (sums `now` over `tokens`, [n]), where
    all of them were scored once before: those n gave `before`, and all together the ratio `level`.

    The difference estimator of double sampling (Cochran, chapter 12): with d = now - before,

        R = level + sum(d) / sum(tokens),  se² = n/N se(now)² + (1 - n/N) se(d)²

    How hard the part is, compared with the whole, drops out.
    """
    n, change = len(now), ratio(np.asarray(now, dtype=np.float64) - before, tokens)
    own = ratio(now, tokens).se * float(np.sqrt(n / total))
    rest = change.se * float(np.sqrt(1 - n / total)) if n < total else 0.0
    return TwoPhase(level + change.value, own, rest, n)


def ratio(sums: np.ndarray, tokens: np.ndarray) -> Estimate:
    """Mean per token of examples with totals `sums` over `tokens`, both float or int [n], n ≥ 1."""
    y, x = np.asarray(sums, dtype=np.float64), np.asarray(tokens, dtype=np.float64)
    n, value = len(y), float(y.sum() / x.sum())
    if n < 2:
        return Estimate(value, np.inf, n)
    residuals = y - value * x
    return Estimate(value, float(np.sqrt(n / (n - 1) * (residuals**2).sum()) / x.sum()), n)


def change(before: np.ndarray, now: np.ndarray, tokens: np.ndarray) -> Estimate:
    """Change of the loss per token between two evaluations of the same examples (nll sums, nats, [n]).

    Paired: how hard each example is drops out, which leaves only how much each one moved.
    """
    return ratio(np.asarray(now, dtype=np.float64) - np.asarray(before, dtype=np.float64), tokens)


def mean(values: np.ndarray) -> Measure:
    """Mean of one number per example, n ≥ 1."""
    return ratio(values, np.ones(len(values))).measure


def share(hits: np.ndarray) -> Measure:
    """Share of hits, each from 0 to 1, [n], n ≥ 1, with the score interval, which holds for shares near 0 and 1 as
    well (Wilson 1927, "Probable inference, the law of succession, and statistical inference"), and is too wide
    rather than too narrow for hits between 0 and 1.
    """
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
