"""Jumps, standstill, answers and leaks: the detectors that look at other things than a drift."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest
from flag_runs import CONTEXT, LOOKS, ever, falling, history

from engine.data.overlap import Leak
from engine.flags.history import Context
from engine.flags.instability import back_to_normal, instability
from engine.flags.leak import leak
from engine.flags.progress import converged, dead, no_gradient
from engine.flags.template import Answers, repeats, template

# ---- instability


def training(rng, steps=200, noise=0.15):
    """Losses that fall from 4 to 2, and gradient norms around 1."""
    return 2 + 2 * np.exp(-np.arange(steps) / 40) + noise * rng.standard_normal(steps), np.exp(
        0.3 * rng.standard_normal(steps)
    )


def test_noisy_training_is_not_flagged():
    rng = np.random.default_rng(0)
    for _ in range(10):
        losses, norms = training(rng, noise=0.3)
        assert not any(instability(losses[:k], norms[:k], 1, CONTEXT) for k in range(3, len(losses) + 1, 5))


@pytest.mark.parametrize(("to", "level"), [(3.5, "warn"), (9.0, "critical")])
def test_a_loss_that_jumps_and_stays_is_flagged(to, level):
    losses, norms = training(np.random.default_rng(1))
    losses[150:] = to
    flag = instability(losses[:153], norms[:153], 1, CONTEXT)
    assert flag is not None
    assert (flag.flag, flag.level, flag.step, flag.since_step) == ("instability", level, 153, 151)
    assert flag.effect == pytest.approx(to - 2.05, abs=0.15)
    assert "train.lr" in flag.actions[0].change


def test_one_spike_is_information_and_soon_forgotten():
    losses, norms = training(np.random.default_rng(2))
    losses[150] = 6
    assert instability(losses[:151], norms[:151], 1, CONTEXT).level == "info"
    assert instability(losses[:160], norms[:160], 1, CONTEXT) is None


def mixture(rng, steps=200, hard=0.05):
    """One step in twenty has a hard row, two nats above the others, which are all alike."""
    losses = 2 + 0.02 * rng.standard_normal(steps)
    return losses + (rng.uniform(size=steps) < hard) * (2 + 0.2 * rng.standard_normal(steps))


def test_a_narrow_mixture_of_easy_and_hard_rows_is_no_instability():
    rng, warned = np.random.default_rng(4), 0
    for _ in range(40):
        losses = mixture(rng)
        flags = [instability(losses[:k], np.ones(k), 1, CONTEXT) for k in (20, 40, *range(60, 201, 20))]
        warned += any(flag and flag.level != "info" for flag in flags)
    assert warned <= 2


@pytest.mark.parametrize("make", [lambda rng: training(rng)[0], mixture])
@pytest.mark.parametrize(("to", "steps", "level"), [(9.0, 2, "warn"), (5.5, 3, "critical")])
def test_a_loss_that_leaves_what_was_seen_is_caught_at_once(make, to, steps, level):
    losses = make(np.random.default_rng(5))
    losses[150:] = to
    flag = instability(losses[: 150 + steps], np.ones(150 + steps), 1, CONTEXT)
    assert flag is not None
    assert flag.level == level


def test_a_warning_stands_until_the_loss_has_come_back():
    losses, norms = training(np.random.default_rng(6))
    losses[150:170] = 3.5
    assert instability(losses[:170], norms[:170], 1, CONTEXT) is None, "no step has jumped lately"
    flag = instability(losses[:170], norms[:170], 1, CONTEXT, since_step=151)
    assert flag is not None
    assert (flag.level, flag.since_step, flag.step) == ("warn", 151, 170)
    assert flag.effect == pytest.approx(1.45, abs=0.15)
    assert "has not come back since it jumped at step 151" in flag.message
    assert instability(losses[:190], norms[:190], 1, CONTEXT, since_step=151) is None
    assert "it was 2.0" in back_to_normal(losses[:190], norms[:190], 1, 151)


def test_exploding_gradients_are_flagged():
    losses, norms = training(np.random.default_rng(3))
    norms[150:152] = 40
    flag = instability(losses[:152], norms[:152], 101, CONTEXT)
    assert flag is not None
    assert (flag.level, flag.step, flag.since_step) == ("warn", 252, 251)
    assert "gradient norm" in flag.message


# ---- standstill


def test_a_run_without_gradient_is_dead():
    assert no_gradient(np.zeros(4), 4, CONTEXT) is None
    assert no_gradient(np.array([0, 0, 0, 0, 1e-9]), 5, CONTEXT) is None
    flag = no_gradient(np.zeros(5), 5, CONTEXT)
    assert flag is not None
    assert (flag.flag, flag.level, flag.since_step) == ("dead", "critical", 1)


def test_a_run_that_learns_nothing_is_dead():
    rng = np.random.default_rng(4)
    still = history(np.zeros(LOOKS), rng, "seen", noise=0.001)
    flags = ever(dead, still)
    assert (flags[0].flag, flags[0].level, flags[0].step) == ("dead", "warn", 30)
    assert flags[0].actions[0].change == {"train.lr": pytest.approx(3e-3)}


def test_a_run_that_learns_or_says_too_little_is_not_dead():
    rng = np.random.default_rng(5)
    assert ever(dead, history(falling(-0.2), rng, "seen", noise=0.001)) == []
    # Unchanged on average, but too noisy to claim that nothing happened.
    assert ever(dead, history(np.zeros(LOOKS), rng, "seen", noise=0.3)) == []


def settling(rng, noise=0.002):
    return history([0, -0.5, -0.9, -1, *[-1.0] * 7], rng, noise=noise)


def test_a_run_that_converged_long_ago_is_told():
    flag = converged(settling(np.random.default_rng(6)), CONTEXT)
    assert flag is not None
    assert (flag.flag, flag.level, flag.since_step) == ("converged", "info", 30)
    assert flag.actions[0].change == {"train.max_steps": 30}


def test_a_run_that_still_learns_has_not_converged():
    rng = np.random.default_rng(7)
    context = Context("full", 3e-4, 0.0, rates=np.ones(100))
    assert ever(converged, history(falling(-0.3), rng, noise=0.002)) == []
    assert ever(converged, history(np.zeros(LOOKS), rng, noise=0.002)) == []  # never learned anything
    assert ever(converged, settling(rng, noise=0.2)) == []
    early = settling(rng)
    assert converged(dataclasses.replace(early, steps=tuple(range(LOOKS))), context) is None


# ---- answers


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a a a a a a a a", True),
        ("It returns the value. It returns the value. It returns the value.", True),
        ("Return the name of the file that was opened, or None if there is none.", False),
        ("no no no", False),
        ("The list holds 1, 1, 1 and then a lot of other words that differ from each other.", False),
        ("", False),
    ],
)
def test_repetition(text, expected):
    assert repeats(text) is expected


def answers(step, ended, texts=None, fits=None):
    return Answers(step, tuple(texts or ["some words"] * len(ended)), tuple(ended), fits)


def test_answers_that_never_end_are_flagged_at_the_second_look():
    looks = [answers(0, [False] * 8), answers(30, [False] * 8), answers(60, [False] * 8)]
    assert template(looks[:2], 100) is None
    flag = template(looks, 100)
    assert flag is not None
    assert (flag.flag, flag.level, flag.since_step, flag.effect, flag.n) == ("endless", "warn", 30, 0.0, 8)
    assert flag.hi == pytest.approx(1 - 0.025 ** (1 / 8))


def test_answers_that_end_or_could_not_are_not_flagged():
    some = [answers(30, [False] * 7 + [True]), answers(60, [False] * 7 + [True])]
    assert template(some, 100) is None
    too_short = [answers(step, [False] * 8, fits=(False,) * 8) for step in (30, 60)]
    assert template(too_short, 100) is None
    assert template([Answers(step, ("word",) * 8) for step in (30, 60)], 100) is None
    early = [answers(step, [False] * 8) for step in (0, 5, 10)]
    assert template(early, 100) is None


def test_answers_that_repeat_themselves_are_flagged():
    texts = ["the the the the the the"] * 3 + ["a sentence of quite different words, all in all"]
    flag = template([answers(step, [True] * 4, texts) for step in (30, 60)], 100)
    assert flag is not None
    assert (flag.flag, flag.effect) == ("repeating", 0.75)
    assert flag.lo < 0.75 < flag.hi
    half = [answers(step, [True] * 4, [*texts[:2], "quite different", "words"]) for step in (30, 60)]
    assert template(half, 100) is None, "2 of 4 may be chance"


# ---- leak


def hit(id, kind="exact"):
    return Leak(kind, "heldout", id, (1,), "train.jsonl", (1,), 1.0, "", "")


def test_a_leak_is_told_before_the_run_with_its_kinds():
    ids = [f"{i}" for i in range(200)]
    assert leak("heldout", ids, [hit("elsewhere")], ids) is None
    hits = [hit("1"), hit("2"), hit("3", "13-gram"), hit("elsewhere")]
    flag = leak("heldout", ids, hits, [id for id in ids if id not in ("1", "2")])
    assert flag is not None
    assert (flag.level, flag.n, flag.effect, flag.step, flag.looks) == ("warn", 200, 0.015, 0, 0)
    assert flag.message == (
        "3 of 200 held-out rows overlap with training data (1.5%: 2 exact, 1 by 13 words). 2 are not scored, "
        "1 is scored, since it need not be a copy."
    )
    assert leak("heldout", ids, [hit("1")], ids).level == "info"
    assert leak("heldout", ids, [hit(id) for id in ids[:20]], ids).level == "critical"


def test_a_leak_is_told_with_results_with_and_without():
    rng = np.random.default_rng(8)
    run = history(falling(-0.5), rng, noise=0.01)
    run.nll[-1, :20] -= 1.0 * run.tokens[:20]
    flag = leak("heldout", run.ids, [hit(id) for id in run.ids[:20]], run.ids, run)
    assert flag is not None
    share = run.tokens[:20].sum() / run.tokens.sum()
    assert flag.effect == pytest.approx(share, abs=0.02)
    assert flag.lo < flag.effect < flag.hi
    without = run.nll[-1, 20:].sum() / run.tokens[20:].sum()
    assert f"{run.loss(-1):.3f} with them and {without:.3f} without" in flag.message


def test_words_in_common_leak_once_the_results_show_it_twice():
    rng = np.random.default_rng(8)
    run = history(falling(-0.5), rng, noise=0.01)
    hits = [hit(id, "13-gram") for id in run.ids[:20]]
    calm = leak("heldout", run.ids, hits, run.ids, run)
    assert (calm.level, "need not be copies" in calm.message) == ("info", True)
    run.nll[-1, :20] -= 1.0 * run.tokens[:20]
    assert leak("heldout", run.ids, hits, run.ids, run).level == "info", "a first hit is not shown yet"
    run.nll[-2, :20] -= 1.0 * run.tokens[:20]
    flag = leak("heldout", run.ids, hits, run.ids, run)
    assert (flag.level, "They are scored." in flag.message) == ("critical", True)


def test_a_single_row_has_no_interval_and_so_its_effect_is_a_share():
    run = history(falling(-0.5), np.random.default_rng(9))
    flag = leak("heldout", run.ids, [hit(run.ids[3], "13-gram")], run.ids, run)
    assert (flag.effect, np.isnan(flag.lo)) == (0.01, True)
    assert "interval" not in flag.message
    assert "with them and" in flag.message


def test_rows_that_were_not_scored_are_told_as_such():
    run = history(falling(-0.5), np.random.default_rng(9))
    flag = leak("heldout", [*run.ids, "left", "out"], [hit("left"), hit("out")], run.ids, run)
    assert flag is not None
    assert flag.effect == pytest.approx(2 / 102)
    assert flag.message.endswith("They are not scored.")
    assert [action.text for action in flag.actions] == [
        "Remove the overlapping rows from the training data: finetui data lists them."
    ]
