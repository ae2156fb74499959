"""What each task is judged by, on made-up runs: what is better, what is worse, what stops, which step is best."""

from __future__ import annotations

import dataclasses
from types import SimpleNamespace

import numpy as np
import pytest
from workers import small

from engine.evals.looks import Looks
from engine.evals.score import Scores
from engine.flags.displacement import displacement
from engine.flags.flag import flag_of
from engine.flags.measure import judged, preference_losses
from engine.recipe.sections import Recipe
from engine.training.context import context_of
from engine.training.flagging import best_look, evidence_so_far, raise_flags, standing_flags
from engine.training.report import Report
from finetui.log import LogWriter, read_log

STEPS = tuple(range(0, 101, 10))
N = 60


def recipe(task: str, **flags: str) -> Recipe:
    data = {"dpo": "bundled:docstring-preferences", "classification": "bundled:docstring-subjects"}
    changes = {"data__train": data[task]} if task in data else {}
    return Recipe.model_validate(small(method="lora", task=task, flags=flags, evals__general=None, **changes))


def curve(*points: float) -> np.ndarray:
    """A value at each of STEPS, on lines between points evenly spread."""
    return np.interp(np.linspace(0, 1, len(STEPS)), np.linspace(0, 1, len(points)), points)


def run(task: str, heldout: np.ndarray, seen: np.ndarray, right: np.ndarray, noise: float = 0.05) -> Looks:
    """A run whose examples have these losses, nats per token (of classes per text), and shares of tokens right."""
    looks, rng = Looks(), np.random.default_rng(0)
    tokens = np.ones(N, dtype=int) if task == "classification" else rng.integers(10, 30, N)
    for suite, losses in {"heldout": heldout, "seen": seen}.items():
        own = rng.normal(0, 0.3, N)
        for step, loss, share in zip(STEPS, losses, right, strict=True):
            nll = np.maximum(0.01, loss + own + rng.normal(0, noise, N)) * tokens
            known = np.minimum(tokens, np.round(share * tokens + rng.uniform(-0.5, 0.5, N)))
            looks.add(step, suite, Scores([f"{suite}{i}" for i in range(N)], nll, tokens, known))
    return looks


def pairs(
    chosen: np.ndarray, margins: np.ndarray, wrong: float = 0.0, seen: np.ndarray | None = None
) -> Looks:
    """A run of preferences: nats per token of the chosen answers, the mean margin, and the share of pairs whose margin
    goes the other way.
    """
    looks, rng = Looks(), np.random.default_rng(1)
    tokens = rng.integers(10, 30, N)
    for suite, mean in {"heldout": margins, "seen": margins if seen is None else seen}.items():
        own = rng.normal(0, 0.2, N)
        sign = np.where(rng.uniform(0, 1, N) < (wrong if suite == "heldout" else 0), -1.0, 1.0)
        for step, loss, margin in zip(STEPS, chosen, mean, strict=True):
            nll = (loss + own + rng.normal(0, 0.02, N)) * tokens
            of_pairs = sign * margin * rng.uniform(0.6, 1.4, N) if step else np.zeros(N)
            scores = Scores([f"{suite}{i}" for i in range(N)], nll, tokens, tokens // 2, margins=of_pairs)
            looks.add(step, suite, scores)
    return looks


def lines(
    looks: Looks, task: str, tmp_path, resumed: list[dict] | None = None, **flags: str
) -> tuple[list[dict], int | None]:
    """The lines of flags that a run writes look by look, and the step at which one stops it. `resumed`: lines of an
    earlier attempt; the run goes on from the look of the last one.
    """
    path = tmp_path / f"events-{len(resumed or [])}.jsonl"
    own = recipe(task, **flags)
    so_far = Looks()
    for line in resumed or []:
        so_far.add_flag(flag_of(line))
    job = SimpleNamespace(
        recipe=own,
        report=Report(LogWriter(path, "worker", 1, 1)),
        looks=so_far,
        data=SimpleNamespace(overlaps=[], replayable=[]),
        plan=SimpleNamespace(total_steps=STEPS[-1]),
    )
    stopped = None
    for step in STEPS:
        for suite, by_step in looks._scores.items():
            so_far.add(step, suite, by_step[step])
        job.step = step
        if (not resumed or step > resumed[-1]["step"]) and raise_flags(job) and stopped is None:
            stopped = step
    return [line for line in read_log(path) if line["kind"] == "flag"], stopped


def at_the_end(found: list[dict]) -> dict[str, str]:
    return {line["flag"]: f"{line['state']} {line['level']}" for line in found}


LEARNS = {
    "sft": lambda: run("sft", curve(4, 2.5), curve(4, 2.4), curve(0.3, 0.6)),
    "completion": lambda: run("completion", curve(4, 3.5), curve(4, 3.4), curve(0.3, 0.4)),
    "classification": lambda: run("classification", curve(2, 0.7), curve(2, 0.5), curve(0.1, 0.9)),
    # The chosen answers lose 0.4 nats a token while every pair comes to be preferred rightly.
    "dpo": lambda: pairs(curve(3, 3.4), curve(0, 2.0)),
}


@pytest.mark.parametrize("task", LEARNS)
def test_a_run_that_learns_is_not_warned_of_and_its_last_step_is_the_best(task, tmp_path):
    looks = LEARNS[task]()
    found, stopped = lines(looks, task, tmp_path, overfitting="stop", instability="stop")
    assert [line for line in found if line["level"] in ("warn", "critical")] == []
    assert stopped is None
    name = "preference loss" if task == "dpo" else "loss"
    assert best_look(looks, recipe(task)) == (100, f"it has the lowest held-out {name}")


GOES_WRONG = {
    "sft": lambda: run("sft", curve(4, 3, 3.6, 4.2), curve(4, 2, 1), curve(0.3, 0.5, 0.3, 0.2)),
    "completion": lambda: run("completion", curve(4, 3, 3.6, 4.2), curve(4, 2, 1), curve(0.3, 0.5, 0.3, 0.2)),
    "classification": lambda: run(
        "classification", curve(2, 1, 1.6, 2.2), curve(2, 0.5, 0.1), curve(0.1, 0.7, 0.5, 0.3)
    ),
    # Training pairs are told apart ever better, held-out ones the wrong way round from a third of the run on.
    "dpo": lambda: pairs(curve(3, 2.9), curve(0, 1.0, -0.5, -2.0), seen=curve(0, 5.0)),
}


@pytest.mark.parametrize("task", GOES_WRONG)
def test_a_run_that_overfits_is_stopped_and_keeps_its_best_step(task, tmp_path):
    looks = GOES_WRONG[task]()
    found, stopped = lines(looks, task, tmp_path, overfitting="stop")
    warned = [line for line in found if line["flag"] == "overfitting" and line["level"] != "watch"]
    assert warned
    assert warned[0]["step"] == stopped
    per = {"classification": "text", "dpo": "pair"}.get(task, "token")
    assert warned[0].get("per") == per
    assert f"nats per {per}" in warned[0]["message"]
    best = best_look(looks, recipe(task))
    assert best is not None
    assert best[0] in (30, 40)


def test_a_rise_that_passes_is_withdrawn_and_a_resumed_run_says_the_same(tmp_path):
    looks = run("sft", curve(4, 3, 3.6, 2.5), curve(4, 2, 1), curve(0.3, 0.5, 0.3, 0.5))
    found, _ = lines(looks, "sft", tmp_path)
    of_rise = [line for line in found if line["flag"] == "overfitting"]
    assert [line["state"] for line in of_rise][-2:] == ["fading", "withdrawn"]
    assert {"confirmed", "weakened"} & {line["state"] for line in of_rise}
    assert max(line["effect"] or 0 for line in of_rise) > 0.3
    assert of_rise[-1]["message"].startswith("The heldout loss is the lowest so far")
    for step in sorted({line["step"] for line in found})[:-1]:
        again, _ = lines(looks, "sft", tmp_path, resumed=[line for line in found if line["step"] <= step])
        told = [(line["step"], line["flag"], line["state"], line["level"], line["message"]) for line in found]
        assert [
            (line["step"], line["flag"], line["state"], line["level"], line["message"]) for line in again
        ] == [one for one in told if one[0] > step]


def test_pairs_whose_margins_only_grow_too_large_are_overconfident_not_worse(tmp_path):
    """A third of the pairs is the wrong way round, and their losses grow with the margins of the others."""
    looks = pairs(curve(3, 3), curve(0, 0.8, 6.0), wrong=0.35)
    found, stopped = lines(looks, "dpo", tmp_path, overfitting="stop")
    assert at_the_end(found)["overconfident"] in ("raised info", "confirmed info")
    assert stopped is None


def test_a_preference_loss_equals_that_of_training():
    import torch

    from engine.losses import dpo_loss

    margins = np.array([0.7, -0.4, 30.0, -800.0])
    theirs = dpo_loss.preference_loss(torch.from_numpy(margins), 0.1).numpy()
    assert preference_losses(margins, 0.1) == pytest.approx(theirs)


def test_looks_at_pairs_of_an_older_finetui_are_left_out():
    looks = pairs(curve(3, 3.4), curve(0, 2.0))
    context = context_of(recipe("dpo"))
    for step in (0, 10):
        looks.add(step, "heldout", Scores(**{**vars(looks._scores["heldout"][step]), "margins": None}))
    history = judged(looks.history("heldout"), context)
    assert history is not None
    assert history.steps == (0, *STEPS[2:])
    assert history.loss(0) == pytest.approx(np.log(2))
    for step in STEPS:
        looks.add(step, "heldout", Scores(**{**vars(looks._scores["heldout"][step]), "margins": None}))
    assert judged(looks.history("heldout"), context) is None
    assert standing_flags(evidence_so_far(looks, context), context) == []
    assert best_look(looks, recipe("dpo")) is None


def test_pairs_of_one_document_are_one_draw():
    """Their losses move together, so the change of 60 pairs of 15 documents is known as that of 15."""
    looks = pairs(curve(3, 3.4), curve(0, 2.0))
    history = looks.history("heldout")
    documents = tuple(f"{n // 4}" for n in range(len(history.ids)))
    alike = judged(dataclasses.replace(history, documents=documents), context_of(recipe("dpo")))
    alone = judged(history, context_of(recipe("dpo")))
    assert alike.documents == documents
    assert (alike.change(0, 1).df, alone.change(0, 1).df) == (14, 59)


# ---- displacement


@pytest.mark.parametrize(
    ("chosen", "margins", "level", "said"),
    [
        (curve(3, 3.3), curve(0, 2.0), "info", "no fault by itself"),
        (curve(3, 4.0), curve(0, 6.0), "warn", "the model now writes others"),
        (curve(3, 2.8), curve(0, 2.0), None, ""),  # the chosen ones gain
        (curve(3, 3.3), curve(0, -2.0), None, ""),  # the rejected ones gain
    ],
)
def test_both_answers_falling_is_told_as_such(chosen, margins, level, said):
    looks = pairs(chosen, margins)
    flag = displacement(looks.history("heldout"), context_of(recipe("dpo")))
    assert (flag and flag.level) == level
    if flag:
        assert said in flag.message
        assert flag.effect == pytest.approx(chosen[-1] - chosen[0], abs=0.02)
        assert flag.lo < flag.effect < flag.hi
        assert (flag.per, flag.suite, flag.since_step) == ("token", "heldout", 30 if level == "info" else 10)
        assert "task.beta" in flag.actions[1].change


def test_both_falling_for_nothing_is_a_warning():
    """Half of the pairs go the wrong way round, so that nothing is learned for what both lose."""
    looks = pairs(curve(3, 3.4), curve(0, 0.3), wrong=0.5)
    flag = displacement(looks.history("heldout"), context_of(recipe("dpo")))
    assert flag is not None
    assert (flag.level, "nothing was gained for it" in flag.message) == ("warn", True)
