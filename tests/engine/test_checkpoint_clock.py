"""Checkpoints by the clock: what a machine that vanishes without notice may cost."""

from __future__ import annotations

from workers import LEAN, curve, make_run, of_kind, small, work

from engine.training.checkpoint_clock import CheckpointClock


def test_one_is_due_after_so_many_minutes() -> None:
    now = [100.0]
    clock = CheckpointClock(2.0, lambda: now[0])
    assert not clock.is_due
    now[0] += 119
    assert not clock.is_due
    now[0] += 1
    assert clock.is_due
    clock.saved(1.0)
    assert not clock.is_due


def test_saving_takes_a_twentieth_of_the_time_at_most() -> None:
    now = [0.0]
    clock = CheckpointClock(1.0, lambda: now[0])
    clock.saved(30.0)
    now[0] = 599
    assert not clock.is_due
    now[0] = 600
    assert clock.is_due


def test_it_may_be_turned_off() -> None:
    now = [0.0]
    clock = CheckpointClock(None, lambda: now[0])
    now[0] = 1e9
    assert not clock.is_due


def test_a_run_saves_by_the_clock_and_tells_what_it_cost(finished, tmp_path):
    tree = small(method="lora", train__checkpoint_every="100%", train__checkpoint_minutes=1e-6, **LEAN)
    run = make_run(tmp_path / "000001-often", tree)
    assert work(run) == 0
    steps = [event["step"] for event in of_kind(run, 1, "checkpoint")]
    assert steps[0] < 6, "not only the last"
    assert steps[-1] == 6
    (end,) = of_kind(run, 1, "end")
    assert end["timing"]["saves"] == len(steps)
    assert end["timing"]["save_s"] > 0
    assert f"{len(steps)} checkpoints took" in run.attempt(1).stdout.read_text()
    assert curve(run) == curve(finished["lora"]), "training is as without"
