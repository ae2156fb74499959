"""The detectors on histories whose truth is known: false flags, power, cause, level, evidence."""

from __future__ import annotations

import dataclasses
import math
import subprocess
import sys

import numpy as np
import pytest

from engine.flags.flag import Context, History, level_at, standing, streak
from engine.flags.forgetting import forgetting
from engine.flags.nan import nan
from engine.flags.overfitting import overfitting

CONTEXT = Context("full", 3e-4, 0.0)
LOOKS = 11  # step 0 and ten evaluations


def history(means, rng, suite="heldout", n=100, noise=0.1, between=1.0) -> History:
    """Losses per token around `means` [looks]: examples differ by `between`, and wander by `noise` a look."""
    tokens = rng.integers(8, 60, n)
    level = 2 + between * rng.standard_normal(n).clip(-1.5, 1.5)
    wander = np.cumsum(noise * rng.standard_normal((len(means), n)), axis=0)
    per_token = level + np.asarray(means)[:, None] + wander - wander[:1]
    steps = tuple(10 * look for look in range(len(means)))
    return History(
        suite, steps, tuple(f"{rng.integers(2**40):x}" for _ in range(n)), per_token * tokens, tokens
    )


def until(whole: History, look: int) -> History:
    """The history as it was at an earlier look."""
    return dataclasses.replace(whole, steps=whole.steps[: look + 1], nll=whole.nll[: look + 1])


def ever(detect, *histories: History) -> list:
    """Every flag that a run would have seen, look by look."""
    looks = range(1, len(histories[0].steps))
    return [flag for look in looks if (flag := detect(*(until(h, look) for h in histories), CONTEXT))]


def falling(to=-1.0):
    return np.linspace(0, to, LOOKS)


def turning(rise=0.5):
    """Down to a best at look 4, then up."""
    return np.concatenate([np.linspace(0, -1, 5), np.linspace(-1, -1 + rise, LOOKS - 4)[1:]])


# ---- forgetting


@pytest.mark.parametrize("drift", [-0.2, 0.0, 0.03, 0.05])
def test_clean_runs_are_rarely_flagged_as_forgetting(drift):
    """At the margin itself is the hardest: at most 5% of runs, over all their looks."""
    rng = np.random.default_rng(0)
    runs = [history(np.minimum(1, np.arange(LOOKS)) * drift, rng, "general") for _ in range(200)]
    assert sum(bool(ever(forgetting, run)) for run in runs) <= 0.05 * len(runs)


def test_a_naive_test_would_flag_what_the_margin_lets_pass():
    rng = np.random.default_rng(0)
    run = history(np.minimum(1, np.arange(LOOKS)) * 0.03, rng, "general", noise=0.01)
    assert run.loss(-1) - run.loss(0) > 0.02
    assert not ever(forgetting, run)


@pytest.mark.parametrize(("loss", "level"), [(0.15, "warn"), (0.4, "critical")])
def test_forgetting_is_found_and_graded(loss, level):
    rng = np.random.default_rng(1)
    runs = [history(np.minimum(1, np.arange(LOOKS)) * loss, rng, "general", noise=0.05) for _ in range(100)]
    flags = [ever(forgetting, run) for run in runs]
    assert sum(bool(found) and found[-1].level == level for found in flags) >= 98


def test_forgetting_needs_two_looks_in_a_row():
    rng = np.random.default_rng(2)
    spike = history([0, 0, 0, 0.5, 0, 0.5, 0, 0.5], rng, "general", noise=0.01)
    assert ever(forgetting, spike) == []
    stays = history([0, 0, 0, 0.5, 0.5], rng, "general", noise=0.01)
    (flag,) = ever(forgetting, stays)
    assert (flag.step, flag.since_step, flag.looks) == (40, 30, 4)


def test_the_evidence_of_forgetting():
    rng = np.random.default_rng(3)
    run = history([0, 0.3, 0.3], rng, "general", noise=0.01)
    run.nll[1:, 7] += 5 * run.tokens[7]
    flag = forgetting(run, CONTEXT)
    assert flag is not None
    assert flag.lo < flag.effect < flag.hi
    assert flag.effect == pytest.approx(run.loss(-1) - run.loss(0))
    assert flag.n == 100
    assert flag.worst[0].id == run.ids[7]
    assert flag.worst[0].after - flag.worst[0].before == pytest.approx(5.3, abs=0.1)
    assert "0.3" in flag.message
    assert [
        word in sentence
        for word, sentence in zip(("1.0e-04", "replay", "lora", "epochs"), flag.advice, strict=True)
    ]


def test_advice_suits_the_method():
    rng = np.random.default_rng(3)
    run = history([0, 0.3, 0.3], rng, "general", noise=0.01)
    flag = forgetting(run, Context("lora", 1e-4, 0.05))
    assert flag is not None
    assert "raise data.replay.ratio to 0.20" in flag.advice[1]
    assert "method.targets" in flag.advice[2]


# ---- overfitting


@pytest.mark.parametrize(
    "means", [falling(), falling(-0.1), np.zeros(LOOKS), falling() * 0 - 0.5 * (np.arange(LOOKS) > 0)]
)
def test_clean_runs_are_rarely_flagged_as_overfitting(means):
    """Falling or flat, with noise that alone makes some look the best: the halves keep luck out."""
    rng = np.random.default_rng(4)
    runs = [(history(means, rng), history(falling(-2), rng, "seen")) for _ in range(200)]
    assert sum(bool(ever(overfitting, *run)) for run in runs) <= 0.05 * len(runs)


@pytest.mark.parametrize("rise", [0.3, 1.0])
def test_overfitting_is_found_within_two_looks_and_told_from_instability(rise):
    rng = np.random.default_rng(5)
    runs = [history(turning(rise), rng, noise=0.05) for _ in range(100)]
    seen = [history(falling(-2), rng, "seen") for _ in runs]
    both_up = [history(turning(rise), rng, "seen", noise=0.05) for _ in runs]
    found = [ever(overfitting, run, other) for run, other in zip(runs, seen, strict=True)]
    unstable = [ever(overfitting, run, other) for run, other in zip(runs, both_up, strict=True)]
    assert sum(bool(flags) and flags[-1].flag == "overfitting" for flags in found) >= 95
    assert sum(bool(flags) and flags[-1].flag == "instability" for flags in unstable) >= 95
    if rise == 1.0:
        assert sum(bool(flags) and flags[0].step <= 70 for flags in found) >= 95


def test_the_evidence_of_overfitting():
    rng = np.random.default_rng(6)
    run, seen = history(turning(0.6), rng, noise=0.01), history(falling(-2), rng, "seen", noise=0.01)
    flag = overfitting(run, seen, CONTEXT)
    assert flag is not None
    assert (flag.level, flag.step, flag.looks, flag.n) == ("critical", 100, 10, 100)
    assert flag.effect == pytest.approx(0.6, abs=0.02)
    assert flag.lo < 0.6 < flag.hi
    assert 40 < flag.since_step < 100
    assert "best at step 40" in flag.message
    assert "train.max_steps=40" in flag.advice[0]


def test_few_examples_or_looks_say_nothing():
    rng = np.random.default_rng(7)
    tiny, seen = history(turning(3), rng, n=3), history(falling(), rng, "seen", n=3)
    assert ever(overfitting, tiny, seen) == []
    one = history([0.0], rng)
    assert overfitting(one, one, CONTEXT) is None
    assert forgetting(one, CONTEXT) is None


# ---- shared parts


def test_levels_of_all_looks_sum_to_alpha():
    assert sum(level_at(look) for look in range(1, 100_000)) == pytest.approx(0.05, rel=1e-3)


def test_standing_and_streak():
    assert standing({"warn": [True], "critical": [True]}) is None
    assert standing({"warn": [False, True, True], "critical": [False, False, True]}) == "warn"
    assert standing({"warn": [True, True], "critical": [True, True]}) == "critical"
    assert standing({"warn": [True, True, False], "critical": [True, True, False]}) is None
    assert [streak([]), streak([False]), streak([True, False, True, True]), streak([True])] == [0, 0, 2, 1]


@pytest.mark.parametrize(
    ("loss", "norm"), [(math.nan, 1.0), (math.inf, 1.0), (2.0, math.nan), (2.0, math.inf)]
)
def test_a_loss_or_gradient_that_is_no_number_is_flagged(loss, norm):
    flag = nan(7, loss, norm, CONTEXT)
    assert flag is not None
    assert (flag.flag, flag.level, flag.step) == ("nan", "critical", 7)


def test_numbers_are_not_flagged():
    assert nan(7, 2.0, 1e6, CONTEXT) is None


def test_the_detectors_import_no_torch():
    code = "import sys, engine.flags.forgetting, engine.flags.overfitting; print('torch' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "False"
