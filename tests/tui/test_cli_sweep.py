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
