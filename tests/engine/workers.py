"""Real workers for tests: each is a process of its own, forked from the pool that all processes of a session share."""

from __future__ import annotations

import json
import os
import pickle
import resource
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any

from engine.basics import pool
from engine.queue.executor import environment
from engine.queue.pool import Order, Pool
from engine.recipe.sections import Recipe
from engine.runs.home import RunDir
from finetui.log import read_log

WAIT_S = 240
HERE = Path(__file__).parent
# A Python for programs of ours that need torch: without its imports, and otherwise as one that is started anew.
FORKED = (sys.executable, "-P", str(HERE / "forked_python.py"))
SMALL = {
    "model": os.environ["FINETUI_SHALLOW"],
    # Some rows of bundled:docstrings and bundled:stdlib-prose: each of a hundred runs would read thousands.
    "data": {"train": str(HERE / "rows.jsonl"), "heldout": 8},
    "train": {
        "max_steps": 6,
        "precision": "fp32",  # losses are compared with those of plain libraries
        "tokens_per_step": 256,
        "micro_tokens": 192,
        "max_length": 48,
        "lr": 1e-3,
        "checkpoint_every": 2,
    },
    "evals": {
        "every": 3,
        "limit": 8,
        "general": str(HERE / "prose.jsonl"),
        "few_shot": 0,
        "samples": 0,
        "drift": 0,
        "generate": 1,
        "max_new_tokens": 4,
    },
}
# Looks take more than the steps: for tests of what is trained, not of what is seen on the way.
LEAN = {"evals__every": "100%", "evals__generate": 0, "evals__general": None, "evals__limit": 2}


class Call:
    """A function that runs in a process of its own."""

    def __init__(self, function: Callable[..., Any], *arguments: Any) -> None:
        self._scratch = tempfile.TemporaryDirectory(prefix="finetui-call-")
        task = Path(self._scratch.name) / "task"
        with task.open("wb") as file:
            pickle.dump(sys.path, file)
            pickle.dump((function, arguments), file)
        self.output = Path(self._scratch.name) / "output"
        self._order = order(str(task), self.output)
        identity = the_pool().answer(self._order, WAIT_S)
        assert identity is not None
        self.pid = identity.pid
        self._exitcode: int | None = None

    @property
    def exitcode(self) -> int | None:
        """As `subprocess` has it; None while the process lives."""
        if self._exitcode is None:
            self.join(0.001)
        return self._exitcode

    def join(self, wait_s: float = WAIT_S) -> None:
        self._order.connection.settimeout(wait_s)
        try:
            reply = pool.receive(self._order.connection) if self._exitcode is None else None
        except TimeoutError:
            return
        if self._exitcode is None:
            assert reply is not None, "the pool has ended while a test waited for its fork"
            self._order.drop()
            self._exitcode = os.waitstatus_to_exitcode(reply["status"])

    def terminate(self) -> None:
        self._send(signal.SIGTERM)

    def kill(self) -> None:
        self._send(signal.SIGKILL)

    def _send(self, number: signal.Signals) -> None:
        if self.exitcode is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)


@cache
def the_pool() -> Pool:
    """The pool of this session; FINETUI_POOL says where it is, for daemons of tests, too."""
    return Pool(on=True)


def order(task: str, output: Path) -> Order:
    """Started by whichever process asks first; the others may come while it does so."""
    deadline = time.monotonic() + WAIT_S
    while True:
        asked = the_pool().order([task], environment(os.environ, "cpu", 1), output, "called", wait=True)
        if asked is not None:
            return asked
        assert time.monotonic() < deadline, the_pool().problem
        time.sleep(0.05)


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


def start(run: RunDir, attempt: int = 1, file_size_limit: int | None = None) -> Call:
    """Start a worker; its output goes to the attempt's stdout.log."""
    run.attempt(attempt).path.mkdir(parents=True, exist_ok=True)
    return Call(_work, str(run.path), attempt, file_size_limit)


def finish(process: Call) -> int:
    """Wait for a worker; its exit code."""
    process.join(WAIT_S)
    if process.exitcode is None:
        process.kill()
        raise AssertionError("the worker did not end")
    return process.exitcode


def work(run: RunDir, attempt: int = 1) -> int:
    return finish(start(run, attempt))


def wait_for(run: RunDir, attempt: int, kind: str, process: Call, **fields: Any) -> None:
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


def keep_output(run: RunDir, attempt: int) -> None:
    """In a worker: what it prints goes to the attempt's stdout.log, as under the shim."""
    output = os.open(run.attempt(attempt).stdout, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(output, 1)
    os.dup2(output, 2)


def limit_file_size(limit: int | None) -> None:
    if limit is not None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))


def _work(path: str, attempt: int, file_size_limit: int | None) -> None:
    keep_output(RunDir(Path(path)), attempt)
    limit_file_size(file_size_limit)
    from engine.attempt.worker import main

    sys.exit(main(path, attempt))
