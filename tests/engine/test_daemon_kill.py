"""Nothing is lost and nothing starts twice, whoever is SIGKILLed when."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from supervision import identities, kill_everything, submission, until, worker_environment
from with_daemon import FOREVER, a_home, daemon_of, kill_daemon, starts, submit, wait_state, wait_worker

from engine.basics.process import alive, identify, send
from engine.queue import accept
from engine.queue.scheduler import Capacity
from engine.queue.settings import Settings
from engine.queue.supervisor import Supervisor
from engine.runs import journal
from engine.runs.home import RunDir, run_dirs
from finetui.client import Client
from finetui.daemon import connect
from finetui.errors import StoreError
from finetui.files import write_json
from finetui.home import Home
from finetui.lock import Lock
from store.journal_lines import Cancel, Running, Started, Starting
from store.states import RunState


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    with a_home(tmp_path / "home") as home:
        yield home


@pytest.mark.parametrize(("how", "points"), [("exec", {"exec"}), ("pool", {"connect", "send", "receive"})])
def test_a_supervisor_killed_at_every_point_loses_nothing_and_starts_nothing_twice(
    tmp_path: Path, how: str, points: set[str]
) -> None:
    """Every entry, rename and exec of a run's life is a point; see crash_points.py."""
    done = subprocess.run(
        [sys.executable, "-P", str(Path(__file__).with_name("crash_points.py")), str(tmp_path), how],
        env={**os.environ, **worker_environment()},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    lives = [json.loads(line) for line in done.stdout.splitlines()]
    assert {life["before"] for life in lives} >= {"entry", "rename", "replace", None} | points
    for life in lives:
        assert life["runs"] == [1], life
        assert life["state"] == "finished", life
        assert len(life["starts"]) == 1, life  # the worker itself was never hit
        assert not life["two"], life
        assert life["checkpoints"] == [3, 6, 9, 12, 15], life


def test_runs_outlive_the_daemon_and_are_found_again(home: Home) -> None:
    home.config.write_text("concurrency = 2\n")
    with connect(home) as client:
        runs = [submit(client, steps=FOREVER), submit(client, steps=FOREVER), submit(client, steps=2)]
        workers = [wait_worker(home, run) for run in runs[:2]]
        kill_daemon(home)
    assert all(alive(worker) for worker in workers)
    with connect(home) as client:
        assert client.action("status")["running"] == runs[:2]
        assert client.action("status")["queued"] == runs[2:]
        client.action("cancel", run=runs[0])
        wait_state(client, runs[0], "cancelled")
        wait_state(client, runs[2], "finished")
        assert alive(workers[1])
    assert [starts(home, run) for run in runs] == [[1], [1], [1]]


def test_a_run_that_ends_while_no_daemon_lives_is_told_by_the_next(home: Home) -> None:
    with connect(home) as client:
        ended, failed = submit(client, steps=30), submit(client, fail_at=1)
        wait_worker(home, ended)
        kill_daemon(home)
    until("its end", lambda: next(iter(run_dirs(home))).attempt(1).exit.exists())
    with connect(home) as client:
        assert wait_state(client, ended, "finished", "failed", "interrupted")["state"] == "finished"
        assert wait_state(client, failed, "failed")["reason"] == "the loss is not a number"


@pytest.mark.parametrize("why", ["another boot", "pid reused"])
def test_a_stranger_with_the_same_pid_is_not_the_worker(tmp_path: Path, why: str) -> None:
    """After a reboot, or when the number was given to another process, which must not be touched."""
    home = Home(tmp_path / "home")
    home.create()
    run = accept.accept(home, 1, *accept.read_submission(submission(steps=1)))
    with subprocess.Popen(["sleep", "60"]) as process:
        stranger = identify(process.pid)
        assert stranger
        changed = {"boot_id": "another"} if why == "another boot" else {"start_time": stranger.start_time - 1}
        worker = stranger._replace(**changed).to_dict()
        record = journal.append(run, journal.read(run), Starting(1, RunState.STARTING))
        record = journal.append(run, record, Started(1, **worker))
        record = journal.append(run, record, Running(1, RunState.RUNNING))
        journal.append(run, record, Cancel(RunState.RUNNING))
        run.attempt(1).path.mkdir(parents=True)
        write_json(run.attempt(1).process, {"shim": worker, "worker": worker})
        queue = Supervisor(home, Settings(Capacity(1), threads=1, grace_s=0.0), on_change=lambda run: None)
        queue.recover()
        queue.tick()
        untouched = alive(stranger)
        process.kill()
    assert untouched
    assert queue.problems == {}
    assert journal.read(run).state == "cancelled"


def test_a_run_is_not_declared_over_while_a_shim_may_be_starting_it(tmp_path: Path) -> None:
    """A shim of an earlier daemon holds the lock but has not made the attempt's directory yet."""
    home = Home(tmp_path / "home")
    home.create()
    run = accept.accept(home, 1, *accept.read_submission(submission(steps=1)))
    journal.append(run, journal.read(run), Starting(1, RunState.STARTING))
    queue = Supervisor(home, Settings(Capacity(0), threads=1, grace_s=0.0), on_change=lambda run: None)
    queue.recover()
    shim = Lock(run.lock)
    assert shim.acquire()
    queue.tick()
    assert journal.read(run).state == "starting"
    shim.release()
    queue.tick()
    assert journal.read(run).state == "interrupted"


def test_a_damaged_line_of_a_journal_is_told_and_costs_no_other_run(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    home.create()
    runs = [accept.accept(home, n, *accept.read_submission(submission(steps=1))) for n in (1, 2)]
    with runs[0].journal.open("a") as file:
        file.write(
            '{"kind":"priority","t":5,"priority":"high"}\n{"kind":"cancel","t":6,"state":"cancelled"}\n'
        )
    queue = Supervisor(home, Settings(Capacity(0), threads=1, grace_s=0.0), on_change=lambda run: None)
    queue.recover()
    assert queue.counts() == {"running": [], "queued": [2]}
    said = "run #1: line 3 of journal.jsonl is damaged (priority: 'high' is not a whole number)"
    assert queue.damaged == {1: f"{said}; the rest is used, the file is left as it is"}


def test_kills_at_random_moments(home: Home) -> None:
    """Daemons, shims and workers; submissions go on meanwhile. What was acknowledged is run once to its end."""
    rng = random.Random(7)
    home.config.write_text("concurrency = 2\n")
    acknowledged: list[int] = []
    for _ in range(3):
        with connect(home) as client:
            acknowledged.append(submit(client, steps=80))
            try_submit(client, acknowledged)
            time.sleep(rng.uniform(0.0, 0.4))  # the moment is the point, not a wait for something
            kill_one(rng, home)
            daemon = daemon_of(home)
            assert daemon
            send(daemon, signal.SIGKILL)
            try_submit(client, acknowledged)
            until("the daemon's end", lambda daemon=daemon: not alive(daemon))
    with connect(home) as client:
        for run in acknowledged:
            wait_state(client, run, "finished")
        assert len(set(acknowledged)) == len(acknowledged)
        for where in run_dirs(home):
            began = starts(home, where.number)
            assert began == sorted(set(began)), where
            assert not (where.path / "TWO").exists(), where
        said = client.query(
            "SELECT run, list(step ORDER BY step) AS steps FROM metrics GROUP BY run"
        ).to_pylist()
        assert {found["run"] for found in said} >= set(acknowledged)
        assert all(found["steps"] == list(range(1, 81)) for found in said)
        assert client.action("status")["problems"] == []


def kill_one(rng: random.Random, home: Home) -> None:
    """A random shim or worker that lives, if any."""
    live = [
        one
        for run in run_dirs(home)
        for pair in identities(run)
        for one in pair
        if one and alive(one) and run_can_lose_one_more(run)
    ]
    if live:
        send(rng.choice(live), signal.SIGKILL)


def run_can_lose_one_more(run: RunDir) -> bool:
    """Three in a row without a checkpoint would rightly fail it."""
    return journal.read(run).interruptions == 0


def try_submit(client: Client, acknowledged: list[int]) -> None:
    try:
        acknowledged.append(submit(client, steps=80))
    except StoreError:
        return


@pytest.fixture(autouse=True)
def _nothing_is_left(tmp_path: Path) -> Iterator[None]:
    yield
    for home in (Home(path.parent) for path in tmp_path.glob("*/runs")):
        kill_everything(home)
