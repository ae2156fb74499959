"""`finetui sweep`: the runs of a sweep on a real daemon."""

from __future__ import annotations

import json

from live import RECIPE, Line, Live

from finetui.errors import ExitCode


def test_the_runs_of_a_sweep_are_shown_the_best_first(live: Live, finetui: Line) -> None:
    recipe = live.recipe(RECIPE + "sweep: {method.r: [4, 8]}\n", script='{"steps": 2}')
    numbers = [int(number) for number in finetui("run", recipe).out.split()]
    assert finetui("wait", *numbers, "--timeout", 60).code == ExitCode.OK
    shown = finetui("sweep", numbers[1])
    assert shown.code == ExitCode.OK
    assert "2 runs, " in shown.out
    assert shown.out.splitlines()[0].split()[:3] == ["run", "state", "r"]
    body = json.loads(finetui("sweep", numbers[0], "--json").out)
    assert {one["settings"]["method.r"] for one in body["runs"]} == {"4", "8"}
    refused = finetui("sweep", live.finished)
    assert refused.code == ExitCode.REFUSED
    assert f"run #{live.finished} belongs to no sweep" in refused.err


def test_a_sweep_is_one_line_of_ls_and_is_cancelled_by_any_of_its_runs(live: Live, finetui: Line) -> None:
    recipe = live.recipe(RECIPE + "name: pair\nsweep: {method.r: [4, 8, 16]}\n", script='{"steps": 100000}')
    numbers = [int(number) for number in finetui("run", recipe).out.split()]
    listed = [line for line in finetui("ls", "--folded").out.splitlines() if "pair" in line]
    assert len(listed) == 1
    assert listed[0].split()[:2] == [f"{numbers[0]}…{numbers[-1]}", "pair"]
    assert len([line for line in finetui("ls").out.splitlines() if " pair " in line]) == 3
    assert len(json.loads(finetui("ls", "--json").out)) >= 3
    ended = finetui("cancel", f"sweep:{numbers[1]}", "--yes")
    assert ended.code == ExitCode.OK, ended.err
    assert finetui("wait", *numbers, "--timeout", 60).code == ExitCode.FAILED
    (line,) = [line for line in finetui("ls", "--folded").out.splitlines() if "pair" in line]
    assert "sweep of 3 runs: 3 cancelled" in line


def test_runs_are_added_to_a_sweep_that_was_drawn_and_to_no_grid(live: Live, finetui: Line) -> None:
    drawn = "name: drawn\nsweep: {runs: 2, seed: {from: 1, to: 1000}}\n"
    numbers = finetui("run", live.recipe(RECIPE + drawn, script='{"steps": 2}')).out.split()
    added = finetui("sweep", numbers[0], "--add", 2)
    assert added.code == ExitCode.OK, added.err
    more = added.out.split()
    assert len(more) == 2
    assert finetui("wait", *numbers, *more, "--timeout", 60).code == ExitCode.OK
    body = json.loads(finetui("sweep", numbers[1], "--json").out)
    assert body["plan"] == {"runs": 4, "search": "random", "done": "all its runs are queued"}
    assert len({one["settings"]["seed"] for one in body["runs"]}) == 4, "none twice"
    grid = finetui(
        "run", live.recipe(RECIPE + "sweep: {method.r: [4, 8]}\n", script='{"steps": 2}')
    ).out.split()
    refused = finetui("sweep", grid[0], "--add", 1)
    assert refused.code == ExitCode.REFUSED
    assert "is a grid, and has every combination" in refused.err


def test_what_a_search_needs_is_asked_for(live: Live, finetui: Line) -> None:
    text = RECIPE.replace(", heldout: 8", ", heldout: 0") + "sweep: {method.r: [4, 8], stop_losers: true}\n"
    refused = finetui("check", live.recipe(text))
    assert refused.code == ExitCode.BAD_INPUT, refused.err
    text = RECIPE + "sweep: {runs: 12, search: tpe, train.lr: {from: 1.0e-4, to: 1.0e-2, scale: log}}\n"
    checked = finetui("check", live.recipe(text))
    assert "good, 4 runs, and 8 more whose values follow from results" in checked.out
