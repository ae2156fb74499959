"""The ratio estimator: a mean per token of examples, with its interval. `engine.basics.statistics` has why.

Here, since a program that logs its examples gets the same interval as our own runs. NumPy and SciPy alone.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Measure:
    """A result with its 95% interval, where it has one (else infinite)."""

    value: float
    lo: float
    hi: float
    n: int  # examples
    higher_is_better: bool | None = None  # None: as its name says


@dataclass(frozen=True)
class Estimate:
    """A ratio of sums with its standard error; `se` is infinite for fewer than two examples or documents."""

    value: float
    se: float
    n: int  # examples
    df: float  # degrees of freedom
    skew: float = 0.0  # of the estimate: that of the examples over the root of their number, from -1 to 1

    def interval(self, level: float = 0.95) -> tuple[float, float]:
        """Two-sided interval; (-inf, inf) for fewer than two examples or documents."""
        if not np.isfinite(self.se):
            return -np.inf, np.inf
        from scipy.special import stdtrit  # here and below: commands import this module, too

        t = float(stdtrit(self.df, (1 + level) / 2))
        below, above = skewed(t, min(0.0, self.skew)), skewed(-t, max(0.0, self.skew))
        return self.value - self.se * below, self.value - self.se * above

    @property
    def negative(self) -> Estimate:
        """The estimate of the opposite: of a fall where this one is of a rise."""
        return Estimate(-self.value, self.se, self.n, self.df, -self.skew)

    @property
    def measure(self) -> Measure:
        return Measure(self.value, *self.interval(), self.n)

    def p_above(self, margin: float) -> float:
        """p-value of the one-sided test that the true value is not above `margin`."""
        if not np.isfinite(self.se):
            return 1.0
        if self.se == 0:
            return 0.0 if self.value > margin else 1.0
        from scipy.special import stdtr

        return float(stdtr(self.df, -_straight((self.value - margin) / self.se, min(0.0, self.skew))))


def ratio(sums: np.ndarray, tokens: np.ndarray, documents: np.ndarray | None = None) -> Estimate:
    """Mean per token of examples with totals `sums` over `tokens`, both float or int [n], n ≥ 1.

    `documents`: from which document each example is, int64 [n], small numbers; None: each is a draw of its own.
    """
    return ratios(np.asarray(sums)[None], tokens, documents)[0]


def ratios(sums: np.ndarray, tokens: np.ndarray, documents: np.ndarray | None = None) -> list[Estimate]:
    """Means per token of the same examples several times, as by `ratio`; `sums` float or int [times, n], n ≥ 1."""
    y, x = np.asarray(sums, dtype=np.float64), np.asarray(tokens, dtype=np.float64)
    n = len(x)
    if documents is not None:
        member = np.zeros((n, int(documents.max()) + 1))
        member[np.arange(n), documents] = 1.0
        y, x = y @ member, x @ member
    total = float(x.sum())
    values = y.sum(axis=1) / total
    kish = total**2 / float(x @ x)
    if kish < 1 + 1e-9:  # one example or document
        return [Estimate(float(value), np.inf, n, 1.0) for value in values]
    residuals = y - values[:, None] * x
    squares = np.einsum("ij,ij->i", residuals, residuals)
    cubes = np.einsum("ij,ij,ij->i", residuals, residuals, residuals)
    skews = cubes / np.where(squares > 0, squares, 1.0) ** 1.5
    errors, df = np.sqrt(kish / (kish - 1) * squares) / total, max(1.0, kish - 1)
    return [
        Estimate(value, error, n, df, skew)
        for value, error, skew in zip(values.tolist(), errors.tolist(), skews.tolist(), strict=True)
    ]


def _straight(t: float, skew: float) -> float:
    """Return t without the skewness of the estimate: Hall's transform, for a mean of n it is

        t + g t² / (3 √n) + g² t³ / (27 n) + g / (6 √n)

    with g / √n = `skew`. It grows with t, so that it can be inverted.
    """
    return t + skew * t**2 / 3 + skew**2 * t**3 / 27 + skew / 6


def skewed(t: float, skew: float) -> float:
    """Invert `_straight`: (1 + skew t / 3)³ = 1 + skew (t' - skew / 6)."""
    if abs(skew) < 1e-9:
        return t
    return float(3 / skew * (np.cbrt(1 + skew * (t - skew / 6)) - 1))
