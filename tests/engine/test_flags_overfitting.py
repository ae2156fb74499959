"""Overfitting on histories whose truth is known: false flags, power, cause, harm, evidence."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from flag_runs import CONTEXT, LOOKS, ever, falling, history, turning

from engine.flags.forgetting import forgetting
from engine.flags.overfitting import memorised, overfitting


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
    assert flag.actions[0].command == "fix --scale"
    assert "train.max_steps=40" in flag.advice[1]
    assert flag.actions[1].change == {"train.max_steps": 40}


def test_few_examples_or_looks_say_nothing():
    rng = np.random.default_rng(7)
    tiny, seen = history(turning(3), rng, n=3), history(falling(), rng, "seen", n=3)
    assert ever(overfitting, tiny, seen) == []
    one = history([0.0], rng)
    assert overfitting(one, one, CONTEXT) is None
    assert forgetting(one, CONTEXT) is None


def test_a_first_hit_is_a_leading_sign_only():
    rng = np.random.default_rng(8)
    run = history([0, -1, -1, -0.5], rng, noise=0.01)
    flag = overfitting(run, history([0, -1, -1.5, -2], rng, "seen", noise=0.01), CONTEXT)
    assert flag is not None
    assert (flag.flag, flag.level) == ("overfitting", "watch")


def test_looks_at_some_examples_keep_the_best_step():
    """Every second look scores the first half only; the truth is found all the same."""
    rng = np.random.default_rng(9)
    run, seen = history(turning(0.6), rng, n=200, noise=0.01), history(falling(-2), rng, "seen", noise=0.01)
    run.nll[1::2, 100:] = np.nan
    flag = overfitting(run, seen, CONTEXT)
    assert flag is not None
    assert (flag.flag, flag.n) == ("overfitting", 200)
    assert flag.effect == pytest.approx(0.6, abs=0.02)


# ---- harm


def tempered(run, explained: float, right_after: float, rng):
    """A run of which the share `explained` of any rise since look 4 is gone at temperature 2.

    Half of the tokens are right up to look 4, and the share `right_after` from then on.
    """
    rise = np.maximum(0, run.nll - run.nll[4])
    rise[:5] = 0
    at = {0.5: run.nll + 0.5 * run.tokens, 1.0: run.nll, 2.0: run.nll - explained * rise}
    at[2.0][:5] += 0.2 * run.tokens
    share = np.where(np.arange(LOOKS) <= 4, 0.5, right_after)[:, None]
    return dataclasses.replace(
        run,
        temperatures=tuple(at),
        tempered=np.stack(list(at.values()), axis=1),
        right=rng.binomial(run.tokens, share * np.ones(len(run.tokens))),
    )


def graded(explained, right_after, seed=10, runs=50):
    rng = np.random.default_rng(seed)
    seen = history(falling(-2), rng, "seen", noise=0.01)
    made = [
        tempered(history(turning(0.6), rng, noise=0.05), explained, right_after, rng) for _ in range(runs)
    ]
    return [flag for run in made if (flag := overfitting(run, seen, CONTEXT))]


def test_overconfident_and_not_worse_is_information():
    flags = graded(explained=0.9, right_after=0.51)
    assert sum((flag.flag, flag.level) == ("overconfident", "info") for flag in flags) >= 45
    told = next(flag for flag in flags if flag.level == "info")
    assert "At temperature 2, 90% of the rise is gone" in told.message
    assert "overconfident, not worse" in told.message


@pytest.mark.parametrize(("explained", "right_after"), [(0.4, 0.51), (0.9, 0.42), (0.4, 0.42)])
def test_what_temperature_does_not_explain_is_harm(explained, right_after):
    flags = graded(explained, right_after)
    assert sum((flag.flag, flag.level) == ("overfitting", "critical") for flag in flags) >= 48


def test_without_temperature_1_among_them_a_rise_is_not_explained_by_others_being_worse_before():
    rng = np.random.default_rng(11)
    seen = history(falling(-2), rng, "seen", noise=0.01)
    run = tempered(history(turning(0.25), rng, noise=0.02), 0.0, 0.51, rng)
    beside = np.array(run.temperatures) != 1
    temperatures = tuple(np.array(run.temperatures)[beside])
    run = dataclasses.replace(run, temperatures=temperatures, tempered=run.tempered[:, beside])
    assert overfitting(run, seen, CONTEXT).flag == "overfitting"


def test_a_measure_of_the_task_comes_before_token_accuracy():
    rng = np.random.default_rng(11)
    run = tempered(history(turning(0.6), rng, noise=0.05), 0.9, 0.3, rng)
    seen = history(falling(-2), rng, "seen", noise=0.01)
    assert overfitting(run, seen, CONTEXT).flag == "overfitting"
    better = np.repeat(np.linspace(0, 1, LOOKS)[:, None], 100, axis=1)
    assert overfitting(dataclasses.replace(run, metric=better), seen, CONTEXT).flag == "overconfident"


# ---- memorised


def known(shares, rng):
    run = history(np.linspace(0, -1.8, LOOKS), rng, "seen", noise=0.01)
    return dataclasses.replace(run, right=np.round(np.array(shares)[:, None] * run.tokens).astype(int))


def test_what_is_known_by_heart_is_information():
    rng = np.random.default_rng(12)
    run = known([0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 0.98, 1, 1, 1, 1], rng)
    flag = memorised(run, CONTEXT)
    assert flag is not None
    assert (flag.flag, flag.level, flag.since_step, flag.effect) == ("memorised", "info", 70, 1.0)
    assert memorised(run.until(7), CONTEXT) is None
    assert memorised(history(falling(), rng, "seen"), CONTEXT) is None


# ---- cause


@pytest.mark.parametrize(
    ("seen_rise", "noise", "flag", "words"),
    [
        (0.3, 0.01, "instability", "rose too"),
        (-0.3, 0.01, "overfitting", "did not rise"),
        (0.05, 0.6, "instability", "the cause is not known"),
        (-0.05, 0.6, "overfitting", "the cause is not known"),
    ],
)
def test_no_evidence_of_a_rise_is_no_evidence_of_none(seen_rise, noise, flag, words):
    rng = np.random.default_rng(13)
    run = history(turning(0.6), rng, noise=0.01)
    seen = history(np.zeros(LOOKS), rng, "seen", noise=0.0)
    scatter = noise * rng.standard_normal(100) * seen.tokens
    scatter += seen.tokens * (seen_rise - scatter.sum() / seen.tokens.sum())
    seen.nll[-1] += scatter
    found = overfitting(run, seen, CONTEXT)
    assert found.flag == flag
    assert words in found.message
