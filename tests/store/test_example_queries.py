"""The named queries about single examples, over runs whose numbers are known."""

from __future__ import annotations

import math
from typing import Any

import pytest
from fake_home import FakeHome, FakeRun
from test_queries import ask

from store import queries
from store.ingest import Ingest
from store.projection import Projection

NAMES = ("a", "b", "c", "d")


def evaluate(
    run: FakeRun, step: int, nll: dict[str, float | None], suite: str = "general", **more: Any
) -> None:
    """`nll`: by the name of the example; `a` has 10 tokens, the others one more each."""
    examples = {
        "id": list(nll),
        "nll": list(nll.values()),
        "tokens": [10 + NAMES.index(name) for name in nll],
        "right": [step] * len(nll),
        "slice": ["prose" if name in "ab" else "chat" for name in nll],
        **more,
    }
    run.write("eval", step=step, suite=suite, values={"loss": {"value": 1.0}}, examples=examples)


@pytest.fixture
def looked(home: FakeHome, projection: Projection) -> Projection:
    first = home.run(1)
    first.start()
    rows = [
        {"id": name, "prompt": f"Prompt {name}" * (name != "d"), "target": f"target {name}"}
        for name in "abcd"
    ]
    first.write("examples", suite="general", rows=rows)
    evaluate(first, 0, {"a": 10.0, "b": 11.0, "c": 24.0, "d": 13.0})
    evaluate(first, 5, {"a": 15.0, "c": 12.0})
    evaluate(first, 9, {"a": 20.0, "b": 11.0, "c": 6.0, "d": None})
    for step, text in ((0, "one"), (9, "two")):
        first.write("sample", step=step, index=0, prompt="Prompt b", text=text)
        drift = {"tokens": 1, "entropy": 1.0, "finished": True, "refused": False}
        first.write("drift", step=step, index=0, prompt="Prompt c", text=text.upper(), **drift)
    second = home.run(2)
    second.start()
    evaluate(second, 4, {"a": 10.0, "b": 22.0}, tokens=[10, 12])  # b was read by another tokenizer
    Ingest(projection, home.path).poll()
    return projection


def test_looks_say_what_each_step_has_scored(looked: Projection) -> None:
    found = [(row["suite"], row["slice"], row["step"], row["n"]) for row in ask(looked, queries.looks(1))]
    assert found == [
        ("general", "chat", 0, 2), ("general", "chat", 5, 1), ("general", "chat", 9, 1),
        ("general", "prose", 0, 2), ("general", "prose", 5, 1), ("general", "prose", 9, 2),
    ]  # fmt: skip
    assert not any(row["kept"] for row in ask(looked, queries.looks(1)))


def test_the_look_that_a_run_stands_at_is_marked(home: FakeHome, projection: Projection) -> None:
    run = home.run(1)
    run.start()
    for step in (0, 5, 9):
        evaluate(run, step, {"a": 10.0})
    run.write("end", status="finished", step=9, kept_step=5)
    run.end()
    Ingest(projection, home.path).poll()
    assert [row["step"] for row in ask(projection, queries.looks(1)) if row["kept"]] == [5]


def test_examples_are_ordered_by_their_change(looked: Projection) -> None:
    rows = ask(looked, queries.changes(1, "general", 0, 9))
    assert [(row["example"], row["change"]) for row in rows] == [
        ("a", 1.0),
        ("b", 0.0),
        ("c", pytest.approx(-1.5)),
    ]
    worst = rows[0]
    assert (worst["before"], worst["after"], worst["tokens"], worst["per"]) == (1.0, 2.0, 10, "token")
    assert (worst["right_before"], worst["right_after"], worst["text"]) == (0, 9, "Prompt a")
    assert {(row["examples"], row["worse"], row["better"]) for row in rows} == {(3, 1, 1)}
    assert worst["mean"] == pytest.approx((10.0 + 0 - 18.0) / (10 + 11 + 12))
    turned = ask(looked, queries.changes(1, "general", 0, 9, best_first=True, limit=1))
    assert [(row["example"], row["examples"]) for row in turned] == [("c", 3)]
    assert [row["example"] for row in ask(looked, queries.changes(1, "general", 0, 5))] == ["a", "c"]


def test_examples_are_chosen_by_slice_and_by_words(looked: Projection) -> None:
    def chosen(**filters: Any) -> list[str]:
        return [row["example"] for row in ask(looked, queries.changes(1, "general", 0, 9, **filters))]

    assert chosen(slice="prose") == ["a", "b"]
    assert chosen(slice="prose", words="TARGET b") == ["b"]
    assert chosen(words="100%") == []


def test_two_runs_are_compared_on_what_both_have_scored(looked: Projection) -> None:
    (row,) = ask(looked, queries.changes(2, "general", 9, 4, before=1))
    assert (row["example"], row["before"], row["after"], row["examples"]) == ("a", 2.0, 1.0, 1)


def test_pairs_change_by_their_preference_loss(home: FakeHome, projection: Projection) -> None:
    run = home.run(1)
    run.start()
    evaluate(run, 0, {"a": 10.0, "b": 10.0}, "heldout", margin=[0.0, 0.0])
    evaluate(run, 9, {"a": 90.0, "b": 10.0}, "heldout", margin=[2.0, -1.0])
    Ingest(projection, home.path).poll()
    rows = ask(projection, queries.changes(1, "heldout", 0, 9))
    assert [row["example"] for row in rows] == ["b", "a"]
    assert {row["per"] for row in rows} == {"pair"}
    losses = [math.log(1 + math.exp(1)), math.log(1 + math.exp(-2))]
    assert [row["after"] for row in rows] == pytest.approx(losses)
    assert rows[0]["mean"] == pytest.approx(sum(losses) / 2 - math.log(2))
    before, after = ask(projection, queries.example_losses(1, "heldout", "a"))
    assert (before["loss"], after["loss"]) == pytest.approx((math.log(2), losses[1]))


def test_what_the_base_model_wrote_is_a_suite_of_its_own_for_an_older_finetui_too(
    home: FakeHome, projection: Projection
) -> None:
    run = home.run(1)
    run.start()
    for step in (0, 3):
        evaluate(run, step, {"a": 10.0 + step, "b": 11.0}, slice=["samples", "prose"])
    Ingest(projection, home.path).poll()
    assert [row["example"] for row in ask(projection, queries.changes(1, "general", 0, 3))] == ["b"]
    assert [row["example"] for row in ask(projection, queries.changes(1, "samples", 0, 3))] == ["a"]
    assert {row["suite"] for row in ask(projection, queries.looks(1))} == {"general", "samples"}
    assert len(ask(projection, queries.example_losses(1, "samples", "a"))) == 2


def test_all_there_is_on_one_example(looked: Projection) -> None:
    losses = ask(looked, queries.example_losses(1, "general", "a"))
    assert [(row["step"], row["loss"], row["tokens_right"]) for row in losses] == [
        (0, 1.0, 0),
        (5, 1.5, 5),
        (9, 2.0, 9),
    ]
    (text,) = ask(looked, queries.example_text("d"))
    assert text == {"suite": "general", "prompt": "", "target": "target d"}
    assert ask(looked, queries.answers(1, "b")) == [{"step": 0, "text": "one"}, {"step": 9, "text": "two"}]
    assert ask(looked, queries.answers(1, "c")) == [{"step": 0, "text": "ONE"}, {"step": 9, "text": "TWO"}]
    assert ask(looked, queries.answers(1, "a")) == ask(looked, queries.answers(1, "d")) == []
