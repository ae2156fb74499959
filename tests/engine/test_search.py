"""Sweeps that go on by themselves: what is proposed, who cannot win any more, and that nothing is done twice."""

from __future__ import annotations

import json
import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from supervision import until
from with_daemon import a_home, kill_daemon, row, wait_state

from engine.basics.errors import QueueError
from engine.client import preflight
from engine.client.submit import submit
from engine.queue.sweeps import Sweeps
from engine.recipe.methods import DEFAULT_LR
from engine.recipe.recipe_file import parse, read
from engine.recipe.sweep import Range, Sweep
from engine.recipe.sweep import read as read_section
from engine.runs.sweep_plan import plan_path, read_plan
from engine.search.losers import Example, Look, Progress, behind
from engine.search.propose import Trial, propose
from finetui.client import Client
from finetui.daemon import connect
from finetui.errors import StoreError
from finetui.home import Home

RECIPE = """\
# {script}
name: swept
model: bundled:stdlib-2m
method: lora
data: {{train: bundled:docstrings, limit: 48, heldout: 8}}
train: {{max_steps: 8, max_length: 48}}
sweep:
{sweep}
"""
RATES = {"train.lr": Range(1e-5, 1e-1, log=True, whole=False), "method.r": [4, 8]}

# ---- what is proposed


def goodness(values: dict[str, Any]) -> float:
    import math

    return 2.0 + abs(math.log10(values["train.lr"] / 1e-3))


def trials_of(sweep: Sweep, count: int) -> list[Trial]:
    made: list[Trial] = []
    while len(made) < count:
        values = propose(sweep, count, made)
        assert values is not None
        made.append(Trial(values, "finished", result=goodness(values)))
    return made


def test_the_first_are_drawn_and_the_others_learn_from_them() -> None:
    sweep = Sweep(RATES, 30, 0, "tpe")
    made = trials_of(sweep, 30)
    drawn = [dict(zip(sweep.keys, one, strict=True)) for one in Sweep(RATES, 30).combinations()]
    assert [dict(trial.values) for trial in made[:10]] == drawn[:10]
    assert len({repr(trial.values) for trial in made}) == 30, "nothing twice"
    late = sum(goodness(dict(trial.values)) for trial in made[-10:]) / 10
    early = sum(goodness(dict(trial.values)) for trial in made[:10]) / 10
    assert late < early - 0.3
    assert trials_of(sweep, 12) == made[:12] or sweep.initial_runs(12) != sweep.initial_runs(30)
    assert propose(sweep, 30, made[:20]) == propose(sweep, 30, made[:20]), (
        "the same results, the same proposal"
    )


def test_values_are_those_of_the_recipe() -> None:
    sweep = Sweep(
        {
            "train.lr": Range(1e-5, 1e-3, True, False),
            "method.r": Range(4, 64, True, True),
            "method.targets": [["q_proj"], ["q_proj", "v_proj"], "all-linear"],
        },
        12,
        0,
        "tpe",
    )
    made: list[Trial] = []
    chance = random.Random(0)
    for _ in range(12):
        values = propose(sweep, 12, made)
        assert values is not None
        assert 1e-5 <= values["train.lr"] <= 1e-3
        assert values["train.lr"] == float(f"{values['train.lr']:.3g}")
        assert isinstance(values["method.r"], int)
        assert 4 <= values["method.r"] <= 64
        assert values["method.targets"] in sweep.values["method.targets"]  # type: ignore[operator]
        made.append(Trial(values, "finished", result=chance.random()))


def test_runs_that_failed_were_stopped_or_still_run_count_as_what_they_are() -> None:
    sweep = Sweep(RATES, 20, 0, "tpe")
    made = trials_of(sweep, 10)
    mixed = [
        *made[:7],
        Trial(made[7].values, "failed"),
        Trial(made[8].values, "stopped", {4: 3.5, 8: 3.2}, 3.2),
        Trial(made[9].values, "open"),
    ]
    values = propose(sweep, 20, mixed)
    assert values is not None
    assert values not in [dict(trial.values) for trial in mixed]


def test_where_all_was_tried_nothing_is_proposed() -> None:
    sweep = Sweep({"method.r": [4, 8], "seed": [0, 1]}, 4, 0, "tpe")
    made: list[Trial] = []
    while values := propose(sweep, 9, made):
        made.append(Trial(values, "finished", result=1.0))
    assert len(made) == 4


# ---- who cannot win


def look(loss: float, spread: float, seed: int, n: int = 40) -> Look:
    """Examples whose mean loss is about this; how hard each is stays the same."""
    hard, chance = random.Random(1), random.Random(seed)
    return {
        f"e{place}": Example(20 * (loss + hard.gauss(0, 0.5) + chance.gauss(0, spread)), 20, f"e{place}")
        for place in range(n)
    }


def progress(losses: dict[int, float], steps: int = 80, spread: float = 0.05, seed: int = 0) -> Progress:
    return Progress(steps, {step: look(loss, spread, 100 * seed + step) for step, loss in losses.items()})


BEST = progress({0: 4.0, 20: 2.6, 40: 2.3, 80: 2.1})


def test_a_run_far_behind_that_gains_little_is_stopped() -> None:
    found = behind(progress({0: 4.0, 20: 3.4, 40: 3.2}, seed=1), BEST)
    assert found is not None
    assert found.step == 40
    assert found.n == 40
    assert 0.8 < found.difference < 1.0
    assert 0.4 < found.least < found.difference, "it may still gain what its last doubling brought"


@pytest.mark.parametrize(
    "losses",
    [
        {0: 4.0, 20: 2.6, 40: 2.3},  # as good
        {0: 4.0, 20: 3.4, 40: 2.6},  # behind, but fast
        {0: 4.0, 20: 3.0},  # too early to say: half of it is the start
        {0: 4.0},
        {0: 4.0, 20: 2.2, 40: 2.9, 60: 3.4},  # it was ahead, and has overfitted: its best counts
        {},
    ],
)
def test_a_run_that_may_still_win_goes_on(losses: dict[int, float]) -> None:
    assert behind(progress(losses, seed=2), BEST) is None


def test_a_run_that_learns_nothing_is_stopped_at_its_first_look() -> None:
    found = behind(progress({0: 4.0, 20: 4.2}, seed=3), BEST)
    assert found is not None
    assert found.step == 20


def test_runs_of_other_lengths_are_compared_at_the_same_share() -> None:
    longer = progress({0: 4.0, 80: 3.4, 160: 3.2}, steps=320, seed=4)
    assert behind(longer, BEST) is not None
    assert behind(progress({0: 4.0, 2: 3.9}, steps=320, seed=4), BEST) is None, (
        "the best had no look so early"
    )


def test_equal_runs_are_rarely_stopped() -> None:
    """The stated level: at most 5% of runs that are no worse, over all their looks."""
    steps = (0, 10, 20, 40, 60, 80)
    curve = {0: 4.0, 10: 2.3, 20: 2.3, 40: 2.3, 60: 2.3, 80: 2.3}  # nothing more to gain: the hardest case
    stopped = 0
    for seed in range(300):
        best = progress(curve, seed=2 * seed + 11, spread=0.3)
        whole = progress(curve, seed=2 * seed + 12, spread=0.3)
        stopped += any(
            behind(Progress(80, {step: whole.looks[step] for step in steps[: count + 1]}), best) is not None
            for count in range(1, 5)
        )
    assert stopped <= 15 + 12


# ---- with a daemon


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    with a_home(tmp_path_factory.mktemp("search") / "home") as home:
        yield home


@pytest.fixture
def client(home: Home) -> Iterator[Client]:
    with connect(home) as client:
        yield client


def queue(client: Client, sweep: str, script: str = '{"steps": 8, "look_every": 2}') -> tuple[str, list[int]]:
    file = parse(RECIPE.format(script=script, sweep=sweep), Path("swept.yaml"))
    numbers = submit(client, file, [preflight.check(recipe, Path.cwd()) for recipe in file.recipes])
    return row(client, numbers[0])["sweep"], numbers


def runs_of(client: Client, uuid: str) -> list[dict[str, Any]]:
    client.drain()
    return client.query(f"SELECT * FROM runs WHERE sweep = '{uuid}' ORDER BY run").to_pylist()


def until_done(home: Home, uuid: str) -> str:
    def why() -> str | None:
        plan = read_plan(home, uuid)
        return plan.done if plan else None

    return until("the end of the sweep", lambda: why() or "")


def test_a_sweep_goes_on_by_itself_and_through_the_death_of_daemon_and_searcher(home: Home) -> None:
    with connect(home) as client:
        uuid, numbers = queue(
            client, "  runs: 8\n  search: tpe\n  train.lr: {from: 1.0e-4, to: 1.0e-2, scale: log}"
        )
        assert len(numbers) == 4, "the others wait for results"
        wait_state(client, numbers[1], "finished")
    kill_daemon(home)
    with connect(home) as client:
        assert until_done(home, uuid) == "all its runs have ended"
        runs = runs_of(client, uuid)
        assert [run["state"] for run in runs] == ["finished"] * 8
        names = [run["name"] for run in runs]
        assert len(set(names)) == 8
        assert all(name.startswith("swept lr=") for name in names)
        assert client.action("status")["problems"] == []
        added = client.action("sweep_add", sweep=uuid, runs=1, before=8)
        assert added == {"runs": 9}
        until("the ninth", lambda: len(runs_of(client, uuid)) == 9)
        assert until_done(home, uuid) == "all its runs have ended"


def test_a_run_that_cannot_win_is_stopped_and_says_why(client: Client, home: Home) -> None:
    script = '{"steps": 400, "look_every": 50, "step_s": 0.01}'
    uuid, (good, bad) = queue(client, "  stop_losers: true\n  train.lr: [1.0e-3, 1.0e-5]", script)
    found = wait_state(client, bad, "cancelled")
    assert row(client, good)["state"] == "finished"
    assert found["reason"].startswith("stopped at step "), found["reason"]
    assert f"it can no longer become better than #{good}" in found["reason"]
    assert found["step"] < 400
    until_done(home, uuid)


def test_no_run_starts_beyond_the_limit(client: Client, home: Home) -> None:
    seeds = list(range(30))  # a second each: on a busy machine some start before the first look at the limit
    uuid, numbers = queue(client, f"  max_hours: 1.0e-4\n  seed: {seeds}", '{"steps": 100, "step_s": 0.01}')
    why = until_done(home, uuid)
    assert "of 0.0001 hours (max_hours)" in why
    states = [run["state"] for run in runs_of(client, uuid)]
    assert states[0] == "finished"
    assert states[-1] == "cancelled"
    assert row(client, numbers[-1])["reason"].startswith("not started: its runs")


def test_what_cannot_be_added_to_is_said(client: Client) -> None:
    for uuid in ("none", "../../etc"):
        with pytest.raises(StoreError, match="this sweep has no plan in this home"):
            client.action("sweep_add", sweep=uuid, runs=1, before=1)
    with pytest.raises(StoreError, match="the submitted sweep is not valid"):
        client.action("sweep", uuid="x")


def test_sections_are_read_as_they_are_written() -> None:
    sweep = read_section(
        {"runs": 5, "search": "tpe", "stop_losers": True, "max_hours": 2, "max_cost": 1.5, "seed": [1, 2]}
    )
    assert (sweep.search, sweep.stop_losers, sweep.max_hours, sweep.max_cost) == ("tpe", True, 2.0, 1.5)
    assert sweep.keys == ["seed"]


# ---- found by a reviewer, and mended


def test_each_method_keeps_its_own_defaults_and_paths_are_those_of_the_command(
    home: Home, tmp_path: Path
) -> None:
    """What the first recipe was filled up with is none of the others' business."""
    for name in ("a", "b"):
        (tmp_path / f"{name}.jsonl").write_text(
            "".join(f'{{"prompt": "{name} {place}", "completion": "yes {place}"}}\n' for place in range(40))
        )
    text = RECIPE.format(
        script='{"steps": 4, "look_every": 2}',
        sweep="  runs: 6\n  search: tpe\n  method: [full, lora]\n  data.train: [a.jsonl, b.jsonl]\n"
        "  seed: {from: 1, to: 99}",
    ).replace("train: bundled:docstrings", "train: a.jsonl")
    (tmp_path / "swept.yaml").write_text(text)
    file = read(tmp_path / "swept.yaml")
    with connect(home) as client:
        numbers = submit(client, file, [preflight.check(one, tmp_path) for one in file.recipes])
        uuid = row(client, numbers[0])["sweep"]
        until_done(home, uuid)
        runs = runs_of(client, uuid)
    assert len(runs) == 6
    for run in runs:
        recipe = json.loads(run["recipe_json"])
        assert recipe["train"]["lr"] == DEFAULT_LR[run["method"]], run["name"]
        assert recipe["data"]["train"] in {str(tmp_path / "a.jsonl"), str(tmp_path / "b.jsonl")}


def test_a_removed_run_does_not_come_back(client: Client, home: Home) -> None:
    uuid, numbers = queue(client, "  stop_losers: true\n  seed: [1, 2, 3]", '{"steps": 100000}')
    for number in reversed(numbers):
        client.action("cancel", run=number)
        wait_state(client, number, "cancelled")
        client.action("remove", run=number)
    until_done(home, uuid)
    assert runs_of(client, uuid) == []
    drawn, numbers = queue(
        client, "  runs: 5\n  search: tpe\n  seed: [1, 2, 3, 4, 5]", '{"steps": 2, "look_every": 1}'
    )
    client.action("hold", run=numbers[-1])
    client.action("cancel", run=numbers[-1])
    client.action("remove", run=numbers[-1])
    until_done(home, drawn)
    seeds = [json.loads(run["recipe_json"])["seed"] for run in runs_of(client, drawn)]
    plan = read_plan(home, drawn)
    assert plan is not None
    assert len(seeds) == len(set(seeds)) == 4, "the removed one counts"
    assert sorted(values["seed"] for values in plan.given) == [1, 2, 3, 4, 5]


def test_a_loser_that_somebody_resumes_is_not_stopped_again(client: Client, home: Home) -> None:
    script = '{"steps": 300, "look_every": 30, "step_s": 0.01}'
    uuid, (good, bad) = queue(client, "  stop_losers: true\n  train.lr: [1.0e-3, 1.0e-5]", script)
    wait_state(client, bad, "cancelled")
    client.action("resume", run=bad)
    assert wait_state(client, bad, "finished", "cancelled", "failed")["state"] == "finished"
    assert row(client, good)["state"] == "finished"
    until_done(home, uuid)


def test_what_the_first_runs_wait_for_the_others_do_not(client: Client, home: Home) -> None:
    sweep = "  runs: 5\n  search: tpe\n  seed: [1, 2, 3, 4, 5]"
    file = parse(RECIPE.format(script='{"steps": 2}', sweep=sweep), Path("x.yaml"))
    reports = [preflight.check(recipe, Path.cwd()) for recipe in file.recipes]
    numbers = submit(client, file, reports, held=True, gpu_memory=7)
    uuid = row(client, numbers[0])["sweep"]
    for number in numbers:
        client.action("release", run=number)
    until_done(home, uuid)
    assert [run["state"] for run in runs_of(client, uuid)] == ["finished"] * 5
    bodies = [json.loads((Path(run["dir"]) / "run.json").read_text()) for run in runs_of(client, uuid)]
    assert {body["gpu_memory"] for body in bodies} == {7}


def test_a_damaged_plan_is_told_and_costs_no_other_sweep(home: Home) -> None:
    with connect(home) as client:
        uuid, numbers = queue(client, "  stop_losers: true\n  seed: [1, 2]", '{"steps": 100000}')
        plan_path(home, uuid).write_text("{")
        kill_daemon(home)
    with connect(home) as client:
        problems = until("the problem", lambda: client.action("status")["problems"])
        assert len(problems) == 1
        assert f"{uuid}.json cannot be read" in problems[0]
        other, _ = queue(client, "  stop_losers: true\n  seed: [1]", '{"steps": 2}')
        for number in numbers:
            client.action("cancel", run=number)
        assert until_done(home, other) == "all its runs have ended"
        plan_path(home, uuid).unlink()


def test_a_sweep_that_was_given_more_meanwhile_does_not_end(tmp_path: Path) -> None:
    home = Home(tmp_path)
    home.create()
    sweeps = Sweeps(home)
    section = {"runs": 6, "search": "tpe", "seed": [1, 2, 3, 4, 5, 6, 7, 8, 9]}
    sweeps.add({"uuid": "a", "recipe": {}, "section": section, "path": "x", "folder": "/", "runs": 6})
    assert sweeps.busy
    assert sweeps.extend("a", 2, 6) == {"runs": 8}
    with pytest.raises(QueueError, match="has been given 8 runs meanwhile"):
        sweeps.end("a", "all 6 runs have ended", 6)
    sweeps.end("a", "over", 8)
    assert not sweeps.busy
