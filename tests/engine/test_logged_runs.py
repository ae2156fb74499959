"""Runs that programs log by themselves, as the daemon finds, watches and ends them. With a real daemon."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

import psutil
import pytest
from supervision import RECIPE, until
from with_daemon import a_home, directory, kill_daemon, row, submit, wait_state

import finetui
from engine.basics.errors import ExportError, FixError, QueueError
from engine.client import clone, fix
from engine.export import source
from engine.queue import logged
from engine.runs import journal
from engine.runs.home import RunDir
from finetui.client import Client
from finetui.daemon import connect
from finetui.errors import StoreError
from finetui.home import Home

BEGIN = "import sys, time, signal, subprocess, finetui\nrun = finetui.init('own', config={'lr': 1, 'seed': 'x'})\n"
LOG = "step = 0\nwhile True:\n    step += 1\n    run.log({'loss': 1.0}, step=step)\n    print(step, flush=True)\n"


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    with a_home(tmp_path_factory.mktemp("logged") / "home") as home, connect(home):
        yield home


@pytest.fixture
def client(home: Home) -> Iterator[Client]:
    with connect(home) as client:
        yield client


@pytest.fixture
def programs() -> Iterator[list[subprocess.Popen[str]]]:
    begun: list[subprocess.Popen[str]] = []
    yield begun
    for program in begun:
        program.kill()
        program.wait()
        if program.stdout:
            program.stdout.close()


def begin(programs: list[subprocess.Popen[str]], code: str) -> subprocess.Popen[str]:
    """A program that has begun its run, and said so in its first line."""
    program = subprocess.Popen(
        [sys.executable, "-c", f"{BEGIN}print(run.number, flush=True)\n{code}"],
        stdout=subprocess.PIPE,
        text=True,
    )
    programs.append(program)
    return program


def number_of(program: subprocess.Popen[str]) -> int:
    assert program.stdout is not None
    return int(program.stdout.readline())


def seen(client: Client, run: int) -> bool:
    """Whether the queue knows the run."""
    return run in client.action("status")["running"]


def points(client: Client, run: int) -> list[int]:
    client.action("drain")
    return client.query(f"SELECT step FROM metrics WHERE run = {run} ORDER BY step")["step"].to_pylist()


def test_a_killed_program_has_failed_and_no_point_is_lost(
    client: Client, programs: list[subprocess.Popen[str]]
) -> None:
    program = begin(programs, LOG)
    run = number_of(program)
    until("the run", lambda: seen(client, run))
    assert program.stdout is not None
    while int(program.stdout.readline()) < 200:
        pass
    program.send_signal(signal.SIGKILL)
    said = [line for line in program.communicate()[0].splitlines(keepends=True) if line.endswith("\n")]
    last = int(said[-1]) if said else 200
    found = wait_state(client, run, "failed")
    assert "killed, or ended at once" in found["reason"]
    assert (found["method"], found["logged"], found["seed"]) == ("logged", True, None)
    steps = points(client, run)
    assert steps == list(range(1, len(steps) + 1))  # each once
    assert len(steps) >= last


def test_a_daemon_that_dies_meanwhile_is_not_missed(
    home: Home, programs: list[subprocess.Popen[str]]
) -> None:
    with connect(home) as client:
        program = begin(
            programs,
            "for step in range(3000):\n    run.log({'loss': 1.0})\n    time.sleep(0.001)\nrun.finish()\n",
        )
        run = number_of(program)
        until("the run", lambda: seen(client, run))
    kill_daemon(home)
    assert program.poll() is None
    with connect(home) as client:
        found = wait_state(client, run, "finished", "failed")
        assert found["state"] == "finished"
        assert points(client, run) == list(range(1, 3001))


def test_it_takes_no_slot_and_no_number_of_others(
    client: Client, programs: list[subprocess.Popen[str]]
) -> None:
    begun = [
        begin(programs, "for _ in range(5): finetui.init('more').finish()\ntime.sleep(60)\n")
        for _ in range(2)
    ]
    ours = [submit(client, steps=1) for _ in range(6)]
    theirs = [number_of(program) for program in begun]
    for run in ours:
        wait_state(client, run, "finished")  # though two others go on
    until("their other runs", lambda: len(client.query("SELECT 1 FROM runs WHERE name = 'more'")) == 10)
    client.action("drain")
    numbers = client.query("SELECT run, count(DISTINCT dir) AS n FROM runs GROUP BY run").to_pylist()
    assert all(one["n"] == 1 for one in numbers)
    assert {*ours, *theirs} <= {one["run"] for one in numbers}
    assert not client.action("status")["problems"]  # no two directories with one number


def test_cancel_sends_sigterm_to_the_program_alone(
    home: Home, client: Client, programs: list[subprocess.Popen[str]]
) -> None:
    code = (
        "child = subprocess.Popen([sys.executable, '-c', 'import time; time.sleep(60)'])\n"
        "print(child.pid, flush=True)\ntime.sleep(60)\n"
    )
    program = begin(programs, code)
    run = number_of(program)
    assert program.stdout is not None
    child = psutil.Process(int(program.stdout.readline()))
    until("the run", lambda: seen(client, run))
    for action in ("pause", "resume", "requeue", "hold", "priority", "start_now"):
        with pytest.raises(StoreError, match="is logged by its own program"):
            client.action(action, run=run, priority=1)
    with pytest.raises(StoreError, match="is logged by its own program"):
        client.action("submit", recipe=RECIPE, parent=run)
    where = directory(home, run)
    for error, refused in (
        (FixError, lambda: fix._read(where)),
        (ExportError, lambda: source.read(where)),
        (QueueError, lambda: clone.recipe_of(where, [])),
    ):
        with pytest.raises(error, match="is logged by its own program"):
            refused()
    client.action("cancel", run=run)
    found = wait_state(client, run, "cancelled")
    assert found["reason"] is None
    assert program.wait() == -signal.SIGTERM
    assert child.is_running()
    child.kill()


def test_a_program_that_does_not_heed_it_goes_on(
    home: Home, client: Client, programs: list[subprocess.Popen[str]]
) -> None:
    program = begin(
        programs, "signal.signal(signal.SIGTERM, lambda *_: None)\nprint(0, flush=True)\ntime.sleep(600)\n"
    )
    run = number_of(program)
    assert program.stdout is not None
    program.stdout.readline()
    until("the run", lambda: seen(client, run))
    assert client.action("cancel", run=run)["state"] == "running"
    with pytest.raises(StoreError, match="already stopping"):
        client.action("cancel", run=run)
    shutil.rmtree(directory(home, run).path)
    until("the run to be gone", lambda: not seen(client, run))
    time.sleep(0.5)
    assert program.poll() is None


def test_a_notebook_ends_one_run_and_goes_on(client: Client, programs: list[subprocess.Popen[str]]) -> None:
    program = begin(
        programs,
        "second = finetui.init('second')\nprint(second.number, flush=True)\n"
        "run.log({'loss': 1.0})\nrun.config.update(batch=8, lr=2)\ntime.sleep(2)\nrun.finish('failed', 'no luck')\n"
        "second.log({'loss': 2.0})\ntime.sleep(600)\n",
    )
    first, second = number_of(program), number_of(program)
    until("both", lambda: seen(client, second))
    found = wait_state(client, first, "failed")
    assert (found["reason"], found["step"]) == ("no luck", 1)
    assert program.poll() is None
    assert row(client, second)["state"] == "running"
    params = client.query(f"SELECT key, value FROM params WHERE run = {first} ORDER BY key").to_pylist()
    assert [tuple(one.values()) for one in params] == [("batch", "8"), ("lr", "2"), ("seed", "x")]


def test_a_copy_of_one_that_goes_on_does_not(
    home: Home, client: Client, programs: list[subprocess.Popen[str]]
) -> None:
    program = begin(programs, "time.sleep(600)\n")
    run = number_of(program)
    until("the run", lambda: seen(client, run))
    shutil.copytree(directory(home, run).path, home.runs / f"{run + 5:06d}-copy")
    until("the copy", lambda: len(client.query(f"SELECT 1 FROM runs WHERE run = {run + 5}")))
    found = wait_state(client, run + 5, "cancelled")
    assert "it is a copy of run" in found["reason"]
    assert row(client, run)["state"] == "running"
    assert program.poll() is None


def flags(client: Client, run: int) -> dict[str, str]:
    client.action("drain")
    rows = client.query(
        f"SELECT flag, suite, state, level FROM flags WHERE run = {run} ORDER BY step, t"
    ).to_pylist()
    return {f"{one['flag']} of {one['suite']}": one["level"] for one in rows}


def test_flags_are_raised_on_it(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    """By examples: overfitting, forgetting; by curves: a loss that is no number. Also of a run that is over at once."""
    chance = random.Random(0)
    n = 60
    ease, tokens = [chance.gauss(80, 20) for _ in range(n)], [chance.randint(20, 60) for _ in range(n)]

    def losses(change: float) -> list[float]:
        return [at + t * (change + chance.gauss(0, 0.05)) for at, t in zip(ease, tokens, strict=True)]

    learned = [0.0, -0.3, -0.6, -0.8, -0.7, -0.55, -0.4, -0.25, -0.1]
    with finetui.init("overfits") as run:
        for look, change in enumerate(learned):
            run.log_examples(50 * look, losses(change), tokens)
            run.log_examples(50 * look, losses(-0.35 * look), tokens, suite="seen")
            run.log_examples(50 * look, losses(0.2 * look), tokens, suite="general")
    with finetui.init("breaks") as broken:
        for step in range(1, 20):
            broken.log({"loss": 2.0 if step < 10 else float("nan")}, step=step)
    assert run.number
    assert broken.number
    wait_state(client, run.number, "finished")
    wait_state(client, broken.number, "finished")
    assert flags(client, run.number) == {
        "overfitting of heldout": "critical",
        "forgetting of general": "critical",
    }
    assert flags(client, broken.number) == {"nan of train": "critical"}
    actions = client.query(
        f"SELECT DISTINCT advice::VARCHAR AS text FROM flags WHERE run = {run.number}"
    ).to_pylist()
    assert not any("train.max_steps" in one["text"] for one in actions)


def test_one_process_raises_the_flags_of_a_run_over_two_daemons(
    home: Home, programs: list[subprocess.Popen[str]]
) -> None:
    with connect(home) as client:
        program = begin(programs, "run.log({'loss': float('nan')})\ntime.sleep(600)\n")
        run = number_of(program)
        until("its flag", lambda: flags(client, run))
        (beside,) = beside_run(home, run)
    kill_daemon(home)
    with connect(home) as client:
        until("the run", lambda: seen(client, run))
        assert beside_run(home, run) == [beside]
        beside.kill()
        program.kill()
        wait_state(client, run, "failed")
        client.action("drain")
        assert len(client.query(f"SELECT 1 FROM flags WHERE run = {run}")) == 1


def beside_run(home: Home, run: int) -> list[psutil.Process]:
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if (
                "engine.attempt.logged" in process.cmdline()
                and str(directory(home, run).path) in process.cmdline()
            ):
                found.append(process)
    return found


def test_a_damaged_journal_starts_nothing(home: Home, client: Client) -> None:
    with finetui.init("damaged") as run:
        run.log({"loss": 1.0})
    assert run.number
    assert run.path
    wait_state(client, run.number, "finished")
    kill_daemon(home)
    path = run.path / "journal.jsonl"
    lines = path.read_text().splitlines()
    path.write_text(
        "\n".join([lines[0], "{broken}", *lines[2:-2], "{broken}"]) + "\n"
    )  # neither logged nor ended
    with connect(home) as again:
        until("its end", lambda: not again.action("status")["running"])
        assert not again.action("status")["queued"]
    assert journal.read(directory(home, run.number)).state == "finished"
    assert [path.name for path in (run.path / "attempts").iterdir()] == ["1"]


def test_a_program_on_another_machine_is_not_taken_for_dead(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(logged, "_start", lambda run: None)
    one = finetui.init("far", home=tmp_path / "home", daemon=False)
    one.log({"loss": 1.0})
    assert one.path
    run = RunDir(one.path)
    meta = json.loads(run.meta.read_text())
    run.meta.write_text(json.dumps({**meta, "host": "another"}))
    record = replace(journal.read(run), worker=None)
    runs = logged.LoggedRuns()
    assert runs.look(run, record) is None
    times = run.attempt(1).events.stat()
    os.utime(run.attempt(1).events, (times.st_atime, times.st_mtime - 100_000))
    ended = runs.look(run, record)
    one.finish()
    assert ended
    assert (ended.state, ended.reason) == (
        "failed",
        "its program was on another, and has logged nothing for a day",
    )
    cancelled = logged.LoggedRuns().look(run, replace(record, request="cancel"))
    assert cancelled
    assert cancelled.state == "finished"  # by its own word
