"""Forecast forgetting at the end of the run from its growth so far.

The drift is modelled as a power of the work done: d = a W^b. Work is the learning rate summed over the steps, not
their number: as a schedule falls to its floor, steps move the weights less, and a fit on steps then promises a
rise that does not come.

Drift is no exact power law: the exponent wanders, as a random walk in log W, so that the log of d strays from the
present power law by the walk's integral, whose standard deviation after log W has changed by x is WANDER · x^1.5 / √3.
Looks count the less the farther back they are, and the end is the less sure the farther off it is.

The fit is on d itself, not on log d: small values may be negative, and leaving those out would bias the rest
upwards. For each exponent of a grid, a is the weighted least-squares estimate; the exponents are weighed by how
well they fit and by a weak prior. To what this mixture says, two errors are added that the looks cannot show:
the sampling error that all looks share (they score the same examples), and how the exponent will wander.
"""

from __future__ import annotations

import numpy as np
from scipy.special import ndtri, stdtrit

from engine.flags.flag import Forecast
from engine.flags.history import Context, History

FROM = 0.25  # of the run
FEWEST = 3  # looks
# Between the square root of a random walk and the square of a base model at its optimum; most runs saturate, and what
# the first steps have broken may mend.
EXPONENTS = np.linspace(-1, 2.5, 43)
PRIOR_MEAN, PRIOR_SD = 0.75, 0.5
WANDER = 0.6
# How far a look lies from the drift: the loss of the whole model wobbles, and part of the sampling error is not shared
# with the other looks, which score the same examples.
WOBBLE, OWN = 0.003, 0.3  # nats per token; share of the standard error
PRIOR_LOOKS = 2.0  # that this guess is worth
_SHARES = (np.arange(15) + 0.5) / 15
_NODES = ndtri(_SHARES)  # of a standard normal, equally likely


def forecast(history: History, context: Context, chosen: np.ndarray | None = None) -> Forecast | None:
    """Forecast the mean rise from step 0 at the run's last step, with an 80% interval; None where it is too early.

    `chosen`: bool [examples], all if None. Needs `context.rates`.
    """
    last = history.steps[-1]
    if context.rates is None or not FROM * len(context.rates) <= last < len(context.rates):
        return None
    done = np.concatenate([[0.0], np.cumsum(context.rates)])
    work = done[list(history.steps)] / done[-1]
    if len(work) <= FEWEST:
        return None
    value, lo, hi = _extrapolate(work[1:], *_drift(history, chosen))
    return Forecast(len(context.rates), value, lo, hi)


def _drift(history: History, chosen: np.ndarray | None) -> tuple[np.ndarray, np.ndarray]:
    """Return the mean rise from step 0 and its standard error, each float [looks]."""
    estimates = [history.estimate(look, 0, chosen).estimate for look in range(1, len(history.steps))]
    return np.array([e.value for e in estimates]), np.array([e.se for e in estimates])


def _extrapolate(work: np.ndarray, drift: np.ndarray, se: np.ndarray) -> tuple[float, float, float]:
    """Return (median, 10% and 90% quantile) of the drift at work 1, from that at `work` (below 1); float [looks]."""
    shape = work[:, None] ** EXPONENTS  # [looks, exponents]
    strayed = np.abs(drift[-1]) * _straying(np.log(work[-1] / work))
    weight = 1 / (WOBBLE**2 + (OWN * se) ** 2 + strayed**2)[:, None]
    gram = (weight * shape**2).sum(axis=0)
    slope = (weight * shape * drift[:, None]).sum(axis=0) / gram
    misfit = (weight * (drift[:, None] - slope * shape) ** 2).sum(axis=0)
    freedom = PRIOR_LOOKS + len(work) - 1
    noise = (PRIOR_LOOKS + misfit) / freedom  # how much larger the scatter is than guessed
    prior = ((EXPONENTS - PRIOR_MEAN) / PRIOR_SD) ** 2
    # The scatter integrated out: Student's likelihood.
    log_weight = -0.5 * (freedom + 1) * np.log(noise) - 0.5 * np.log(gram) - 0.5 * prior
    weights = np.exp(log_weight - log_weight.max())

    # At work 1, d = a: the power is 1 whatever the exponent.
    own = np.sqrt(noise / gram)[:, None] * stdtrit(freedom, _SHARES)
    shared = se[-1] * np.maximum(1.0, np.abs(slope) / max(abs(drift[-1]), se[-1]))
    bend = np.exp(_straying(-np.log(work[-1])) * _NODES)
    level = slope[:, None, None] + own[:, :, None] + (shared[:, None] * _NODES)[:, None, :]
    values = (level[..., None] * bend).reshape(-1)  # [exponents, nodes, nodes, nodes], flat
    mass = np.repeat(weights, len(_NODES) ** 3)
    order = np.argsort(values)
    below = np.cumsum(mass[order]) / mass.sum()
    lo, value, hi = (float(values[order][np.searchsorted(below, q)]) for q in (0.1, 0.5, 0.9))
    return value, lo, hi


def _straying(logs: np.ndarray) -> np.ndarray:
    """Return the standard deviation of log d from the present power law, so far away in log W; float, same shape."""
    return WANDER * logs**1.5 / np.sqrt(3)
