"""Every detector is asked what a run measures, and the recipe decides what becomes of its answer."""

from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest
from workers import finish, make_run, small, start

from engine.evals.looks import Looks, read_looks
from engine.evals.score import Scores
from engine.recipe.sections import Recipe
from engine.training.flagging import best_step, raise_flags
from engine.training.report import Report
from finetui.log import LogWriter, read_log

N = 40
NOISE = np.random.default_rng(0).normal(0, 0.2, N)
TOKENS = np.random.default_rng(1).integers(10, 30, N)
STEPS = (0, 10, 20, 30, 40, 50, 60, 80, 100)


def looks_of(heldout, seen=None, general=None, right=0.5) -> Looks:
    """Each suite's mean loss at every step, with noise per example that is the same at every look."""
    looks, rng = Looks(), np.random.default_rng(2)
    for suite, losses in {
        "heldout": heldout,
        "seen": seen or heldout,
        "general": general or [3.0] * 9,
    }.items():
        for step, loss in zip(STEPS, losses, strict=True):
            nll = (loss + NOISE + rng.normal(0, 0.002, N)) * TOKENS
            known = np.floor(TOKENS * right).astype(int)
            looks.add(step, suite, Scores([f"{suite}{i}" for i in range(N)], nll, TOKENS, known))
    for step in range(1, 101):
        looks.add_step(step, 3.0 + 0.01 * np.sin(step), 1.0)
    for step in STEPS:
        for _ in range(4):
            looks.add_answer(step, "a short answer", ended=True, fits=True)
    return looks


def raised(looks: Looks, tmp_path, **flags) -> tuple[dict[str, str], str | None]:
    """(flag → level) as written to the log, and the reason to stop."""
    tmp_path.mkdir(exist_ok=True)
    path = tmp_path / "events.jsonl"
    report = Report(LogWriter(path, "worker", 1, 1))
    tree = small(method="lora", flags=flags)
    data, plan = SimpleNamespace(overlaps=[], replayable=[]), SimpleNamespace(total_steps=100)
    job = SimpleNamespace(
        recipe=Recipe.model_validate(tree), report=report, looks=looks, data=data, step=100, plan=plan
    )
    reason = raise_flags(job)
    return {e["flag"]: e["level"] for e in read_log(path) if e["kind"] == "flag"}, reason


FALLING = [4.0, 3.8, 3.6, 3.4, 3.2, 3.0, 2.8, 2.6, 2.4]


def rows_of(suite: str, n: int = N, more_tokens: int = 0) -> dict[str, int]:
    return {f"{suite}{i}": int(TOKENS[i]) + more_tokens for i in range(n)}


@pytest.mark.parametrize("rows", [rows_of("other"), rows_of("heldout", N - 1), rows_of("heldout", N, 1)])
def test_earlier_looks_at_other_rows_are_never_paired_with_new_ones(rows, tmp_path):
    turning = [*FALLING[:5], 3.3, 3.4, 3.5, 3.6]
    looks = looks_of(turning, FALLING)
    assert not looks.forget_other_rows("heldout", rows_of("heldout"))
    assert raised(looks, tmp_path / "same") == ({"overfitting": "critical"}, None)
    assert looks.forget_other_rows("heldout", rows)
    assert not looks.forget_other_rows("heldout", rows)
    values = np.full(len(rows), 9.0)
    looks.add(100, "heldout", Scores(list(rows), values, np.array(list(rows.values())), values))
    assert looks.history("heldout") is None
    assert looks.history("seen") is not None
    assert raised(looks, tmp_path / "other", overfitting="stop") == ({}, None)
    assert best_step(looks, Recipe.model_validate(small(method="lora"))) is None


def test_a_run_that_learns_has_none(tmp_path):
    assert raised(looks_of(FALLING), tmp_path) == ({}, None)


@pytest.mark.parametrize(
    ("kind", "flag", "level", "looks"),
    [
        (
            "overfitting",
            "overfitting",
            "critical",
            lambda: looks_of([*FALLING[:5], 3.3, 3.4, 3.5, 3.6], FALLING),
        ),
        ("instability", "instability", "critical", lambda: looks_of([*FALLING[:5], 3.3, 3.4, 3.5, 3.6])),
        ("overfitting", "memorised", "info", lambda: looks_of(FALLING, right=1.0)),
        (
            "forgetting",
            "forgetting",
            "critical",
            lambda: looks_of(FALLING, general=[3 + 0.05 * i for i in range(9)]),
        ),
        ("dead", "dead", "warn", lambda: looks_of([4.0] * 9)),
        ("plateau", "converged", "info", lambda: looks_of([4.0, 3.5, *[3.0] * 7])),
        ("instability", "instability", "warn", lambda: with_jumps()),
        ("dead", "dead", "critical", lambda: without_gradient()),
        ("template", "endless", "warn", lambda: endless()),
        ("template", "repeating", "warn", lambda: endless("the same words " * 9, ended=True)),
    ],
)
def test_each_is_written_once_at_its_level_or_left_out(kind, flag, level, looks, tmp_path):
    first = looks()
    found, reason = raised(first, tmp_path)
    assert found.get(flag) == level, found
    assert reason is None
    (tmp_path / "again").mkdir()
    assert raised(first, tmp_path / "again") == ({}, None), "written twice"
    (tmp_path / "off").mkdir()
    assert flag not in raised(looks(), tmp_path / "off", **{kind: "off"})[0]


@pytest.mark.parametrize(
    ("kind", "looks"),
    [
        ("forgetting", lambda: looks_of(FALLING, general=[3 + 0.05 * i for i in range(9)])),
        ("plateau", lambda: looks_of([4.0, 3.5, *[3.0] * 7])),
        ("template", lambda: endless()),
    ],
)
def test_it_stops_the_run_if_asked_to(kind, looks, tmp_path):
    _, reason = raised(looks(), tmp_path, **{kind: "stop"})
    assert reason is not None
    assert reason.startswith("stopped by the flag")


def test_the_best_step_of_a_run_that_forgot_at_every_look_is_where_it_forgot_least():
    worse = [3.0, 3.6, 3.4, 3.5, 3.7, 3.8, 3.9, 4.0, 4.1]
    recipe = Recipe.model_validate(small(method="lora", flags__forgetting="stop"))
    assert best_step(looks_of(FALLING, general=worse), recipe) == 20
    assert best_step(looks_of(FALLING, general=[3.0, *worse[:0:-1]]), recipe) == 80


def test_information_does_not_stop_a_run(tmp_path):
    found, reason = raised(looks_of(FALLING, right=1.0), tmp_path, overfitting="stop")
    assert (found, reason) == ({"memorised": "info"}, None)


def with_jumps() -> Looks:
    looks = looks_of(FALLING)
    for step in (98, 100):
        looks.add_step(step, 9.0, 1.0)
    return looks


def without_gradient() -> Looks:
    looks = looks_of(FALLING)
    for step in range(1, 101):
        looks.add_step(step, 3.0, 0.0)
    return looks


def endless(text: str = "words that go on", ended: bool = False) -> Looks:
    looks = looks_of(FALLING)
    for step in STEPS[-2:]:
        looks._answers[step] = [(text, ended, True)] * 6
    return looks


def test_a_resumed_run_knows_its_answers_and_steps(tmp_path):
    run = make_run(tmp_path / "000001-run", small(method="lora", evals__generate=2))
    assert finish(start(run)) == 0
    whole = read_looks(run, 2, 6)
    assert [answers.step for answers in whole.answers] == [0, 3, 6]
    assert [len(answers.texts) for answers in whole.answers] == [2, 2, 2]
    first, losses, norms = whole.training()
    assert (first, len(losses), len(norms)) == (1, 6, 6)
    assert [a.step for a in read_looks(run, 2, 4).answers] == [0, 3]
    assert len(read_looks(run, 2, 4).training()[1]) == 4


@pytest.mark.parametrize("replayable", [[], ["texts.jsonl"]])
def test_replay_is_advised_only_of_text_that_has_rows_left(tmp_path, replayable):
    """What is scored whole cannot be trained on as well: such advice would be refused when it is followed."""
    looks = looks_of(FALLING, general=[3 + 0.05 * i for i in range(9)])
    path = tmp_path / "events.jsonl"
    recipe = Recipe.model_validate(
        {"model": "m", "method": "full", "data": {"train": "x"}, "evals": {"general": "texts.jsonl"}}
    )
    job = SimpleNamespace(
        recipe=recipe,
        report=Report(LogWriter(path, "worker", 1, 1)),
        looks=looks,
        data=SimpleNamespace(overlaps=[], replayable=replayable),
        step=100,
        plan=SimpleNamespace(total_steps=100),
    )
    raise_flags(job)
    flag = next(e for e in read_log(path) if e["kind"] == "flag" and e["flag"] == "forgetting")
    sources = [action["change"].get("data.replay.source") for action in flag["actions"]]
    assert list(filter(None, sources)) == replayable
