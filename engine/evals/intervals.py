"""How sure a mean loss is: intervals and paired changes over examples.

A suite's loss is the sum of its examples' losses over the sum of their tokens, so an interval must take
the examples as the unit that was drawn, not the tokens: tokens of one example go together. This is the
ratio estimator with linearised variance (Cochran, Sampling Techniques, 3rd ed. 1977, section 6.4):

    R = sum(y) / sum(x),  se = sqrt(n / (n - 1) * sum((y - R x)^2)) / sum(x)

with Student's t on n - 1 degrees of freedom. Pure functions of numpy arrays.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import stdtr, stdtrit


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

    def p_above(self, margin: float) -> float:
        """p-value of the one-sided test that the true value is not above `margin`."""
        if self.n < 2:
            return 1.0
        if self.se == 0:
            return 0.0 if self.value > margin else 1.0
        return float(stdtr(self.n - 1, -(self.value - margin) / self.se))


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
