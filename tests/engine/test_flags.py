"""Forgetting and what all detectors share, on histories whose truth is known: false flags, power, evidence."""

from __future__ import annotations

import dataclasses
import math
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from flag_runs import CONTEXT, LOOKS, ever, history, jumping

from engine import flags
from engine.flags.forgetting import divergence, flipped, forgetting
from engine.flags.multiplicity import holm, level_at, standing, streak
from engine.flags.nan import nan

# ---- forgetting


@pytest.mark.parametrize("drift", [-0.2, 0.0, 0.05, 0.1])
def test_clean_runs_are_rarely_flagged_as_forgetting(drift):
    """At the margin itself is the hardest: at most 5% of runs, over all their looks."""
    rng = np.random.default_rng(0)
    runs = [history(jumping(drift), rng, "general") for _ in range(200)]
    assert sum(bool(ever(forgetting, run)) for run in runs) <= 0.05 * len(runs)


def test_a_naive_test_would_flag_what_the_margin_lets_pass():
    rng = np.random.default_rng(0)
    run = history(jumping(0.03), rng, "general", noise=0.01)
    assert run.loss(-1) - run.loss(0) > 0.02
    assert not ever(forgetting, run)


@pytest.mark.parametrize(("loss", "level"), [(0.2, "warn"), (0.5, "critical")])
def test_forgetting_is_found_and_graded(loss, level):
    rng = np.random.default_rng(1)
    runs = [history(jumping(loss), rng, "general", noise=0.05) for _ in range(100)]
    flags = [ever(forgetting, run) for run in runs]
    assert sum(bool(found) and found[-1].level == level for found in flags) >= 98


def test_forgetting_needs_two_looks_in_a_row():
    rng = np.random.default_rng(2)
    spike = history([0, 0, 0, 0.5, 0, 0.5, 0, 0.5], rng, "general", noise=0.01)
    assert ever(forgetting, spike) == []
    stays = history([0, 0, 0, 0.5, 0.5], rng, "general", noise=0.01)
    (flag,) = ever(forgetting, stays)
    assert (flag.step, flag.since_step, flag.looks) == (40, 30, 4)


def test_a_first_hit_is_a_leading_sign_only():
    rng = np.random.default_rng(2)
    flag = forgetting(history([0, 0, 0, 0.5], rng, "general", noise=0.01), CONTEXT)
    assert flag is not None
    assert (flag.level, flag.since_step) == ("watch", 30)
    assert "An early sign only" in flag.message


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
    assert flag.advice == tuple(action.text for action in flag.actions)
    assert (flag.slice, flag.lost, flag.gained, flag.forecast) == ("", None, None, None)


def sliced(means: dict[str, float], rng, n=100):
    """A suite of several slices, each at its own level from the first look on."""
    parts = {name: history(jumping(to), rng, "general", n, noise=0.05) for name, to in means.items()}
    first = next(iter(parts.values()))
    return dataclasses.replace(
        first,
        ids=tuple(id for part in parts.values() for id in part.ids),
        nll=np.concatenate([part.nll for part in parts.values()], axis=1),
        tokens=np.concatenate([part.tokens for part in parts.values()]),
        slices=tuple(name for name, part in parts.items() for _ in part.ids),
    )


def test_a_slice_that_is_hit_alone_is_named():
    rng = np.random.default_rng(4)
    runs = [sliced({"own": 0.2, "prose": -0.1, "code": -0.1}, rng) for _ in range(50)]
    found = [ever(forgetting, run) for run in runs]
    assert sum(bool(flags) and flags[0].slice == "own" and flags[0].n == 100 for flags in found) >= 49
    assert "in the slice own" in found[0][0].message


def test_a_drift_of_all_slices_is_told_of_the_suite():
    rng = np.random.default_rng(5)
    flags = ever(forgetting, sliced({"own": 0.2, "prose": 0.2, "code": 0.2}, rng))
    assert (flags[-1].slice, flags[-1].n) == ("", 300)
    assert "code, own, prose of 3" in flags[-1].message


def test_slices_share_one_chance_of_a_false_alarm():
    """All slices at the margin: at most 5% of runs are flagged, by whatever slice."""
    rng = np.random.default_rng(6)
    runs = [sliced(dict.fromkeys(("a", "b", "c"), 0.1), rng, n=30) for _ in range(100)]
    assert sum(bool(ever(forgetting, run)) for run in runs) <= 5


def test_a_look_at_some_examples_is_compared_with_the_same_ones():
    """The small set is the first half; at the last two looks all are scored, and only the second half forgot."""
    rng = np.random.default_rng(7)
    run = history(jumping(0.0), rng, "general", n=200, noise=0.01)
    run.nll[-2:, 100:] += run.tokens[100:]
    run.nll[1:-2, 100:] = np.nan
    assert ever(forgetting, run.until(LOOKS - 3)) == []
    flag = forgetting(run, CONTEXT)
    assert flag is not None
    assert (flag.n, flag.level) == (200, "critical")
    assert flag.effect == pytest.approx(run.tokens[100:].sum() / run.tokens.sum(), abs=0.02)


def flipping(lose, gain, rng, n=100):
    run = history([0, 0.3, 0.3], rng, "general", n, noise=0.01)
    counts = {"lost": lose, "gained": gain}
    arrays = {k: np.stack([np.zeros(n, dtype=int), *(rng.poisson(v, (2, n)))]) for k, v in counts.items()}
    return dataclasses.replace(run, **arrays)


def test_flips_are_told_with_a_test_of_their_own():
    rng = np.random.default_rng(8)
    run = flipping(2.0, 0.5, rng)
    flips, flag = flipped(run), forgetting(run, CONTEXT)
    assert flips is not None
    assert flag is not None
    assert flips.p < 1e-6
    assert (flag.lost, flag.gained) == (run.lost[-1].sum(), run.gained[-1].sum())
    assert f"{flag.lost} that the base model had right are wrong now" in flag.message


def test_the_test_of_flips_keeps_its_level():
    rng = np.random.default_rng(9)
    runs = [flipping(1.0, 1.0, rng) for _ in range(400)]
    assert sum(flipped(run).p < 0.05 for run in runs) == pytest.approx(20, abs=12)


def test_kl_is_told_where_it_was_measured():
    rng = np.random.default_rng(10)
    run = history([0, 0.3, 0.3], rng, "general", noise=0.01)
    kl = np.full(run.nll.shape, np.nan)
    assert divergence(dataclasses.replace(run, kl=kl)) is None
    kl[-1, :20] = 0.4
    run = dataclasses.replace(run, kl=kl)
    assert divergence(run).value == pytest.approx(0.4)
    assert (
        "The KL divergence from the base model's predictions is 0.400 nats per token"
        in forgetting(run, CONTEXT).message
    )


# ---- shared parts


def test_levels_of_every_second_look_sum_to_less_than_alpha():
    """Two hits in a row are one at an even look."""
    assert 0.04 < sum(level_at(look) for look in range(2, 64, 2)) < 0.05


def test_holm_stops_at_the_first_that_is_not_rejected():
    assert holm({"a": 0.001, "b": 0.02, "c": 0.04}, 0.05) == {"a": True, "b": True, "c": True}
    assert holm({"a": 0.001, "b": 0.03, "c": 0.04}, 0.05) == {"a": True, "b": False, "c": False}
    assert holm({"": 0.04}, 0.05) == {"": True}


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
    names = [path.stem for path in Path(flags.__file__).parent.glob("[a-z]*.py")]
    imports = ", ".join(f"engine.flags.{name}" for name in names)
    code = f"import sys, {imports}; print('torch' in sys.modules)"
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert result.stdout.strip() == "False"
