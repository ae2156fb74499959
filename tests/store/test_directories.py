"""Run directories that come, go, change their names or hold another run, as ingest sees them; damaged values."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from fake_home import FakeHome, FakeRun, content, rows

from finetui.files import write_json
from store.ingest import GONE, Ingest
from store.projection import Projection

LOSSES = (
    "SELECT run, list(value ORDER BY step) FROM metrics WHERE key = 'train/loss' GROUP BY run ORDER BY run"
)


def finished(home: FakeHome, number: int, name: str, losses: list[float]) -> FakeRun:
    run = home.run(number, name)
    run.start()
    for step, loss in enumerate(losses, 1):
        run.metrics(step, loss=loss)
    run.write("end", status="finished", step=len(losses))
    run.end()
    return run


def again(projection: Projection, home: FakeHome) -> Ingest:
    """What a daemon that has just been started reads with."""
    ingest = Ingest(projection, home.path)
    ingest.poll()
    assert ingest.problem is None
    return ingest


def test_a_copy_under_another_number_is_a_run_of_its_own(
    home: FakeHome, projection: Projection, ingest: Ingest
) -> None:
    run = finished(home, 1, "demo", [3.0, 2.0])
    ingest.poll()
    shutil.copytree(run.path, run.path.with_name("000050-demo"))
    again(projection, home)
    assert rows(projection, LOSSES) == [(1, [3.0, 2.0]), (50, [3.0, 2.0])]
    assert rows(projection, "SELECT run, state FROM runs ORDER BY run") == [(1, "finished"), (50, "finished")]


def test_another_name_changes_nothing_but_the_directory(
    home: FakeHome, projection: Projection, ingest: Ingest
) -> None:
    run = finished(home, 1, "demo", [3.0, 2.0])
    ingest.poll()
    renamed = run.path.rename(run.path.with_name("000001-better"))
    again(projection, home)
    assert rows(projection, LOSSES) == [(1, [3.0, 2.0])]
    assert rows(projection, "SELECT dir, state FROM runs") == [(str(renamed), "finished")]


@pytest.mark.parametrize("name", ["demo", "other"])
def test_another_run_in_the_place_of_one_is_never_mixed_with_it(
    home: FakeHome, projection: Projection, ingest: Ingest, name: str
) -> None:
    run = finished(home, 1, "demo", [3.0, 2.0])
    ingest.poll()
    shutil.rmtree(run.path)
    finished(home, 1, name, [9.0, 8.0, 7.0])
    again(projection, home)
    assert rows(projection, LOSSES) == [(1, [9.0, 8.0, 7.0])]
    assert rows(projection, "SELECT count(*) FROM runs") == [(1,)]
    kept = content(projection)
    projection.rebuild()
    again(projection, home)
    assert content(projection) == kept


def test_a_run_whose_directory_is_gone_says_so_until_it_is_back(
    home: FakeHome, projection: Projection, ingest: Ingest, tmp_path: Path
) -> None:
    done, going = finished(home, 1, "demo", [3.0]), home.run(2)
    going.start()
    ingest.poll()
    asides = [run.path.rename(tmp_path / run.path.name) for run in (done, going)]
    again(projection, home)
    said = rows(projection, "SELECT run, state, reason FROM runs ORDER BY run")
    assert said == [(1, "finished", GONE), (2, "cancelled", GONE)]
    assert rows(projection, LOSSES) == [(1, [3.0])]
    for aside, run in zip(asides, (done, going), strict=True):
        aside.rename(run.path)
    again(projection, home)
    said = rows(projection, "SELECT run, state, reason FROM runs ORDER BY run")
    assert said == [(1, "finished", None), (2, "running", None)]


def test_a_directory_without_runs_costs_no_rows(
    home: FakeHome, projection: Projection, ingest: Ingest
) -> None:
    """All of `runs/` away, such as a disk that is not mounted."""
    run = finished(home, 1, "demo", [3.0])
    ingest.poll()
    aside = run.path.parent.rename(home.path / "aside")
    again(projection, home)
    assert rows(projection, "SELECT state, reason FROM runs") == [("finished", None)]
    aside.rename(run.path.parent)


def test_checkpoints_that_are_deleted_are_marked(
    home: FakeHome, projection: Projection, ingest: Ingest
) -> None:
    run = home.run(1)
    run.start()
    for step in (2, 4):
        path = run.path / "checkpoints" / f"step-{step:06d}"
        path.mkdir(parents=True)
        (path / "COMPLETE").touch()
        run.write("checkpoint", step=step, path=f"checkpoints/{path.name}", bytes=1)
    ingest.poll()
    marks = "SELECT step, present FROM checkpoints ORDER BY step"
    assert rows(projection, marks) == [(2, True), (4, True)]
    shutil.rmtree(run.path / "checkpoints" / "step-000002")
    ingest.poll()
    assert rows(projection, marks) == [(2, False), (4, True)]
    kept = content(projection)
    projection.rebuild()
    again(projection, home)
    assert content(projection) == kept


def test_a_value_that_is_none_costs_itself(home: FakeHome, projection: Projection, ingest: Ingest) -> None:
    run = home.run(1)
    run.start()
    run.write("metrics", step=1, values={"train/loss": 1.25, "mine/score": "n/a", "mine/many": [1]})
    run.write("eval", step=1, suite="heldout", values={"loss": 0.5, "mine": "high"}, examples={"id": 7})
    run.write("checkpoint", step=1, path="checkpoints/x", bytes="many")
    ingest.poll()
    assert rows(projection, "SELECT key, value FROM metrics ORDER BY key") == [
        ("heldout/loss", 0.5),
        ("train/loss", 1.25),
    ]
    assert rows(projection, "SELECT step, bytes FROM checkpoints") == [(1, None)]
    told = [
        message for (message,) in rows(projection, "SELECT message FROM events WHERE kind = 'unreadable'")
    ]
    for part in (
        "values.mine/score: 'n/a'",
        "values.mine/many: [1]",
        "values.mine: value: 'high'",
        "examples: ",
        "bytes: ",
    ):
        assert any(part in message for message in told), part
    assert "values.mine/score" in ingest.damaged[1]


def test_a_value_within_an_evaluation_costs_itself(
    home: FakeHome, projection: Projection, ingest: Ingest
) -> None:
    run = home.run(1)
    run.start()
    examples = {
        "id": ["a", "b", "c"],
        "nll": [1.0, "x", "NaN"],
        "tokens": [5, 5, 2**40],
        "right": [1, None, [2]],
    }
    values = {"loss": {"value": 0.5, "lo": "low", "hi": 0.7, "n": 3}}
    run.write("eval", step=1, suite="heldout", values=values, examples=examples, seconds="long")
    questions = {"id": ["q", "r"], "answer": [0, 1], "chosen": ["b", 1], "chosen_norm": [0, 1]}
    run.write("choices", step=1, slice="arc", values={"accuracy": 0.5}, questions=questions, seconds=2)
    ingest.poll()
    assert rows(projection, "SELECT suite, value, lo, hi, n, seconds FROM evals ORDER BY suite") == [
        ("choices.arc", 0.5, None, None, None, 2.0),
        ("heldout", 0.5, None, 0.7, 3, None),
    ]
    scored = rows(projection, "SELECT example, nll, tokens, tokens_right FROM eval_examples ORDER BY example")
    assert str(scored) == "[('a', 1.0, 5, 1), ('b', None, 5, None), ('c', nan, None, None)]"
    assert rows(projection, "SELECT example, chosen FROM choice_answers ORDER BY ALL") == [
        ("q", None),
        ("r", 1),
    ]
    told = [said for (said,) in rows(projection, "SELECT message FROM events WHERE kind = 'unreadable'")]
    for part in (
        "values.loss: lo",
        "examples.nll: 'x'",
        "examples.tokens",
        "examples.right",
        "seconds",
        "chosen",
    ):
        assert any(part in message for message in told), part


def test_a_damaged_exit_json_leaves_the_end_as_it_is(
    home: FakeHome, projection: Projection, ingest: Ingest
) -> None:
    run = finished(home, 1, "demo", [3.0])
    (run.path / "attempts" / "1" / "exit.json").write_text('{"exit_code": [1]}')
    ingest.poll()
    assert rows(projection, "SELECT state FROM runs") == [("finished",)]
    assert rows(projection, "SELECT exit_code FROM attempts") == [(0,)]  # the daemon's word
    assert "attempts/1/exit.json: exit_code: [1] is not a whole number" in ingest.damaged[1]


def test_a_damaged_run_json_leaves_the_rest(home: FakeHome, projection: Projection, ingest: Ingest) -> None:
    run = finished(home, 1, "demo", [3.0])
    body = json.loads((run.path / "run.json").read_text())
    write_json(run.path / "run.json", {**body, "created": 1e300, "datasets": [7], "recipe": [1]})
    ingest.poll()
    assert rows(projection, "SELECT name, state, created, host FROM runs") == [
        ("demo", "finished", None, "box")
    ]
    assert rows(projection, LOSSES) == [(1, [3.0])]
    assert "run.json" in ingest.damaged[1]


def test_whoever_asks_is_answered_by_the_next_round(
    home: FakeHome, projection: Projection, ingest: Ingest
) -> None:
    assert str(ingest.caught_up(0.0)).startswith("logs are being read into the database")
    run = finished(home, 1, "demo", [3.0])
    ingest.poll()
    assert ingest.caught_up(0.0) is None
    run.journal("note", text="x")
    ticket = ingest.ask()
    assert not ingest.answered(ticket, 0.0)
    ingest.poll()
    assert ingest.answered(ticket, 0.0)


def test_a_daemon_that_stops_reads_no_further(home: FakeHome, projection: Projection, ingest: Ingest) -> None:
    finished(home, 1, "demo", [3.0])
    ingest.halt()
    assert ingest.poll() == 0
    assert rows(projection, "SELECT count(*) FROM runs") == [(0,)]
    again(projection, home)
    assert rows(projection, LOSSES) == [(1, [3.0])]


def test_an_edited_run_is_there_at_every_moment(
    home: FakeHome, projection: Projection, ingest: Ingest, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = home.run(1, name="before")
    run.journal("submitted", state="queued")
    ingest.poll()
    seen: list[list[Any]] = []
    write = projection.write

    @contextmanager
    def watched() -> Iterator[Any]:
        with write() as cursor:
            yield cursor
        seen.append(rows(projection, "SELECT run, name FROM runs"))

    monkeypatch.setattr(projection, "write", watched)
    body = json.loads((run.path / "run.json").read_text())
    write_json(run.path / "run.json", {**body, "name": "after"})
    ingest.poll()
    assert seen, "something was written"
    assert {len(runs) for runs in seen} == {1}
    assert seen[-1] == [(1, "after")]


def test_a_run_json_in_the_middle_of_a_copy_is_waited_for(
    home: FakeHome, projection: Projection, ingest: Ingest
) -> None:
    ingest.poll()
    run = finished(home, 1, "demo", [3.0])
    whole = (run.path / "run.json").read_text()
    (run.path / "run.json").write_text(whole[:100])
    ingest.poll()
    assert rows(projection, "SELECT count(*) FROM runs") == [(0,)]
    (run.path / "run.json").write_text(whole)
    ingest.poll()
    assert rows(projection, "SELECT state, host FROM runs") == [("finished", "box")]
    assert ingest.damaged == {}
