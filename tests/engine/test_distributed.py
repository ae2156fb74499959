"""Several processes on one run: the losses of a single one, one story in the log, and nothing left behind."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from finished import Finished
from forked_ranks import PROCESSES, start_forked
from workers import (
    Call,
    curve,
    finish,
    keep_output,
    last_error,
    make_run,
    nlls,
    of_kind,
    small,
    wait_for,
    work,
)

from engine.attempt import ranks
from engine.runs.home import RunDir
from finetui.log import read_log


@pytest.fixture
def single(finished: Finished) -> Callable[[str], RunDir]:
    """The finished run of a method, of one process."""
    return lambda method: finished.of(recipe(method, 1))


def recipe(method: str, count: int = PROCESSES, **changes: Any) -> dict[str, Any]:
    """Windows of one to four forward passes, so that now and then a process has none of its own."""
    quick = {"train__micro_tokens": 100, "evals__limit": 4, "evals__general": None, "evals__every": 6}
    return small(method=method, processes=count, **{**quick, "evals__drift": 1, **changes})


def same_as_single(single: RunDir, run: RunDir, *attempts: int) -> None:
    """The losses of all steps, of all examples at the end, and the saved weights."""
    from safetensors.torch import load_file

    losses: dict[int, float] = {}
    for attempt in attempts:
        losses |= curve(run, attempt)
    assert losses == pytest.approx(curve(single), rel=1e-5)
    assert nlls(run, attempts[-1])[6, "heldout"] == pytest.approx(nlls(single)[6, "heldout"], rel=1e-4)
    for name in ("model/model.safetensors", "adapter/adapter_model.safetensors"):
        if (single.path / name).exists():
            theirs, ours = load_file(single.path / name), load_file(run.path / name)
            assert ours.keys() == theirs.keys()
            # Adam divides by the size of a gradient: where that is nothing but noise, a step is of full size.
            assert all((ours[key] - value).abs().mean() < 1e-5 for key, value in theirs.items())


def children(process: Any) -> list[psutil.Process]:
    """The processes that `start_forked` trains with, by rank."""
    found = psutil.Process(process.pid).children()
    assert len(found) == PROCESSES
    return sorted(found, key=lambda one: one.pid)


def test_ddp_trains_as_one_process_does_and_tells_one_story(single, tmp_path):
    """With the real torchrun; the programs that it starts are forks, which have the imports done."""
    run = make_run(tmp_path / "000001-ddp", recipe("lora"))
    run.attempt(1).path.mkdir(parents=True)
    process = Call(_torchrun, run, str(interpreter_for(tmp_path, "forked_python.py")))
    assert finish(process) == 0, run.attempt(1).stdout.read_text()
    same_as_single(single("lora"), run, 1)
    of_both = [
        [event["kind"] for event in read_log(one.attempt(1).events) if event.get("cause") != "probe"]
        for one in (run, single("lora"))  # several processes have no memory probe
    ]
    assert of_both[0] == of_both[1]
    ours, theirs = ([e["text"] for e in of_kind(one, 1, "drift")] for one in (run, single("lora")))
    assert ours == theirs
    assert len(ours) == 2
    assert of_kind(run, 1, "plan")[0]["device"].startswith("2 × ")
    assert "step        6/6" in run.attempt(1).stdout.read_text()


def test_a_run_outlives_a_lost_process_and_a_killed_attempt(single, tmp_path):
    """Sharded at first, then not, then one process alone: a checkpoint is the same to all."""
    changes = {"train__sharding": "fsdp", "train__checkpoint_every": 1}
    run = make_run(tmp_path / "000001-lost", recipe("lora", **changes))
    process = start_forked(run)
    wait_for(run, 1, "checkpoint", process, step=1)
    children(process)[1].kill()
    assert finish(process) == -signal.SIGKILL, "as if a single worker had been killed: to be resumed"
    assert of_kind(run, 1, "end") == []
    assert "a process of 2 was lost" in run.attempt(1).stdout.read_text()

    meta = json.loads(run.meta.read_text())
    meta["recipe"]["train"]["sharding"] = "ddp"
    run.meta.write_text(json.dumps(meta))
    process = start_forked(run, 2)
    wait_for(run, 2, "metrics", process)
    left = children(process)
    process.kill()
    assert finish(process) == -signal.SIGKILL
    _, alive = psutil.wait_procs(left, timeout=30)
    assert not alive, alive
    assert of_kind(run, 2, "end") == []

    meta["recipe"]["processes"] = 1
    run.meta.write_text(json.dumps(meta))
    assert work(run, attempt=3) == 0, run.attempt(3).stdout.read_text()
    same_as_single(single("lora"), run, 1, 2, 3)


def test_fsdp_saves_when_asked_to_stop_and_goes_on(single, tmp_path):
    run = make_run(
        tmp_path / "000001-fsdp", recipe("full", train__sharding="fsdp", train__checkpoint_every=6)
    )
    process = start_forked(run)
    wait_for(run, 1, "metrics", process, step=2)
    process.terminate()
    assert finish(process) == 3, run.attempt(1).stdout.read_text()
    (end,) = of_kind(run, 1, "end")
    assert end["status"] == "cancelled"
    step, _ = run.last_checkpoint() or pytest.fail("no checkpoint")
    assert step == max(curve(run)) == end["step"] < 6
    assert finish(start_forked(run, 2)) == 0, run.attempt(2).stdout.read_text()
    assert min(curve(run, 2)) == step + 1
    same_as_single(single("full"), run, 1, 2)


def test_of_several_failures_the_first_is_told(tmp_path):
    """As ranks leave their last words: one knows why it failed, the other only that the first is gone."""
    run = make_run(tmp_path / "000001-bad", recipe("lora"))
    attempt = run.attempt(1)
    for rank, status, error, t in (
        (0, "lost", "closed", 3.0),
        (1, "failed", "this", 2.0),
        (2, "failed", "that", 4.0),
    ):
        words = {"status": status, "step": 5, "error": error, "reason": None, "t": t}
        attempt.path.mkdir(parents=True, exist_ok=True)
        (attempt.path / f"rank-{rank}.json").write_text(json.dumps(words))
    assert ranks.report_end(run, attempt, 3) == 4
    assert last_error(run) == "this"


def test_the_failure_of_one_process_is_the_one_that_is_told(tmp_path):
    """Only the first process writes checkpoints, and a limit on the size of files stops it."""
    run = make_run(tmp_path / "000001-failing", recipe("full", train__checkpoint_every=1))
    assert finish(start_forked(run, 1, file_size_limit=500_000)) == 4
    assert "could not write step-000001" in last_error(run)
    text = run.attempt(1).stdout.read_text()
    assert "Traceback" not in text
    assert "failed at step 1: could not write" in text.splitlines()[-1]


# ---- torchrun, with ranks that have no model


@pytest.fixture
def interpreter(tmp_path: Path) -> Path:
    """Starts tests/engine/fake_rank.py for the worker."""
    return interpreter_for(tmp_path, "fake_rank.py")


def interpreter_for(folder: Path, script: str) -> Path:
    """A Python for `launch`: torchrun is the real one, and starts a script of tests/engine for the worker."""
    path, stand_in = folder / "python", Path(__file__).with_name(script)
    start = f'*torch.distributed.run*) exec {sys.executable} "$@" ;;'
    path.write_text(
        f'#!/bin/sh\ncase "$*" in\n{start}\n*) exec {sys.executable} -P {stand_in} "$@" ;;\nesac\n'
    )
    path.chmod(0o755)
    return path


def start_torchrun(run: RunDir, interpreter: Path) -> tuple[Any, list[psutil.Process]]:
    """The attempt's own process, and all below it: torchrun and the ranks, once these have logged a step."""
    run.attempt(1).path.mkdir(parents=True)
    process = Call(_torchrun, run, str(interpreter))
    wait_for(run, 1, "metrics", process)
    below = psutil.Process(process.pid).children(recursive=True)
    assert len(below) == 1 + PROCESSES
    return process, below


def _torchrun(run: RunDir, interpreter: str) -> None:
    keep_output(run, 1)
    sys.executable = interpreter
    os._exit(ranks.launch(run, run.attempt(1), PROCESSES))


def test_torchrun_ends_all_when_one_is_lost(tmp_path, interpreter):
    run = make_run(tmp_path / "000001-lost", recipe("lora"))
    process, below = start_torchrun(run, interpreter)
    below[-1].kill()
    assert finish(process) == -signal.SIGKILL, "as if a single worker had been killed: to be resumed"
    assert of_kind(run, 1, "end") == []
    assert "a process of 2 was lost" in run.attempt(1).stdout.read_text()
    _, alive = psutil.wait_procs(below, timeout=30)
    assert not alive, alive


def test_nothing_outlives_a_killed_attempt(tmp_path, interpreter):
    run = make_run(tmp_path / "000001-killed", recipe("lora"))
    process, below = start_torchrun(run, interpreter)
    process.kill()
    assert finish(process) == -signal.SIGKILL
    _, alive = psutil.wait_procs(below, timeout=30)
    assert not alive, alive
    assert of_kind(run, 1, "end") == []


@pytest.mark.parametrize(("launcher_lives", "code"), [(True, 0), (False, 1)])
def test_a_rank_that_comes_after_its_launcher_is_gone_does_not_begin(tmp_path, launcher_lives, code):
    run = make_run(tmp_path / "000001-late", recipe("lora"))
    run.attempt(1).path.mkdir(parents=True)
    assert finish(Call(_open_log, run, launcher_lives)) == code


def _open_log(run: RunDir, launcher_lives: bool) -> None:
    launcher = os.getppid() if launcher_lives else os.getpid()  # which is nobody's ancestor
    os.environ |= {ranks.RANKS: "2", "RANK": "1", ranks.LAUNCHER: str(launcher)}
    ranks.open_log(run, run.attempt(1)).close()


def test_all_are_asked_to_stop_and_not_killed(tmp_path, interpreter):
    run = make_run(tmp_path / "000001-stopped", recipe("lora"))
    process, _ = start_torchrun(run, interpreter)
    process.terminate()
    assert finish(process) == 3, run.attempt(1).stdout.read_text()
    (end,) = of_kind(run, 1, "end")
    assert end["status"] == "cancelled"


def test_a_failure_ends_torchrun_and_is_told(tmp_path, interpreter):
    run = make_run(tmp_path / "000001-failing", recipe("lora"))
    process, below = start_torchrun(run, interpreter)
    assert finish(process) == 4
    assert last_error(run) == "the disk is made of cheese"
    text = run.attempt(1).stdout.read_text()
    assert text.splitlines()[-1] == "failed at step 3: the disk is made of cheese"
    _, alive = psutil.wait_procs(below, timeout=30)
    assert not alive, alive


# ---- what processes share


def test_what_processes_share_and_keep_for_themselves(tmp_path):
    """Two bare processes: parts of a window, agreement, and random numbers in a checkpoint."""
    pair = [Call(_rank, rank, str(tmp_path)) for rank in range(PROCESSES)]
    assert [finish(process) for process in pair] == [0, 0]


def _rank(rank: int, directory: str) -> None:
    import torch
    import torch.distributed as dist

    from engine.models import distributed
    from engine.training import checkpoint
    from engine.training.checkpoint import Position

    store = dist.FileStore(f"{directory}/store", PROCESSES)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=PROCESSES)
    assert distributed.own_passes(["a", "b", "c"]) == [[("a", 1), ("c", 1)], [("b", 1), ("a", 0)]][rank]
    assert distributed.own_passes(["a"]) == [[("a", 1)], [("a", 0)]][rank]
    assert distributed.agree(rank == 1)
    assert not distributed.agree(False)
    assert distributed.from_first(rank) == 0
    assert distributed.gather_values(rank) == [0, 1]
    assert distributed.summed(torch.tensor(rank + 1.0)) == 3

    torch.manual_seed(0)
    distributed.own_randomness(0)
    model = torch.nn.Linear(2, 2)
    optimiser = torch.optim.AdamW(model.parameters())
    run = RunDir(Path(directory) / "000001-run")
    path = checkpoint.save(run, model, optimiser, Position(1, 1))
    drawn = torch.rand(3)
    assert not torch.equal(*distributed.gather_values(drawn)), "dropout would be the same in both"
    torch.rand(rank + 5)
    checkpoint.restore(path, model, optimiser)
    assert torch.equal(torch.rand(3), drawn)
    os._exit(0)
