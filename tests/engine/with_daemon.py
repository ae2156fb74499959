"""Helpers of the tests that run a real daemon."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from supervision import identities, kill_everything, submission, until, worker_environment

from engine.basics.process import Identity, alive, identify, send
from engine.client import service
from engine.runs import journal
from engine.runs.home import RunDir, run_dirs
from finetui.client import Client
from finetui.home import Home

FOREVER = 10**6  # steps


@contextlib.contextmanager
def a_home(path: Path) -> Iterator[Home]:
    with pytest.MonkeyPatch.context() as patch:
        for key, value in {**worker_environment(), "FINETUI_HOME": str(path)}.items():
            patch.setenv(key, value)
        home = Home(path)
        home.create()
        home.config.touch(mode=0o600)
        home.config.write_text("retry_wait_seconds = 0\n")
        try:
            yield home
        finally:
            kill_daemon(home)
            kill_everything(home)


def kill_daemon(home: Home) -> None:
    if daemon := daemon_of(home):
        send(daemon, signal.SIGKILL)
        until("the daemon's end", lambda: not alive(daemon))


def daemon_of(home: Home) -> Identity | None:
    said = service.status(home)
    return identify(said["pid"]) if said else None


def submit(client: Client, **script: Any) -> int:
    return client.action("submit", **submission(**script))["run"]


def row(client: Client, run: int) -> dict[str, Any]:
    client.action("drain")
    return client.query(f"SELECT * FROM runs WHERE run = {run}").to_pylist()[0]


def wait_state(client: Client, run: int, *states: str) -> dict[str, Any]:
    """The run's row once it is in one of the states. Until then its journal is looked at, for which no daemon works."""
    place = RunDir(Path(row(client, run)["dir"]))

    def ask() -> dict[str, Any] | None:
        if place.path.is_dir() and journal.read(place).state not in states:
            return None
        found = row(client, run)
        return found if found["state"] in states else None

    return until(f"run #{run} {' or '.join(states)}", ask)


def directory(home: Home, run: int) -> RunDir:
    return next(found for found in run_dirs(home) if found.number == run)


def wait_worker(home: Home, run: int, attempt: int = 1) -> Identity:
    """The worker, once it logs."""

    def ask() -> Identity | None:
        where = directory(home, run)
        found = identities(where)
        return found[-1][1] if len(found) == attempt and where.attempt(attempt).events.exists() else None

    return until(f"a worker of run #{run}", ask)


def starts(home: Home, run: int) -> list[int]:
    """Attempts in the order in which workers really began."""
    path = directory(home, run).path / "starts.txt"
    return [int(line.split()[0]) for line in path.read_text().splitlines()] if path.exists() else []
