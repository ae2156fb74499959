"""A small part of benchmarks/flag_simulation.py: the rates that the flags keep, and what their intervals hold."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from benchmarks import flag_simulation as simulation
from benchmarks.flag_simulation import RISES, Regime, at, coverage, flat, hump, plateau, rate, rising, turning
from engine.basics.statistics import change, ratio
from engine.flags import forgetting, overfitting, power
from engine.flags.multiplicity import level_at

MARGIN = forgetting.MARGINS["warn"]


@pytest.mark.parametrize(
    "regime",
    [
        Regime("flat", flat, 30, 21),
        Regime("plateau", plateau, 100, 21),
        Regime("wobble of the whole model", flat, 100, 41, wobble=0.01),
        Regime("warm-up bump", hump(0.05, 0, 0.1), 100, 41),
        Regime("forgetting at the margin", at(MARGIN), 60, 21, suite="general"),
        Regime("a few long texts", at(MARGIN), 100, 21, lengths="mixed", suite="general"),
        Regime("few documents", at(MARGIN), 100, 21, documents=10, alike=0.3, suite="general"),
    ],
    ids=lambda regime: regime.name,
)
def test_sane_runs_are_rarely_warned_of(regime):
    assert rate(regime, 60) <= 0.05


@pytest.mark.parametrize(
    "regime",
    [
        replace(RISES, name="30 rows", n=30, looks=11),
        replace(RISES, name="60 rows", n=60, looks=21),
        Regime("a slow rise", rising(0.06), 300, 41, 0.15),
        replace(RISES, name="a rise of a model that wobbles", looks=41, wobble=0.005),
    ],
    ids=lambda regime: regime.name,
)
def test_a_rise_is_seen(regime):
    assert rate(regime, 60) >= 0.8


@pytest.mark.parametrize(
    "regime",
    [
        Regime("a few long texts", at(0.05), 100, 2, wander=0, scatter=1, lengths="mixed"),
        Regime("few documents", at(0.05), 200, 2, wander=0, scatter=1, documents=10, alike=0.3),
        Regime("askew to the left", at(0.05), 60, 2, wander=1, scatter=0, shape="left"),
    ],
    ids=lambda regime: regime.name,
)
def test_intervals_hold_the_truth(regime):
    holds, _ = coverage(regime, 2000)
    assert 0.93 <= holds <= 0.99


def test_without_documents_an_interval_is_too_narrow():
    """So that the test above would fail without them."""
    regime = Regime("few documents", at(0.05), 200, 2, wander=0, scatter=1, documents=10, alike=0.3)
    runs = [simulation.make(regime, np.random.default_rng(seed)) for seed in range(300)]
    intervals = [replace(run, documents=()).change(0, 1).interval() for run in runs]
    assert np.mean([lo <= 0.05 <= hi for lo, hi in intervals]) < 0.8


def test_a_document_is_one_draw():
    """Rows of one document, joined to one row, give the same estimate; its number of rows apart."""
    rng = np.random.default_rng(0)
    sums, tokens, of = rng.normal(size=30), rng.integers(5, 50, 30), rng.integers(0, 7, 30)
    joined = ratio(np.bincount(of, sums), np.bincount(of, tokens))
    assert replace(ratio(sums, tokens, of), n=7) == joined
    assert ratio(sums, tokens, np.zeros(30, dtype=int)).interval() == (-np.inf, np.inf)


def test_equal_lengths_have_one_degree_of_freedom_less_than_rows():
    sums = np.array([1.0, 2.0, 3.0, 5.0])
    assert ratio(sums, np.full(4, 10)).df == pytest.approx(3)
    assert ratio(sums, np.array([10, 10, 10, 1000])).df == pytest.approx(1)  # the least


def test_an_interval_is_where_the_test_says_so():
    """The ends of the 95% interval are what a one-sided test at 2.5% just rejects, on both sides."""
    rng = np.random.default_rng(1)
    before, tokens = rng.exponential(size=40) * 20, rng.integers(5, 50, 40)
    estimate = change(before, before + rng.exponential(size=40) * 3 - 5, tokens)
    lo, hi = estimate.interval()
    assert abs(estimate.skew) > 0.05
    assert estimate.p_above(lo) == pytest.approx(0.025)
    assert estimate.negative.p_above(-hi) == pytest.approx(0.025)


def test_what_n_rows_cannot_show():
    """At the smallest effect a look hits in 80% of runs."""
    rng = np.random.default_rng(2)
    n, looks, sd = 40, 20, 0.4
    least = power.smallest("general", n, looks, sd)
    moved = least + sd * rng.standard_normal((4000, n))
    hits = [ratio(row, np.ones(n)).p_above(MARGIN) < level_at(looks) for row in moved]
    assert 0.75 <= np.mean(hits) <= 0.82  # a little less, for skewness that chance shows
    estimate = ratio(moved[0], np.ones(n))
    assert power.sd_of(*replace(estimate, skew=0.0).interval(), n) == pytest.approx(moved[0].std(ddof=1))
    assert power.smallest("general", 1, looks) == np.inf
    assert power.smallest("heldout", 30, 20) < power.smallest("heldout", 20, 20)


def test_a_rise_is_the_same_whether_looks_are_whole_or_marked_so():
    """The quick way for whole looks and the one for looks in part choose the same best look."""
    run = simulation.make(Regime("turning", turning(0.3), 60, 11), np.random.default_rng(3))
    whole = overfitting.rise_at(run, 10)
    nll = run.nll.copy()
    nll[7, 5] = np.nan  # in no way the best
    part = overfitting.rise_at(replace(run, nll=nll), 10)
    assert np.array_equal(whole.best, part.best)
    assert whole.estimate == part.estimate
