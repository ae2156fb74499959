"""The shim with real processes: what it writes, what it refuses to start, what a SIGKILL leaves."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from supervision import identities, kill_everything, submission, until, worker_environment

from engine.basics.process import Identity, alive, send
from engine.queue import accept
from engine.runs import journal
from engine.runs.home import RunDir
from finetui.home import Home
from finetui.numbers import last_number
from store.journal_lines import Cancel, Interrupted, Starting
from store.states import RunState

StartShim = Callable[..., "subprocess.Popen[bytes]"]


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    home = Home(tmp_path / "home")
    home.create()
    yield home
    kill_everything(home)


@pytest.fixture
def shim() -> Iterator[StartShim]:
    children: list[subprocess.Popen[bytes]] = []

    def start(run: RunDir, attempt: int = 1) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-P", "-m", "engine.attempt.shim", str(run.path), str(attempt)]
        child = subprocess.Popen(
            command,
            env={**os.environ, **worker_environment()},
            start_new_session=True,
            stderr=subprocess.PIPE,
        )
        children.append(child)
        return child

    yield start
    for child in children:
        child.kill()
        child.communicate()


def starting(home: Home, attempt: int = 1, **script: Any) -> RunDir:
    """A run of which the journal says that `attempt` is starting."""
    parts = accept.read_submission(submission(**script))
    run = accept.accept(home, last_number(home) + 1, *parts)
    journal.append(run, journal.read(run), Starting(attempt, RunState.STARTING, "cpu"))
    return run


def exit_of(run: RunDir, attempt: int = 1) -> dict[str, Any]:
    return json.loads(run.attempt(attempt).exit.read_text())


def starts(run: RunDir) -> list[str]:
    path = run.path / "starts.txt"
    return [line.split()[0] for line in path.read_text().splitlines()] if path.exists() else []


def live_worker(run: RunDir, attempt: int = 1) -> Identity:
    def ask() -> Identity | None:
        found = identities(run)
        return found[-1][1] if len(found) == attempt and run.attempt(attempt).events.exists() else None

    return until("a worker that logs", ask)


def test_says_how_the_worker_ended(home: Home, shim: StartShim) -> None:
    run = starting(home, steps=2)
    assert shim(run).wait(30) == 0
    said = exit_of(run)
    assert (said["exit_code"], said["signal"]) == (0, None)
    assert said["started"] <= said["ended"]
    assert said["peak_rss_mb"] > 5  # a Python process
    assert run.attempt(1).stdout.read_text() == "training\n"


def test_a_worker_killed_by_a_signal(home: Home, shim: StartShim) -> None:
    run = starting(home, steps=9, kill_self_at=1)
    shim(run).wait(30)
    assert (exit_of(run)["exit_code"], exit_of(run)["signal"]) == (None, signal.SIGKILL)


def test_a_worker_that_cannot_be_started_leaves_its_reason(
    home: Home, shim: StartShim, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = starting(home)
    run.meta.write_text("{ not json")
    shim(run).wait(30)
    assert exit_of(run)["exit_code"] == 127
    assert "the worker cannot be started" in run.attempt(1).stdout.read_text()


@pytest.mark.parametrize("change", ["cancelled", "requeued", "other attempt", "cancel asked"])
def test_a_shim_that_comes_late_starts_nothing(home: Home, shim: StartShim, change: str) -> None:
    run = starting(home)
    record = journal.read(run)
    match change:
        case "cancelled":
            journal.append(run, record, Cancel(RunState.CANCELLED))
        case "requeued":
            journal.append(run, record, Interrupted(1, interruptions=0, state=RunState.INTERRUPTED))
        case "other attempt":
            journal.append(run, record, Starting(2, RunState.STARTING))
        case "cancel asked":
            journal.append(run, record, Cancel(RunState.STARTING))
    child = shim(run)
    assert child.wait(30) == 75
    assert starts(run) == []
    assert not run.attempt(1).path.exists()


def test_of_many_shims_for_one_attempt_one_starts_it(home: Home, shim: StartShim) -> None:
    run = starting(home, steps=5)
    codes = sorted(child.wait(60) for child in [shim(run) for _ in range(4)])
    assert codes == [0, 75, 75, 75]
    assert starts(run) == ["1"]


def test_the_worker_outlives_its_shim_and_is_known(home: Home, shim: StartShim) -> None:
    run = starting(home, steps=10**6)
    child = shim(run)
    worker = live_worker(run)
    child.kill()
    child.wait()
    assert alive(worker)
    assert identities(run)[0][0].pid == child.pid  # type: ignore[union-attr]
    assert send(worker, signal.SIGTERM)
    until("the worker's end", lambda: not alive(worker))
    assert not run.attempt(1).exit.exists()


def test_the_shim_ignores_what_a_shutdown_or_a_terminal_sends(home: Home, shim: StartShim) -> None:
    run = starting(home, steps=10**6)
    child = shim(run)
    worker = live_worker(run)
    for signum in (signal.SIGHUP, signal.SIGINT, signal.SIGTERM):
        child.send_signal(signum)
    send(worker, signal.SIGTERM)
    assert child.wait(30) == 0
    assert exit_of(run)["exit_code"] == 3


def test_children_of_a_dead_worker_are_ended(home: Home, shim: StartShim) -> None:
    run = starting(home, steps=10**6, child=True)
    running = shim(run)
    worker = live_worker(run)
    pid = int(
        until("the child's pid", lambda: (run.path / "child.pid").exists() and read(run.path / "child.pid"))
    )
    from engine.basics.process import identify

    child = identify(pid)
    assert alive(child)
    send(worker, signal.SIGKILL)
    running.wait(30)
    until("the end of the worker's child", lambda: not alive(child))


def read(path: Path) -> str:
    return path.read_text()


def test_the_shim_is_light() -> None:
    """It lives beside every worker: no numerics, no validation library, no database."""
    code = "import engine.attempt.shim, sys; print(' '.join(sys.modules))"
    loaded = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True)
    heavy = {"torch", "numpy", "pydantic", "duckdb", "pyarrow", "psutil", "logging", "subprocess", "asyncio"}
    assert not heavy & set(loaded.stdout.split())


@pytest.mark.parametrize("how", ["deleted", "renamed"])
def test_a_worker_whose_directory_is_gone_is_killed(home: Home, shim: StartShim, how: str) -> None:
    run = starting(home, steps=10**6, step_s=0.2, checkpoint_every=10**6)
    started = shim(run)
    worker = live_worker(run)
    if how == "deleted":
        shutil.rmtree(run.path)
    else:
        run.path.rename(run.path.with_name("000099-elsewhere"))
    until("the worker's end", lambda: not alive(worker))
    assert started.wait(30) == 0
    assert not run.path.exists()


def test_what_a_worker_writes_is_its_owners_alone(home: Home, shim: StartShim) -> None:
    run = starting(home, steps=2)
    shim(run).wait(30)
    written = list(run.attempt(1).path.rglob("*")) + list(run.checkpoints.rglob("*"))
    assert len(written) > 5
    assert [path for path in written if path.stat().st_mode & 0o077] == []
