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


def change(
    before: np.ndarray, now: np.ndarray, tokens: np.ndarray, documents: np.ndarray | None = None
) -> Estimate:
    """Change of the loss per token between two evaluations of the same examples (nll sums, nats, [n]).

    Paired: how hard each example is drops out, which leaves only how much each one moved.
    """
    return ratio(np.asarray(now, dtype=np.float64) - np.asarray(before, dtype=np.float64), tokens, documents)


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
