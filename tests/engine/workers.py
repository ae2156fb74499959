"""Real workers for tests: each is a process of its own, forked from a server that has the imports done."""

from __future__ import annotations

import json
import multiprocessing
import os
import sys
import time
from multiprocessing.context import ForkServerContext, ForkServerProcess
from pathlib import Path
from typing import Any

from engine.recipe.sections import Recipe
from engine.runs.home import RunDir
from finetui.log import read_log

WAIT_S = 240
SMALL = {
    "model": "bundled:stdlib-2m",
    "data": {"train": "bundled:docstrings", "limit": 48, "heldout": 8},
    "train": {
        "max_steps": 6,
        "precision": "fp32",  # losses are compared with those of plain libraries
        "tokens_per_step": 256,
        "micro_tokens": 192,
        "max_length": 48,
        "lr": 1e-3,
        "checkpoint_every": 2,
    },
    "evals": {"every": 3, "limit": 8, "few_shot": 0, "samples": 0, "generate": 1, "max_new_tokens": 4},
}


def context() -> ForkServerContext:
    os.environ["OMP_NUM_THREADS"] = "1"
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(
        ["engine.training.loop", "engine.models.load", "transformers.models.llama.modeling_llama", "peft"]
    )
    return context


def small(**changes: Any) -> dict[str, Any]:
    """A recipe that takes seconds; `train__lr=…` changes a key of a section."""
    tree: dict[str, Any] = json.loads(json.dumps(SMALL))
    for key, value in changes.items():
        section, _, inner = key.partition("__")
        if inner:
            tree.setdefault(section, {})[inner] = value
        else:
            tree[key] = value
    return tree


def make_run(path: Path, tree: dict[str, Any]) -> RunDir:
    """A run directory as the daemon leaves it for the worker."""
    path.mkdir(parents=True)
    recipe = Recipe.model_validate(tree)
    (path / "run.json").write_text(json.dumps({"recipe": recipe.model_dump(mode="json"), "cwd": str(path)}))
    return RunDir(path)


def start(run: RunDir, attempt: int = 1, file_size_limit: int | None = None) -> ForkServerProcess:
    """Start a worker; its output goes to the attempt's stdout.log."""
    run.attempt(attempt).path.mkdir(parents=True, exist_ok=True)
    process = context().Process(target=_work, args=(str(run.path), attempt, file_size_limit))
    process.start()
    return process


def finish(process: ForkServerProcess) -> int:
    """Wait for a worker; its exit code."""
    process.join(WAIT_S)
    if process.exitcode is None:
        process.kill()
        raise AssertionError("the worker did not end")
    return process.exitcode


def work(run: RunDir, attempt: int = 1) -> int:
    return finish(start(run, attempt))


class Finished(dict[str, RunDir]):
    """A finished run per method, made when it is first asked for; `methods` has the method and its rate by name,
    `changes` those of `small`.
    """

    def __init__(self, home: Path, methods: dict[str, tuple[Any, float]], **changes: Any) -> None:
        self.home, self.methods, self.changes = home, methods, changes

    def __missing__(self, name: str) -> RunDir:
        method, lr = self.methods[name]
        tree = small(method=method, train__lr=lr, **self.changes)
        run = make_run(self.home / f"{len(self) + 1:06d}-{name}", tree)
        assert work(run) == 0, (name, run.attempt(1).stdout.read_text())
        self[name] = run
        return run


def wait_for(run: RunDir, attempt: int, kind: str, process: ForkServerProcess, **fields: Any) -> None:
    """Until the attempt has written such an event; fails if the worker ends before."""
    deadline = time.monotonic() + WAIT_S
    while time.monotonic() < deadline:
        if any(fields.items() <= event.items() for event in of_kind(run, attempt, kind)):
            return
        assert process.exitcode is None, (run.attempt(attempt).path / "stdout.log").read_text()
        time.sleep(0.005)
    raise AssertionError(f"no event {kind} {fields}")


def of_kind(run: RunDir, attempt: int, kind: str) -> list[dict[str, Any]]:
    return [event for event in read_log(run.attempt(attempt).events) if event["kind"] == kind]


def curve(run: RunDir, attempt: int = 1, key: str = "train/loss") -> dict[int, float]:
    return {event["step"]: event["values"][key] for event in of_kind(run, attempt, "metrics")}


def nlls(run: RunDir, attempt: int = 1) -> dict[tuple[int, str], list[float]]:
    """Losses of all examples by step and suite."""
    return {(e["step"], e["suite"]): e["examples"]["nll"] for e in of_kind(run, attempt, "eval")}


def measured(run: RunDir, attempt: int = 1) -> dict[tuple[int, str], dict[str, Any]]:
    """All that was measured of examples, by step and suite."""
    return {(e["step"], e["suite"]): e["examples"] for e in of_kind(run, attempt, "eval")}


def last_error(run: RunDir, attempt: int = 1) -> str:
    (end,) = of_kind(run, attempt, "end")
    assert end["status"] == "failed"
    return str(end["error"])


def _work(path: str, attempt: int, file_size_limit: int | None) -> None:
    output = os.open(
        Path(path) / "attempts" / str(attempt) / "stdout.log", os.O_WRONLY | os.O_CREAT | os.O_APPEND
    )
    os.dup2(output, 1)
    os.dup2(output, 2)
    if file_size_limit is not None:
        import resource

        resource.setrlimit(resource.RLIMIT_FSIZE, (file_size_limit, file_size_limit))
    from engine.attempt.worker import main

    sys.exit(main(path, attempt))
