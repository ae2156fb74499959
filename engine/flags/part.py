"""Decide which examples a look scores first, and when it has to score the rest.

A look first scores a part of a suite, the same at every look. The rest is scored in the same look where a detector
hits on the part, or hit at the look before (a flag needs two hits in a row), or where the whole suite might still hit:
unless the chance of that, given what the part says, is below 1%. So what the detectors miss by looking at a part is
bounded, and since scoring less never makes a hit out of none, there are no more false alarms. It is stochastic
curtailment (K. Lan, R. Simon, M. Halperin, "Stochastically curtailed tests in long-term clinical trials", 1982), with
the predictive chance of D. Spiegelhalter et al., "Monitoring clinical trials: conditional or predictive power?", 1986.

Forgetting compares with step 0, where every suite is scored whole. Overfitting compares with the best look so far,
which is known only afterwards; so the first look of every tenth of a run scores the whole held-out suite. Pure.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence

import numpy as np
from scipy.special import ndtri, stdtr

from engine.basics.statistics import TwoPhase, skewed
from engine.flags import forgetting, overfitting
from engine.flags.flag import Level
from engine.flags.history import History, losses
from engine.flags.multiplicity import level_at, standing
from engine.recipe.fields import SAMPLES
from engine.recipe.sections import Flags

CHANCE = 0.01  # of a hit of the whole suite, below which its rest is left out
TENTHS = 10  # of a run
GENERAL = "general"
FLAGS = Flags()  # with the default margins


def choose_part(names: Sequence[str], slices: Sequence[str], count: int) -> np.ndarray:
    """Return which `count` examples a look scores first; bool [examples]. All where `count` is 0 or there are no more.

    `names`: of the document that each example is from, else its id; they decide its fold. Evenly spread over the
    suite's order (that of the content hash), so that each slice, and in each the folds by which overfitting is tested,
    has the share that it has in the suite.
    """
    n = len(names)
    if not 0 < count < n:
        return np.ones(n, dtype=bool)
    folds = overfitting.fold_of(tuple(names))
    order = np.lexsort((np.arange(n), folds, np.array(slices or [""] * n)))
    chosen = np.zeros(n, dtype=bool)
    chosen[order[np.arange(count) * n // count]] = True
    return chosen


def is_whole(suite: str, step: int, last: int, total: int) -> bool:
    """Whether a look scores the whole suite whatever the part says; `last` is the step of the look before."""
    tenth = TENTHS * step // total > TENTHS * last // total
    return step in (0, total) or (suite not in (GENERAL, SAMPLES) and tenth)


def wants_rest(history: History, flags: Flags = FLAGS) -> bool:
    """Whether the last look, which scored a part of the suite, has to score the rest: of `general` for forgetting, of
    any other suite for overfitting.
    """
    lowest: Level = "warn"
    if history.suite == GENERAL:
        # Beyond the soft margin, whatever was gained: a price in proportion is reported, too.
        lowest, hits = "info", forgetting.hits(history, flags.forgetting)
        if standing({level: looks[:-1] for level, looks in hits.items()}) == "critical":
            return False  # there is nothing left to find out
        groups = history.groups()
        margins, level = [flags.forgetting.margins(name)[0] for name in groups], level_at(history.looks)
        estimates = [history.estimate(-1, 0, chosen) for chosen in groups.values()]
    else:
        hits = overfitting.hits(history, margins=flags.overfitting)
        margins, level = [flags.overfitting.warn], level_at(history.looks, overfitting.ALPHA)
        estimates = [_rise(history)]
    return any(hits[lowest][-2:]) or any(
        chance(estimate, margin, level) >= CHANCE for estimate, margin in zip(estimates, margins, strict=True)
    )


def chance(estimate: TwoPhase, margin: float, level: float) -> float:
    """Return the chance that the whole suite, were it scored, would be above `margin` at a level.

    Given the part, its value is distributed around that of the part with the standard deviation of the rest, and it
    hits from margin + z · (its own standard error) on, or less where examples are skewed to the right. The error has no
    more than what the examples say by themselves: if they are of few documents it is larger, and a hit less likely.
    """
    if not np.isfinite(estimate.own):
        return 1.0
    z = skewed(-float(ndtri(level)), max(0.0, estimate.skew))
    missing = margin + z * estimate.own - estimate.value
    if estimate.rest == 0:
        return float(missing < 0)
    return float(stdtr(estimate.df, -missing / estimate.rest))


def _rise(history: History) -> TwoPhase:
    """Estimate the rise from the best look before the last. The best is chosen on all examples, so it errs upwards."""
    best = int(np.argmin(losses(history.nll, history.tokens)[:-1]))
    now, rise = history.estimate(-1), history.change(best, history.looks)
    own = rise.se * float(np.sqrt(history.scored(best, history.looks).mean()))
    return TwoPhase(now.value - history.loss(best), own, now.rest, now.n, now.df, rise.skew)


def replay_looks(history: History, count: int, total: int) -> History:
    """Return a history of `total` steps as it would be had its looks scored `count` examples first.

    `history` has all examples. For the looks that stay partial, `nll` of the rest becomes NaN; the other arrays stay as
    they are.
    """
    chosen = choose_part(history.documents or history.ids, history.slices, count)
    nll = history.nll.copy()
    for look in range(1, len(history.steps)):
        nll[look, ~chosen] = np.nan
        so_far = dataclasses.replace(history, nll=nll).until(look)
        whole = is_whole(history.suite, history.steps[look], history.steps[look - 1], total)
        if whole or (not chosen.all() and wants_rest(so_far)):
            nll[look] = history.nll[look]
    return dataclasses.replace(history, nll=nll)
