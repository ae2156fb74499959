"""A run that was killed, stopped or begun anew has the losses of one left alone: real processes, real kills."""

from __future__ import annotations

import json
import signal

import pytest
from finished import killed_after, recipe_of
from workers import LEAN, curve, finish, make_run, measured, of_kind, small, start, wait_for, work

from engine.data.sources import read
from engine.runs.home import RunDir


def goes_on_bit_for_bit(whole: RunDir, killed: RunDir) -> int:
    """Resume what was killed after its first checkpoint: its curve is that of `whole`. The step it goes on from."""
    assert work(killed, attempt=2) == 0, killed.attempt(2).stdout.read_text()
    (resume,) = of_kind(killed, 2, "resume")
    kept = {step: loss for step, loss in curve(killed).items() if step <= resume["from_step"]}
    assert resume["from_step"] in (2, 4)
    assert kept | curve(killed, 2) == curve(whole)
    assert set(curve(killed, 2)) == set(range(resume["from_step"] + 1, 7))
    assert not [key for key in measured(killed, 2) if key[0] == 0], "the base model was scored again"
    later = measured(killed, 2)
    assert later == {key: value for key, value in measured(whole).items() if key in later}
    assert {step for step, _ in later} >= {6}
    return resume["from_step"]


@pytest.mark.parametrize(("method", "step"), [("full", 3), ("lora", 5)])
def test_a_killed_run_goes_on_bit_for_bit(finished, tmp_path, method, step):
    run = make_run(tmp_path / "000009-killed", recipe_of(method))
    process = start(run)
    wait_for(run, 1, "metrics", process, step=step)
    process.kill()
    assert finish(process) == -signal.SIGKILL
    goes_on_bit_for_bit(finished[method], run)


@pytest.mark.parametrize("method", ["qlora", "plus", "pissa", "adapter", "ia3", "prefix"])
def test_what_a_kill_leaves_goes_on_bit_for_bit(finished, tmp_path, method):
    """Of these methods nothing is killed: a finished run is cut back to what a kill leaves."""
    killed = killed_after(finished[method], tmp_path / "000009-killed", step=5)
    assert list(curve(killed)) == [1, 2, 3, 4, 5]
    assert of_kind(killed, 1, "end") == []
    assert goes_on_bit_for_bit(finished[method], killed) == 4


def test_a_resumed_run_whose_first_look_is_gone_does_not_guess(finished, tmp_path):
    run = killed_after(finished["lora"], tmp_path / "000001-run", step=5)
    assert list(run.path.glob("base-*.npz"))
    for path in run.path.glob("base-*.npz"):
        path.write_bytes(path.read_bytes()[:100])
    assert work(run, attempt=2) == 0, run.attempt(2).stdout.read_text()
    later = measured(run, 2)
    assert later
    for examples in later.values():
        assert set(examples) <= {"id", "nll", "tokens", "right", "tempered"}


def test_the_same_seed_gives_the_same_losses_and_another_seed_others(finished, tmp_path):
    again = make_run(tmp_path / "000001-again", small(method="lora", **LEAN))
    other = make_run(tmp_path / "000002-other", small(method="lora", seed=1, **LEAN))
    assert [work(again), work(other)] == [0, 0]
    assert curve(again) == curve(finished["lora"])
    assert curve(other) != curve(finished["lora"])


def test_looking_more_often_changes_nothing_of_the_training(tmp_path):
    """Which looks `auto` leaves out depends on the clock, so none of them may touch the random numbers."""
    curves = []
    for number, every in enumerate((6, 1)):
        tree = small(method={"name": "lora", "dropout": 0.2}, evals__every=every, seed=5)
        run = make_run(tmp_path / f"{number + 1:06d}-looks", tree)
        assert work(run) == 0
        assert len(of_kind(run, 1, "eval")) == 3 * (6 // every + 1)
        curves.append(curve(run))
    assert curves[0] == curves[1]


def test_data_that_changed_before_a_resume_are_told(tmp_path):
    rows = [json.dumps({"prompt": f"What is {n}?", "completion": f"It is {n}."}) for n in range(30)]
    data = tmp_path / "rows.jsonl"
    data.write_text("\n".join(rows))
    run = make_run(
        tmp_path / "000001-run", small(method="lora", data__train=str(data), train__max_steps=2, **LEAN)
    )
    meta = json.loads(run.meta.read_text())
    queued = [{"source": str(data), "fingerprint": read(str(data)).fingerprint.digest}]
    run.meta.write_text(json.dumps({**meta, "datasets": queued}))
    assert work(run) == 0
    assert work(run, attempt=2) == 0
    assert [e for e in of_kind(run, 2, "log") if e["level"] == "warning"] == []
    data.write_text("\n".join(rows).replace("It is", "It must be"))
    assert work(run, attempt=3) == 0
    queued, evaluated, trained = [e["message"] for e in of_kind(run, 3, "log") if e["level"] == "warning"]
    assert queued == f"{data}: the data have changed since the run was queued"
    assert (
        "the data of heldout, seen have changed since the run was evaluated before: from step 2 on"
        in evaluated
    )
    assert "the training data have changed since the checkpoint of step 2" in trained


def test_sigterm_saves_and_resumes(finished, tmp_path):
    run = make_run(tmp_path / "000001-stopped", small(method="lora", train__checkpoint_every=6, **LEAN))
    process = start(run)
    wait_for(run, 1, "metrics", process, step=2)
    process.terminate()
    assert finish(process) == 3
    (end,) = of_kind(run, 1, "end")
    assert end["status"] == "cancelled"
    step, _ = run.last_checkpoint() or pytest.fail("no checkpoint")
    assert step == max(curve(run)) == end["step"] < 6
    assert work(run, attempt=2) == 0
    assert curve(run) | curve(run, 2) == curve(finished["lora"])
    assert (run.path / "adapter" / "adapter_model.safetensors").exists()


def test_sigterm_in_the_first_eval_ends_soon_and_the_next_attempt_starts_afresh(tmp_path):
    run = make_run(tmp_path / "000001-early", small(method="lora", evals__max_new_tokens=2))
    process = start(run)
    wait_for(run, 1, "phase", process, phase="eval")
    process.terminate()
    assert finish(process) == 3
    assert of_kind(run, 1, "eval") == []
    assert run.last_checkpoint() is None
    process = start(run, 2)
    wait_for(run, 2, "eval", process, step=0)
    assert of_kind(run, 2, "resume")[0]["from_step"] == -1
    process.kill()
    finish(process)
