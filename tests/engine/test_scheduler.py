"""The scheduler as a pure function: order, places, GPUs, reasons."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import pairwise

import pytest

from engine.queue import scheduler
from engine.queue.scheduler import Capacity, Decision, Start, place_before
from engine.runs.journal import RunRecord


def queued(number: int, **changes: object) -> RunRecord:
    return RunRecord(number, **{"place": float(number), **changes})  # type: ignore[arg-type]


def running(number: int, device: str = "cpu") -> RunRecord:
    return RunRecord(number, state="running", attempt=1, device=device)


def decide(
    waiting: Sequence[RunRecord],
    active: Sequence[RunRecord],
    capacity: Capacity,
    states: Mapping[int, str] | None = None,
    now: float = 1e9,
) -> Decision:
    return scheduler.decide(waiting, active, capacity, states or {}, now)


def started(*args: object) -> list[int]:
    return [start.run for start in decide(*args).starts]  # type: ignore[arg-type]


def test_an_interrupted_run_is_tried_again_when_its_time_has_come() -> None:
    again = queued(1, state="interrupted", not_before=1e9 + 5)
    early = decide([again, queued(2)], [], Capacity(1))
    assert [start.run for start in early.starts] == [2]
    assert re.fullmatch(r"tried again at \d\d:\d\d:\d\d \S+, or now by finetui release 1", early.waiting[1])
    assert [start.run for start in decide([again, queued(2)], [], Capacity(1), now=1e9 + 5).starts] == [1]


def test_first_come_first_served() -> None:
    assert started([queued(3), queued(1), queued(2)], [], Capacity(2)) == [1, 2]


def test_a_resumed_run_goes_to_the_end_of_its_line() -> None:
    assert started([queued(1, place=9.0), queued(2), queued(3)], [], Capacity(3)) == [2, 3, 1]


def test_priority_goes_before_arrival_and_interrupted_before_both() -> None:
    line = [
        queued(1),
        queued(2, priority=5),
        queued(3, state="interrupted", priority=-5),
        queued(4, priority=-1),
    ]
    assert started(line, [], Capacity(4)) == [3, 2, 1, 4]


@pytest.mark.parametrize("state", ["starting", "running"])
def test_an_active_run_holds_its_place(state: str) -> None:
    assert started([queued(2)], [RunRecord(1, state=state, attempt=1)], Capacity(1)) == []


def test_fewer_places_than_active_runs_starts_nothing() -> None:
    """The concurrency was lowered while runs were active."""
    chosen = decide([queued(3)], [running(1), running(2)], Capacity(1))
    assert chosen.starts == ()
    assert chosen.waiting == {3: "runs #1 and #2 are running; 1 run at a time (concurrency in config.toml)"}


def test_why_each_run_waits() -> None:
    chosen = decide([queued(42), queued(43), queued(44)], [running(41)], Capacity(1))
    assert chosen.waiting == {
        42: "run #41 is running; 1 run at a time (concurrency in config.toml)",
        43: "run #41 is running; 1 run at a time (concurrency in config.toml); 1 run ahead of it",
        44: "run #41 is running; 1 run at a time (concurrency in config.toml); 2 runs ahead of it",
    }


def test_a_run_that_starts_now_counts_as_running_for_the_others() -> None:
    assert decide([queued(1), queued(2)], [], Capacity(1)).waiting[2].startswith("run #1 is running")


def test_one_run_per_gpu() -> None:
    capacity = Capacity(4, ("gpu0", "gpu1", "gpu2"))
    chosen = decide([queued(5), queued(6), queued(7)], [running(4, "gpu1")], capacity)
    assert chosen.starts == (Start(5, "gpu0"), Start(6, "gpu2"))
    assert chosen.waiting == {7: "runs #4, #5 and #6 are running; every GPU is taken, 1 run per GPU"}


def test_a_run_of_several_processes_gets_a_gpu_for_each_and_is_not_overtaken() -> None:
    capacity = Capacity(4, ("gpu0", "gpu1", "gpu2", "gpu3"))
    line = [queued(5, processes=2), queued(6, processes=2), queued(7)]
    chosen = decide(line, [running(4, "gpu1")], capacity)
    assert chosen.starts == (Start(5, "gpu0,gpu2"),)
    assert chosen.waiting == {
        6: "runs #4 and #5 are running; #6 needs 2 GPUs, free: 1",
        7: "runs #4 and #5 are running; #6 needs 2 GPUs, free: 1; 1 run ahead of it",
    }
    assert started([queued(8)], [running(5, "gpu0,gpu2")], Capacity(4, ("gpu0", "gpu2"))) == []
    assert decide([queued(8, processes=2)], [], Capacity(1)).starts == (Start(8, "cpu"),)
    assert decide([queued(8, processes=9)], [], capacity).starts == (Start(8, "gpu0,gpu1,gpu2,gpu3"),)


def test_concurrency_below_the_number_of_gpus_holds() -> None:
    chosen = decide([queued(1), queued(2)], [], Capacity(1, ("gpu0", "gpu1")))
    assert chosen.starts == (Start(1, "gpu0"),)
    assert "1 run at a time" in chosen.waiting[2]


def test_many_running_runs_are_named_shortly() -> None:
    reason = decide([queued(9)], [running(number) for number in range(1, 7)], Capacity(6)).waiting[9]
    assert reason.startswith("runs #1, #2, #3 and 3 more are running; 6 runs at a time")


def test_every_waiting_run_starts_or_knows_why_not() -> None:
    """Whatever the sizes: nothing started twice, no GPU shared, nobody forgotten."""
    for places in range(1, 5):
        for gpus in range(4):
            for busy in range(min(places, gpus or places) + 1):
                capacity = Capacity(places, tuple(f"gpu{index}" for index in range(gpus)))
                active = [running(100 + index, f"gpu{index}" if gpus else "cpu") for index in range(busy)]
                line = [queued(number) for number in range(1, 7)]
                chosen = decide(line, active, capacity)
                runs = [start.run for start in chosen.starts]
                devices = [start.device for start in chosen.starts] + [record.device for record in active]
                assert sorted([*runs, *chosen.waiting]) == [1, 2, 3, 4, 5, 6]
                assert all(before < after for before, after in pairwise(runs))
                assert len(runs) + busy <= places
                assert gpus == 0 or len(set(devices)) == len(devices)


# ---- what a run waits for besides its turn


def test_a_held_run_lets_the_others_by() -> None:
    chosen = decide([queued(1, held=True), queued(2), queued(3)], [], Capacity(1))
    assert chosen.starts == (Start(2, "cpu"),)
    assert chosen.waiting[1] == "it is held; finetui release 1 lets it start"
    assert chosen.waiting[3] == "run #2 is running; 1 run at a time (concurrency in config.toml)"


@pytest.mark.parametrize(
    ("state", "after_any", "why"),
    [
        ("queued", False, "it starts after run #1, which is queued"),
        ("paused", True, "it starts after run #1, which is paused"),
        ("finished", False, None),
        ("failed", True, None),
        (
            "failed",
            False,
            "it starts after run #1 has finished, and that is failed; finetui release 2 starts it all the same",
        ),
        (None, True, "run #1, after which it starts, is gone; finetui release 2 starts it all the same"),
    ],
)
def test_a_run_starts_after_another(state: str | None, after_any: bool, why: str | None) -> None:
    run = queued(2, after=(1,), after_any=after_any)
    chosen = decide([run], [], Capacity(1), {} if state is None else {1: state})
    assert chosen.waiting.get(2) == why
    assert bool(chosen.starts) == (why is None)


def test_a_group_has_its_own_limit_and_the_others_go_by() -> None:
    line = [queued(1, group="night"), queued(2, group="night"), queued(3), queued(4, group="day")]
    capacity = Capacity(9, groups={"night": 1})
    chosen = decide(line, [], capacity)
    assert [start.run for start in chosen.starts] == [1, 3, 4], "a group without a limit has none"
    assert chosen.waiting == {2: "group night is full: 1 at a time (groups in config.toml)"}
    busy = replace(running(5), group="night")
    assert started([queued(6, group="night"), queued(7)], [busy], capacity) == [7]
    assert started([queued(6, group="night", urgent=True)], [busy], capacity) == [6]


def test_a_run_starts_at_its_time() -> None:
    run = queued(2, not_before=1e9 + 60)
    assert decide([run], [], Capacity(1)).waiting[2].startswith("it starts at 2001-09-09 ")
    assert decide([run], [], Capacity(1), now=1e9 + 60).starts == (Start(2, "cpu"),)


def test_a_run_that_is_to_start_now_asks_for_no_turn_but_for_a_gpu() -> None:
    urgent = queued(9, urgent=True, held=True, after=(1,), not_before=2e9)
    assert started([queued(2), urgent], [running(1)], Capacity(1)) == [9]
    assert started([queued(2), urgent], [running(1, "gpu0")], Capacity(1, ("gpu0", "gpu1"))) == [9]
    chosen = decide([queued(2), urgent], [running(1, "gpu0")], Capacity(1, ("gpu0",)))
    assert chosen.starts == ()
    assert chosen.waiting[9] == "run #1 is running; every GPU is taken, 1 run per GPU"


def test_a_run_is_moved_to_the_front_and_before_another() -> None:
    line = [
        queued(1, priority=2),
        queued(2, priority=2),
        queued(3),
        queued(4),
        queued(5, state="interrupted"),
    ]
    for other, wanted in ((None, [5, 4, 1, 2, 3]), (line[1], [5, 1, 4, 2, 3]), (line[2], [5, 1, 2, 4, 3])):
        priority, place = place_before(line[3], other, line)
        moved = [run for run in line if run.number != 4] + [queued(4, priority=priority, place=place)]
        assert started(moved, [], Capacity(9)) == wanted
