"""Flags over time: raised, confirmed, weakened, withdrawn, and never two that contradict each other."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from flag_runs import CONTEXT, LOOKS, falling, history, turning

from engine.flags import words
from engine.flags.absent import today_of
from engine.flags.evidence import Evidence
from engine.flags.exclusion import are_opposite, is_recovering, without_contradictions
from engine.flags.flag import Action, Flag
from engine.flags.history import History
from engine.flags.overfitting import overfitting
from engine.flags.states import Today, follow

ACTION = Action("Do this.", {"train.lr": 1e-4})


def flag(level: str, step: int, name: str = "forgetting", suite: str = "general", **more) -> Flag:
    fields = {"effect": 0.2, "lo": 0.1, "hi": 0.3, "n": 50, "looks": step // 10, "message": "m", **more}
    return Flag(name, level, step, 10, suite, actions=(ACTION,), **fields)


def told(levels: list[str | None], at_once: list[str] | None = None) -> list[tuple[str, str]]:
    """(state, level) of what is written, for what the detector says at each look; "" where nothing is."""
    stated: list[Flag] = []
    lines = []
    for look, level in enumerate(levels, start=1):
        found = [flag(level, 10 * look)] if level else []
        written = follow(stated, found, 10 * look, look, lambda _: Today("Gone.", 0.01, -0.02, 0.04, 60))
        assert follow(written or stated, found, 10 * look, look, lambda _: Today("Gone.")) == [], (
            "written twice"
        )
        stated = written or stated
        lines += [(one.state, one.level) for one in written] or [("", "")]
    return lines


def test_a_warning_comes_and_goes_with_todays_evidence():
    assert told(["watch", "warn", "warn", "critical", "warn", None, None, None, "watch"]) == [
        ("raised", "watch"),
        ("raised", "warn"),
        ("confirmed", "warn"),
        ("raised", "critical"),
        ("weakened", "warn"),
        ("fading", "warn"),
        ("withdrawn", "info"),
        ("", ""),
        ("raised", "watch"),
    ]


def test_one_look_that_misses_it_takes_no_warning_back():
    assert told(["warn", None, "watch", None, "warn"]) == [
        ("raised", "warn"),
        ("fading", "warn"),
        ("confirmed", "warn"),
        ("fading", "warn"),
        ("confirmed", "warn"),
    ]
    assert told(["critical", None, None])[1:] == [("fading", "warn"), ("withdrawn", "info")]


@pytest.mark.parametrize("level", ["watch", "info"])
def test_a_sign_that_was_no_warning_goes_at_once(level):
    assert told([level, None]) == [("raised", level), ("withdrawn", "info")]


def test_what_is_not_seen_keeps_its_actions_until_it_is_withdrawn():
    (fading,) = follow([flag("critical", 20)], [], 30, 3, lambda _: Today("Less.", 0.01, -0.02, 0.04, 60))
    assert (fading.step, fading.since_step, fading.effect, fading.n, fading.message) == (
        30,
        10,
        0.01,
        60,
        "Less.",
    )
    assert fading.actions == (ACTION,)
    (gone,) = follow([fading], [], 40, 4, lambda _: Today("None."))
    assert (gone.state, gone.level, gone.actions, gone.worst) == ("withdrawn", "info", (), ())


def test_a_resumed_run_goes_on_from_the_last_line():
    """As if it had been killed at any look: what it writes then depends on the line before alone."""
    looks = ["warn", "critical", None, "watch", None, None]
    stated: list[Flag] = []
    for look, level in enumerate(looks, start=1):
        found = [flag(level, 10 * look)] if level else []
        written = follow(stated[-1:], found, 10 * look, look, lambda _: Today("Gone."))
        stated += written
    assert [one.state for one in stated] == ["raised", "raised", "fading", "confirmed", "fading", "withdrawn"]


# ---- in words


def line(state: str, level: str, step: int) -> dict:
    return {
        "flag": "forgetting",
        "suite": "general",
        "state": state,
        "level": level,
        "step": step,
        "since_step": 10,
    }


def test_the_last_state_and_the_worst_one_are_both_told():
    rows = [line("raised", "critical", 20), line("weakened", "warn", 30), line("withdrawn", "info", 50)]
    (now,) = words.newest(rows[:2])
    assert (now["level"], words.when(now)) == ("warn", "since step 10")
    assert words.history(now) == "weakened at step 30; at its worst critical at step 20"
    (gone,) = words.newest([*rows[1:], rows[0]])
    assert (words.level(gone), words.when(gone)) == ("withdrawn", "from step 10 to 50")
    assert words.history(gone) == "withdrawn at step 50; at its worst critical at step 20"
    assert words.evidence(gone)[0] == ("now", words.history(gone))
    other = {"flag": "converged", "suite": "heldout", "level": "info", "step": 20}
    assert [one["flag"] for one in words.newest([*rows, other])] == ["converged", "forgetting"]


# ---- contradictions


def evidence(heldout: History, seen: History) -> Evidence:
    steps = heldout.steps[-1]
    return Evidence(heldout, seen, None, None, None, [], 1, np.full(steps, 3.0), np.ones(steps))


def unstable(step: int, suite: str = "heldout") -> Flag:
    return flag("critical", step, "instability", suite)


def shown(heldout: History, seen: History, stated: list[Flag]) -> list[Flag]:
    found = overfitting(heldout, seen, CONTEXT)
    return without_contradictions([found] if found else [], stated, evidence(heldout, seen), CONTEXT)


def test_a_run_that_recovers_from_instability_is_not_called_overfitting():
    """As one was: its held-out loss fell from look to look, and the seen loss, above the base's, had become unsure."""
    rng = np.random.default_rng(0)
    shape = np.concatenate([[0.0, 3.0], np.linspace(2.5, 0.5, LOOKS - 2)])
    heldout = history(shape, rng, noise=0.02)
    seen = history(0.1 * shape, rng, "seen", n=20, noise=0.4)
    rise = overfitting(heldout, seen, CONTEXT)
    assert rise is not None
    assert is_recovering(heldout)
    as_overfitting = replace(rise, flag="overfitting")
    for stated in ([unstable(90)], [unstable(90, "train")], []):
        now = without_contradictions([as_overfitting], stated, evidence(heldout, seen), CONTEXT)
        assert [one.flag for one in now] == (
            ["instability"] if stated and stated[0].suite == "heldout" else []
        )
    (kept,) = without_contradictions([as_overfitting], [unstable(90)], evidence(heldout, seen), CONTEXT)
    assert "which does not show that it did not rise" in kept.message
    assert kept.actions[0].change == {"train.lr": pytest.approx(CONTEXT.lr / 3)}


def test_overfitting_after_instability_is_told_once_the_training_loss_surely_did_not_rise():
    rng = np.random.default_rng(1)
    heldout, seen = history(turning(0.5), rng, noise=0.02), history(falling(-1.0), rng, "seen", noise=0.02)
    assert [one.flag for one in shown(heldout, seen, [unstable(90)])] == ["overfitting"]
    found = shown(heldout, seen, [unstable(90)])
    assert are_opposite(found[0], unstable(90))
    assert not are_opposite(found[0], unstable(90, "train"))
    lines = follow([unstable(90)], found, 100, 10, lambda _: Today("seen as overfitting", replaced=True))
    assert {one.flag: one.state for one in lines} == {"overfitting": "raised", "instability": "withdrawn"}


def test_a_loss_that_has_risen_has_not_converged():
    rng = np.random.default_rng(2)
    heldout, seen = history(turning(0.5), rng, noise=0.02), history(falling(-1.0), rng, "seen", noise=0.02)
    rise = overfitting(heldout, seen, CONTEXT)
    assert rise is not None
    both = [rise, flag("info", 100, "converged", "heldout")]
    assert without_contradictions(both, [], evidence(heldout, seen), CONTEXT) == [rise]


def test_a_loss_that_rises_is_not_recovering():
    rng = np.random.default_rng(3)
    assert not is_recovering(history(turning(0.5), rng, noise=0.02))
    assert not is_recovering(history(falling(), rng, noise=0.02))


def test_rows_of_one_document_do_not_make_a_recovery_surer():
    """The same scores, as rows on their own and as rows of two documents that move apart."""
    shape = np.concatenate([[0.0, 3.0], np.linspace(2.5, 0.5, LOOKS - 2)])
    rows = history(shape, np.random.default_rng(0), noise=0.02)
    half = len(rows.ids) // 2
    nll = rows.nll.copy()
    nll[-1, half:] = nll[-2, half:] + 0.1 * rows.tokens[half:]
    rows = replace(rows, nll=nll)
    documents = tuple("ab"[place >= half] for place in range(len(rows.ids)))
    assert is_recovering(rows)
    assert not is_recovering(replace(rows, documents=documents))


# ---- what is measured of a flag that is not shown


@pytest.mark.parametrize(
    ("name", "suite", "said"),
    [
        ("overfitting", "heldout", "The heldout loss is the lowest so far"),
        ("forgetting", "general", "The general loss differs from the base model's by -1.0"),
        ("converged", "heldout", "The loss has moved since step 10 by -0."),
        ("dead", "seen", "The loss on training examples has moved since step 0 by -1.0"),
        (
            "instability",
            "train",
            "None of the last 5 steps jumped, and the training loss is 3.000 (it was 3.000",
        ),
        ("endless", "heldout", "Enough of the latest answers end by themselves."),
    ],
)
def test_a_flag_that_is_not_shown_has_todays_evidence(name, suite, said):
    rng = np.random.default_rng(4)
    falls = [history(falling(-1.0), rng, one, noise=0.001) for one in ("heldout", "seen", "general")]
    all_of_it = replace(evidence(falls[0], falls[1]), general=falls[2])
    now = today_of(flag("warn", 50, name, suite), all_of_it)
    assert now.message.startswith(said), now.message
