"""Helpers of the tests of queue and supervision: a submission, waiting with a deadline, cleaning up."""

from __future__ import annotations

import contextlib
import json
import signal
import time
from collections.abc import Callable
from typing import Any, TypeVar

from engine.basics.process import Identity, kill_group, send
from engine.runs.home import RunDir, run_dirs
from finetui.home import Home

T = TypeVar("T")
RECIPE = {"model": {"path": "bundled:stdlib-2m"}, "method": {"name": "lora"}, "data": {"train": "x.jsonl"}}


def submission(**script: Any) -> dict[str, Any]:
    """A run whose worker is tests/engine/fake_worker.py, doing what `script` says."""
    return {"recipe": RECIPE, "name": "Fake Run", "recipe_text": json.dumps(script)}


def worker_environment() -> dict[str, str]:
    """Nothing else, so that a test with a real worker after all has it forked from the pool of the session."""
    return {"FINETUI_WORKER_MODULE": "fake_worker"}


def until(what: str, ask: Callable[[], T], deadline_s: float = 120.0) -> T:
    """The first true answer; fails the test after the deadline. Asked ever more rarely: that costs time, too."""
    end, pause = time.monotonic() + deadline_s, 0.02
    while not (answer := ask()):
        assert time.monotonic() < end, f"not within {deadline_s:g} s: {what}"
        time.sleep(pause)
        pause = min(0.15, 1.3 * pause)
    return answer


def identities(run: RunDir) -> list[tuple[Identity | None, Identity | None]]:
    """Shim and worker of every attempt that began."""
    found = []
    for attempt in run.attempts():
        with contextlib.suppress(OSError, ValueError):
            body = json.loads(attempt.process.read_text())
            found.append((Identity.from_dict(body["shim"]), Identity.from_dict(body["worker"])))
    return found


def kill_everything(home: Home) -> None:
    """SIGKILL every process recorded in the home's runs."""
    for run in run_dirs(home):
        for shim, worker in identities(run):
            if worker and shim:
                kill_group(worker, session=shim.pid)
            if shim:
                send(shim, signal.SIGKILL)
