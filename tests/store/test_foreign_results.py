"""Results of runs that other programs log, and of imported ones: what they are compared with, and in which unit."""

from __future__ import annotations

import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from fake_home import FakeHome, content, rows

import finetui
from finetui.files import read_json, write_json
from store.ingest import Ingest
from store.projection import Projection


@pytest.fixture(autouse=True)
def own_home(home: FakeHome, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FINETUI_HOME", str(home.path))
    monkeypatch.setenv("FINETUI_DAEMON", "off")


def logged(project: str | None, loss: float, **examples: Any) -> None:
    with finetui.init(project) as run:
        if examples:
            for step in (1, 2):
                run.log_examples(step, [loss, loss], **examples)
        else:
            run.log({"eval_loss": loss}, step=1)


def board(projection: Projection) -> dict[int, int]:
    return dict(rows(projection, "SELECT run, place FROM leaderboard"))


def test_runs_without_known_examples_are_compared_within_their_project(
    home: FakeHome, projection: Projection, ingest: Ingest
) -> None:
    for project, loss in (("a", 2.0), ("a", 1.0), ("b", 0.5), (None, 0.1), (None, 0.2)):
        logged(project, loss)
    for number, project in ((6, "wandb x"), (7, "wandb x"), (8, "mlflow x")):
        imported = home.run(number, "of-another-tool", task="translation")
        path = imported.path / "run.json"
        body = {**read_json(path), "imported": {"tool": "wandb"}, "project": project, "datasets": []}
        write_json(path, body)
        imported.start()
        imported.write("metrics", step=1, values={"heldout/loss": 1.0 / number})
    ingest.poll()
    assert board(projection) == {1: 2, 2: 1, 3: 1, 4: 1, 5: 1, 6: 2, 7: 1, 8: 1}
    assert rows(projection, "SELECT DISTINCT unit, task FROM results") == [(None, None)]


def test_runs_that_scored_the_same_examples_are_compared_across_projects(
    home: FakeHome, projection: Projection, ingest: Ingest, tmp_path: Path
) -> None:
    texts = {"tokens": [3, 4], "texts": ["one", ("two", "three")]}
    logged("a", 2.0, **texts)
    logged("b", 1.0, **texts)
    logged("b", 0.5, **{**texts, "tokens": [5, 5]})  # another tokenizer
    logged("a", 0.1, tokens=[3, 4])  # which two, nobody knows
    logged("b", 0.2, tokens=[3, 4])
    logged("a", 0.1, tokens=[3, 4], ids=["x", "y"])
    logged("b", 0.2, tokens=[3, 4], ids=["x", "y"])
    logged("b", 0.1, tokens=[3, 4], ids=["y", "x"])
    ingest.poll()
    assert board(projection) == {1: 2, 2: 1, 3: 1, 4: 1, 5: 1, 6: 1, 7: 2, 8: 1}
    held_out = rows(projection, "SELECT heldout_examples, heldout_tokens FROM runs ORDER BY run")
    assert held_out[:3] == [(2, 7), (2, 7), (2, 10)]
    rebuilt = Projection(tmp_path / "rebuilt.duckdb")
    Ingest(rebuilt, home.path).poll()
    assert {**content(rebuilt), "ingest": []} == {**content(projection), "ingest": []}
    rebuilt.close()


def test_a_set_that_changes_is_not_known(projection: Projection, ingest: Ingest) -> None:
    with finetui.init("a", total_steps=5) as run:
        run.log_examples(1, [1.0, 2.0], texts=["one", "two"])
        run.log_examples(2, [1.0], texts=["one"])
        run.log_examples(3, [1.0, 2.0], texts=["one", "two"])
    ingest.poll()
    known = "SELECT total_steps, heldout_set, heldout_examples, heldout_tokens FROM runs"
    assert rows(projection, known) == [(5, None, None, None)]
    assert rows(projection, "SELECT heldout_set FROM leaderboard") == [("project a",)]


BEST = "SELECT key, best, best_step, higher_is_better FROM run_summary ORDER BY run, key"


def test_a_program_says_of_which_metrics_the_greatest_is_the_best(
    home: FakeHome, projection: Projection, ingest: Ingest, tmp_path: Path
) -> None:
    run = finetui.init("a", higher_is_better={"acc": True, "a_score": False})
    run.log({"acc": 0.5, "late": 0.5, "a_score": 2.0, "eval_loss": 1.0})
    run.log({"acc": 0.75, "late": 0.75, "a_score": 1.0, "eval_loss": 2.0})
    ingest.poll()
    told = [("train/a_score", 1.0, 2, False), ("train/acc", 0.75, 2, True)]
    assert rows(projection, BEST) == [("heldout/loss", 1.0, 1, False), *told, ("train/late", 0.5, 1, False)]
    run.judge("late")
    run.judge("eval_loss")
    run.log({"late": 0.6, "later": 1.0})
    ingest.poll()
    turned = [("heldout/loss", 2.0, 2, True), *told, ("train/late", 0.75, 2, True)]
    assert rows(projection, BEST) == [*turned, ("train/later", 1.0, 3, False)]
    Ingest(projection, home.path).poll()  # of another daemon, which has to look first
    run.judge("later")
    again = Ingest(projection, home.path)
    run.log({"later": 3.0, "late": 0.9})
    again.poll()
    turned[-1] = ("train/late", 0.9, 4, True)
    assert rows(projection, BEST) == [*turned, ("train/later", 3.0, 4, True)]
    run.finish()
    logged("a", 3.0)
    again.poll()
    rebuilt = Projection(tmp_path / "rebuilt.duckdb")
    Ingest(rebuilt, home.path).poll()
    assert {**content(rebuilt), "ingest": []} == {**content(projection), "ingest": []}
    rebuilt.close()


def test_places_go_by_what_is_better(projection: Projection, ingest: Ingest) -> None:
    for value in (0.5, 0.75):
        with finetui.init("a", higher_is_better="eval_loss") as run:
            run.log({"eval_loss": value}, step=1)
    logged("a", 0.1)
    ingest.poll()
    assert board(projection) == {1: 2, 2: 1, 3: 1}


def test_gpus_that_a_program_uses_are_paid_for_by_the_hour(
    projection: Projection, ingest: Ingest, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its torch is asked at the first measures, when a GPU is in use at last."""
    cuda = SimpleNamespace(
        is_initialized=lambda: len(asked) > 0, device_count=lambda: 2, memory_reserved=lambda index: 1000,
        get_device_name=lambda index: "NVIDIA H200",
    )  # fmt: skip
    asked: list[str] = []
    monkeypatch.setitem(sys.modules, "torch", SimpleNamespace(cuda=cuda))
    monkeypatch.setenv("WORLD_SIZE", "4")
    with finetui.init("a", total_steps=9) as run:
        asked.append("a model is on the GPU")
        run.log({"loss": 1.0})
        run.plan(train_examples=70, precision="bf16")
    with finetui.init("a") as other:
        other.plan(device="TPU v5", gpus=0)
        other.log({"loss": 1.0})
    ingest.poll()
    attempts = rows(projection, "SELECT device, gpus FROM attempts ORDER BY run")
    assert attempts == [("8 × NVIDIA H200", 8), ("TPU v5", 0)]
    known = rows(projection, "SELECT total_steps, train_examples, precision FROM runs ORDER BY run")
    assert known == [(9, 70, "bf16"), (None, None, None)]
    spent = rows(projection, "SELECT round(gpu_hours / hours) FROM results WHERE hours > 0 ORDER BY run")
    assert spent == [(8.0,), (None,)]


def test_a_run_that_logs_examples_alone_has_their_step(projection: Projection, ingest: Ingest) -> None:
    with finetui.init("a") as run:
        for step in (0, 7):
            run.log_examples(step, [1.0, 2.0])
    ingest.poll()
    assert rows(projection, "SELECT step FROM runs") == [(7,)]
