"""Sweeps in the run table: one line until they are opened, and the cursor stays where it was."""

from __future__ import annotations

from dataclasses import replace

from tui import run_filter
from tui.lines import sweeps
from tui.lines.theme import to_ascii
from tui.rows import Run, Snapshot
from tui.run_list import RunList
from tui.widgets import run_table
from tui.widgets.run_table import TableView


def run(number: int, name: str, state: str = "finished", sweep: str = "a", **more: object) -> Run:
    return Run(number, name, state, sweep=sweep, **more)  # type: ignore[arg-type]


RUNS = (
    run(1, "alone", sweep=""),
    run(2, "mine lr=0.1 r=4", heldout_best=2.5),
    run(3, "mine lr=0.2 r=4", heldout_best=2.1, flags=1, flag_level="critical"),
    run(4, "mine lr=0.3 r=8", "cancelled", heldout_best=3.0),
    run(5, "other", sweep="b"),
)


def names(listed: RunList, snapshot: Snapshot) -> list[str]:
    return [f"#{one.number} {one.name}" for one in listed.runs(snapshot)]


def test_a_sweep_is_one_line_that_opens() -> None:
    listed, snapshot = RunList(down=False), Snapshot(RUNS)
    assert names(listed, snapshot) == ["#1 alone", "#3 ▸ mine · 3 runs", "#5 other"], (
        "one of a sweep is itself"
    )
    line = listed.runs(snapshot)[1]
    assert (line.state, line.step, line.total_steps) == ("finished", 3, 3)
    assert (line.heldout, line.flags, line.flag_level) == (2.1, 1, "critical")
    listed.place(snapshot, 1)
    target = listed.target(snapshot)
    assert target is not None
    assert (target.number, target.name) == (3, "mine lr=0.2 r=4"), "keys act on the run itself"
    assert listed.turn(snapshot)
    assert names(listed, snapshot) == [
        "#1 alone",
        "#2 lr=0.1 r=4",
        "#3 lr=0.2 r=4",
        "#4 lr=0.3 r=8",
        "#5 other",
    ]
    assert listed.index(snapshot) == 2, "the cursor is on the run that it was on"
    assert listed.turn(snapshot)
    assert len(listed.runs(snapshot)) == 3
    listed.place(snapshot, 0)
    assert not listed.turn(snapshot), "no sweep is there"


def test_the_line_is_that_of_the_run_that_goes_on_and_keeps_the_cursor() -> None:
    listed, snapshot = RunList(down=False), Snapshot(RUNS)
    listed.place(snapshot, 1)
    running = (*RUNS[:3], RUNS[3]._replace(state="running"), RUNS[4])
    later = replace(snapshot, runs=running)
    assert names(listed, later)[1] == "#4 ▸ mine · 3 runs"
    assert listed.runs(later)[1].state == "running"
    assert listed.index(later) == 1
    target = listed.target(later)
    assert target is not None
    assert target.number == 4


def test_a_filter_finds_runs_of_sweeps_and_sweeps() -> None:
    listed, snapshot = RunList(down=False), Snapshot(RUNS)
    listed.filter = "r=4"
    listed.filter = "lr=0.1"
    listed.filter = "mine"
    assert [one.number for one in listed.runs(snapshot)] == [2, 3, 4]
    for text, numbers in (
        ("sweep:4", {2, 3, 4}),
        ("sweep:#5", {5}),
        ("sweep:1", set()),
        ("sweep!=2", {1, 5}),
    ):
        assert {one.number for one in run_filter.arrange(RUNS, text, "#", True, {})} == numbers, text


def test_a_held_run_looks_and_is_found_as_one() -> None:
    waiting, held = Run(1, "one", "queued"), Run(2, "two", "queued", held=True)
    shown = [
        "".join(text for text, _ in line)
        for line in run_table.lines(TableView((waiting, held), 0, 0, {}), 80, 5)
    ]
    assert "○ queued" in shown[1]
    assert "◎ held" in shown[2]
    assert to_ascii("◎ held") == "@ held"
    assert Run(3, "x", "running", held=True).standing == "running", "it was held once"
    assert [run.number for run in run_filter.arrange((waiting, held), "held", "#", True, {})] == [2]


def test_letters_in_their_order_are_enough_where_no_run_has_the_word() -> None:
    listed, snapshot = RunList(down=False), Snapshot(RUNS)
    for text, numbers, is_fuzzy in (
        ("mine", [2, 3, 4], False),
        ("mn", [2, 3, 4], True),
        ("mnr8", [4], True),
        ("state:finished mnr", [2, 3], True),
        ("enim", [], True),
        ("state:running", [], False),
    ):
        listed.filter = text
        assert [one.number for one in listed.runs(snapshot)] == numbers, text
        assert listed.is_fuzzy is is_fuzzy, text


def test_names_and_states_of_a_sweep() -> None:
    assert sweeps.name_of(["a b r=1", "a b r=2"]) == "a b"
    assert sweeps.name_of(["r=1", "r=2"]) == "r=1"
    assert sweeps.state_of(["finished", "queued", "failed"]) == "queued"
    assert sweeps.ended(["finished", "queued", "paused", "running"]) == 2
    assert sweeps.summary(["finished", "queued", "finished"]) == "3 runs: 1 queued, 2 finished"


def test_a_run_that_is_asked_for_is_waited_for() -> None:
    listed = RunList(select=9)
    listed.start(Snapshot(RUNS, loaded=True))
    assert listed.cursor is None
    assert listed.index(Snapshot(RUNS, loaded=True)) == 0, "on top meanwhile"
    listed.start(Snapshot((*RUNS, Run(9, "late", "queued")), loaded=True))
    assert listed.cursor == 9
