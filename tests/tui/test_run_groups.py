"""The run table in groups: what stands below which head, what opens and closes, and where the cursor stays."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace

import pytest
from made_home import Served
from pilot import ready, status, text_of, type_text, until
from test_cli_ls import finetui

from finetui.errors import ExitCode
from tui.app import FinetuiApp
from tui.rows import Run, Snapshot, ask
from tui.run_groups import FIELDS, Head
from tui.run_list import RunList

MakeApp = Callable[..., FinetuiApp]


def run(number: int, name: str, state: str = "finished", **more: object) -> Run:
    return Run(number, name, state, **more)  # type: ignore[arg-type]


HELD, TURN = "it is held; finetui release 5 lets it start", "run #3 is running; 1 run at a time"
RUNS = (
    run(1, "alone", heldout_best=2.0, tags="old"),
    run(2, "mine r=4", sweep="a", heldout_best=1.5, tags="night old"),
    run(3, "mine r=8", "running", sweep="a", tags="night"),
    run(4, "mine r=16", "queued", sweep="a", waiting_for=TURN),
    run(5, "mine r=32", "queued", sweep="a", waiting_for=HELD),
    run(6, "later", "interrupted", waiting_for=f"{TURN}; 1 run ahead of it"),
)
SNAPSHOT = Snapshot(RUNS, {3: 5400.0})


def listed(by: str, snapshot: Snapshot = SNAPSHOT) -> RunList:
    made = RunList(down=False, by=by)
    made.start(snapshot)
    return made


def lines(of: RunList, snapshot: Snapshot = SNAPSHOT) -> list[str]:
    shown = of.lines(snapshot)
    return [f"{line.name}: {line.facts}" if isinstance(line, Head) else f"#{line.number}" for line in shown]


def test_groups_of_states_say_why_runs_wait_and_what_is_left() -> None:
    by_state = listed("state")
    assert lines(by_state) == [
        "running: 1 run",
        "#3",
        "waiting: 3 runs: 1 interrupted, 2 queued · 2: run #3 is running, 1: it is held",
        "#4",
        "#6",
        "done: 2 runs · best held-out 1.500 (#2)",
        "#1",
        "#2",
    ]
    first = by_state.lines(SNAPSHOT)[0]
    assert isinstance(first, Head)
    assert first.left(SNAPSHOT.etas) == "1h 30m left"
    by_state.filter = "mine"
    assert [line for line in lines(by_state) if line.startswith("#")] == ["#3", "#4", "#5", "#2"], (
        "all are found"
    )


def test_a_group_closes_and_opens_and_keys_on_its_head_mean_all_of_it() -> None:
    by_state = listed("state")
    assert by_state.cursor == 3
    by_state.place(SNAPSHOT, 4)  # run 6, of no sweep
    assert by_state.turn(SNAPSHOT)
    assert [line for line in lines(by_state) if line.startswith("#")] == ["#3", "#1", "#2"]
    assert by_state.index(SNAPSHOT) == 2
    assert [one.number for one in by_state.members(SNAPSHOT)] == [4, 5, 6]
    assert by_state.all_runs(SNAPSHOT) == [3, 4, 5, 6, 1, 2]
    later = replace(SNAPSHOT, runs=(*RUNS[:5], RUNS[5]._replace(state="finished")))
    assert [one.number for one in by_state.members(later)] == [4, 5], "the cursor stays on the group"
    assert by_state.turn(later)
    by_state.place(later, 99)
    assert by_state.cursor == 6
    assert by_state.index(SNAPSHOT) == 4, "the cursor goes with the run"


def test_a_sweep_is_a_group_with_the_settings_of_its_runs() -> None:
    by_sweep = listed("sweep")
    heads = [line.name for line in by_sweep.lines(SNAPSHOT) if isinstance(line, Head)]
    assert heads == ["mine", "no sweep"]
    assert [one.name for one in by_sweep.runs(SNAPSHOT)] == ["r=4", "r=8", "r=16", "r=32", "alone", "later"]
    by_sweep.place(SNAPSHOT, 2)
    assert by_sweep.turn(SNAPSHOT)
    assert len(by_sweep.lines(SNAPSHOT)) == 4


def test_a_run_with_two_tags_stands_below_both_and_the_cursor_on_either() -> None:
    by_tag = listed("tag")
    by_tag.filter = "#"  # opens sweeps
    assert [line for line in lines(by_tag) if "#" in line[:1] or "no tag" in line][:4] == [
        "#1",
        "#2",
        "#2",
        "#3",
    ]
    places = []
    for at in range(len(by_tag.lines(SNAPSHOT))):
        by_tag.place(SNAPSHOT, at)
        places.append(by_tag.index(SNAPSHOT))
    assert places == list(range(len(places)))
    assert len(by_tag.all_runs(SNAPSHOT)) == 6


@pytest.mark.parametrize("by", FIELDS)
def test_a_group_of_one_is_one_run(by: str) -> None:
    for one in RUNS:
        alone = Snapshot((one,))
        head = " ".join(
            line.facts if isinstance(line, Head) else line.name for line in listed(by, alone).lines(alone)
        )
        assert "1 run" in head
        assert "1 runs" not in head


def test_values_of_a_column_are_groups_as_soon_as_they_have_come() -> None:
    by_data = listed("data.train")
    request = ask("column", key="data.train")
    assert request in set(by_data.wants())
    assert not any(isinstance(line, Head) for line in by_data.lines(SNAPSHOT))
    values = [{"run": number, "value": "a.jsonl" if number < 4 else "b.jsonl"} for number in range(1, 6)]
    came = replace(SNAPSHOT, answers={request: values})
    heads = [line.name for line in by_data.lines(came) if isinstance(line, Head)]
    assert heads == ["a.jsonl", "b.jsonl", "no data.train"]


async def test_the_key_asks_by_what_and_that_is_remembered(make_app: MakeApp) -> None:
    app = make_app()
    async with app.run_test(size=(80, 24)) as pilot:
        await ready(pilot)
        await pilot.press("b")
        assert status(app).startswith("group by:")
        await pilot.press("s")
        shown = text_of(app, "#table")
        assert " ▾ running  1 run" in shown
        await pilot.press("g", "o", "j")
        assert app.state.run_list.cursor == 4
        await until(pilot, lambda: "○ queued     run #3 is running" in text_of(app, "#table"), "why it waits")
        await pilot.press("k", "space")
        assert app.state.marked == [3]
        await pilot.press("b", "c")
        await until(pilot, lambda: app.focused is not None, "the prompt")
        await type_text(pilot, "data.tr")
        await until(pilot, lambda: app.focused._suggestion == "data.train", "a completion")
        await pilot.press("tab", "enter")
        await ready(pilot)
        assert "▾ bundled:docstrings  5 runs: " in text_of(app, "#table")
        await pilot.press("M")
        assert set(app.state.marked) == {1, 2, 3, 4, 5}
        app.remembered.keep_session(app.state, False, None, {})
    assert make_app().state.run_list.by == "data.train"


def test_the_list_of_the_command_line_has_the_same_groups(
    served: Served, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    assert finetui(served, monkeypatch, "ls", "--by", "state") == ExitCode.OK
    heads = [line for line in capsys.readouterr().out.splitlines() if " · " in line]
    assert [head.split(" · ")[0] for head in heads] == ["running", "waiting", "done"]
    assert "3 runs: 2 finished, 1 failed · best held-out 1.215 (#2)" in heads[-1]
    assert finetui(served, monkeypatch, "ls", "--by", "method.r", "--json") == ExitCode.OK
    groups = json.loads(capsys.readouterr().out)
    assert {one["group"]: len(one["runs"]) for one in groups} == {"16": 3, "64": 1, "no method.r": 1}
    assert finetui(served, monkeypatch, "ls", "--by", "method.x") == ExitCode.REFUSED
    assert "no run has it" in capsys.readouterr().err


async def test_the_header_says_that_runs_only_have_the_letters(make_app: MakeApp) -> None:
    app = make_app()
    async with app.run_test(size=(80, 24)) as pilot:
        await ready(pilot)
        app.state.run_list.filter = "dclr64"
        app.refresh_screen()
        assert [run.number for run in app.state.run_list.runs(app.state.snapshot)] == [4]
        assert "fuzzy: dclr64" in text_of(app, "#header")
        app.state.run_list.filter = "lora"
        app.refresh_screen()
        assert "filter: lora" in text_of(app, "#header")
