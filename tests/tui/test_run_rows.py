"""The runs of the table's answers, made anew where they have moved on, are those that would be made of all of it."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from finetui.home import Home
from tui import poller
from tui.rows import Index, Run, Snapshot, ask, differing, runs_of
from tui.run_list import RunList
from tui.run_rows import RunRows, changed_rows

STATES = ("queued", "running", "finished")


def table_of(rows: list[dict[str, Any]]) -> pa.Table:
    types = {"run": pa.int64(), "name": pa.string(), "state": pa.string(), "step": pa.int64(),
             "loss": pa.float64(), "sweep": pa.string(), "eta_s": pa.float64()}  # fmt: skip
    return pa.Table.from_pylist(rows, schema=pa.schema(list(types.items())))


def row(number: int, draw: random.Random) -> dict[str, Any]:
    return {
        "run": number, "name": draw.choice(["lora a", "full b"]), "state": draw.choice(STATES),
        "step": draw.choice([None, 1, 2]), "loss": draw.choice([None, 1.5, 2.5]),
        "sweep": draw.choice([None, "s", "t"]), "eta_s": draw.random(),
    }  # fmt: skip


def later(rows: list[dict[str, Any]], draw: random.Random) -> list[dict[str, Any]]:
    """The rows of the next look: some have moved on, and now and then one has come or gone."""
    rows = [row(one["run"], draw) if draw.random() < 0.3 else one for one in rows]
    if draw.random() < 0.3:
        rows.append(row(rows[-1]["run"] + 1, draw))
    if draw.random() < 0.2 and len(rows) > 2:
        del rows[draw.randrange(len(rows))]
    return rows


def test_rows_that_moved_on_are_those_of_the_whole_table() -> None:
    draw = random.Random(3)
    rows, held = [row(number, draw) for number in range(1, 9)], RunRows()
    for _ in range(200):
        table = table_of(rows)
        held.take(table)
        assert held.runs == runs_of(table)
        whole = Index.of(held.runs)
        assert held.index.by_number == whole.by_number
        assert +held.index.states == whole.states
        rows = later(rows, draw)


def test_runs_that_have_not_moved_on_are_the_same_ones() -> None:
    draw = random.Random(4)
    rows, held = [row(number, draw) for number in range(1, 9)], RunRows()
    held.take(table_of(rows))
    before = held.runs
    held.take(table_of([{**one, "eta_s": 5.0} for one in rows]))
    assert held.runs is before, "the time left is not shown by it"
    rows[3] = {**rows[3], "step": 77}
    held.take(table_of(rows))
    assert [run.number for run in differing(held.runs, before)] == [4]
    assert held.runs[3].step == 77


def test_null_is_another_value_and_rows_between_are_not_told_apart() -> None:
    one, two = {"run": 1, "loss": None}, {"run": 2, "loss": 2.0}
    assert changed_rows(table_of([one, two]), table_of([{**one, "loss": 1.0}, {**two, "loss": None}])) == [
        0,
        1,
    ]
    assert changed_rows(table_of([one, two]), table_of([one, two, {"run": 3}])) == [2]
    assert changed_rows(table_of([one, two]), table_of([two])) is None


def test_a_list_that_follows_is_the_list_that_is_made_anew() -> None:
    draw = random.Random(5)
    for text in ("", "lora", "state:running", "step>1", "no such word", "sweep:1"):
        for sort in ("#", "train", "state"):
            following = RunList(sort=sort, down=draw.random() < 0.5)
            following.filter = text
            rows, held = [row(number, draw) for number in range(1, 9)], RunRows()
            for at in range(60):
                held.take(table_of(rows))
                snapshot = Snapshot(held.runs, loaded=True, made=held.index)
                fresh = RunList(sort=sort, down=following.down)
                fresh.filter = text
                if at == 30 and not text:
                    following.turn(snapshot)  # a sweep is open from here on
                fresh._opened = following._opened
                assert following.lines(snapshot) == fresh.lines(snapshot)
                following.place(snapshot, draw.randrange(8))
                fresh.go_to(following.cursor or 0)
                assert following.index(snapshot) == fresh.index(snapshot)
                assert following.members(snapshot) == fresh.members(snapshot)
                rows = later(rows, draw)


def test_what_has_become_wanted_is_asked_for_without_the_run_table(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(poller, "IDLE", 600.0)
    asked, shown = [], []

    class Client:
        def named(self, name: str, **args: Any) -> pa.Table:
            asked.append(name)
            return table_of([{"run": 1, "state": "finished"}])

    looking = poller.Poller(Home(tmp_path), Client, shown.append)
    looking._look()
    looking.want([ask("flags", run=1)])
    looking._look()
    assert asked == ["runs", "flags"]
    assert shown[-1].has(ask("flags", run=1))
    assert shown[-1].runs is shown[0].runs
    looking.poke()
    looking._look()
    assert asked == ["runs", "flags", "runs"], "something was asked of the daemon"


def test_only_what_moved_on_is_put_in_its_place() -> None:
    """The others' lines are the same objects: nothing was made of the whole list."""
    runs = tuple(Run(number, f"run-{number}", "finished") for number in range(1, 50))
    listed = RunList()
    lines = listed.lines(Snapshot(runs))
    moved = (*runs[:9], runs[9]._replace(step=3), *runs[10:])
    assert listed.lines(Snapshot(moved)) is lines
    assert lines[39] is moved[9]
