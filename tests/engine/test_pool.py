"""The pool: a fork is what a program started anew is, and whatever becomes of the pool, no run does."""

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
from workers import LEAN, Call, curve, finish, measured, small

from engine.basics import child, pool
from engine.basics.pool import WORKER
from engine.basics.process import Identity, alive, identify, send
from engine.queue import accept
from engine.queue.executor import Executor, environment
from engine.queue.pool import Pool
from engine.queue.scheduler import Capacity
from engine.queue.settings import Settings
from engine.queue.supervisor import Supervisor
from engine.runs import journal
from engine.runs.home import RunDir, run_dirs
from finetui.files import read_json
from finetui.home import Home
from finetui.numbers import last_number
from finetui.start import program
from store.journal_lines import Starting
from store.states import RunState

IMPATIENT = """
import sys
from engine.attempt import pool
pool.LOOK_S = 0.05
{change}
sys.exit(pool.main())
"""
KEYS = "keys = iter([sys.argv[3]]); pool.pool.key = lambda worker: next(keys, 'another')"


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    home = Home(tmp_path / "home")
    home.create()
    yield home
    kill_everything(home)


@pytest.fixture
def light(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[pool.Place]:
    """Where a pool of the test's own is: it imports nothing, and what it forks executes tests/engine/fake_worker.py."""
    for name, value in {**worker_environment(), pool.PLACE: str(tmp_path / "pool")}.items():
        monkeypatch.setenv(name, value)
    place = pool.place("fake_worker")
    yield place
    if one := pool_at(place):
        send(one, signal.SIGKILL)


def pool_at(place: pool.Place) -> Identity | None:
    try:
        found = Identity.from_dict(read_json(place.lock))
    except (OSError, ValueError):
        return None
    return found if alive(found) else None


def ended(identity: Identity | None) -> bool:
    return not alive(identity)


def queue_of(home: Home) -> Supervisor:
    settings = Settings(Capacity(2), threads=1, grace_s=5.0, pool=True)
    return Supervisor(home, settings, on_change=lambda run: None)


def starts(run: RunDir) -> list[str]:
    path = run.path / "starts.txt"
    return [line.split()[0] for line in path.read_text().splitlines()] if path.exists() else []


# ---- a fork and a program


def test_a_fork_is_what_a_program_is_that_is_executed(
    light: pool.Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Arguments, what `ps` shows, environment, folder, files, signals, session, limits: all that it can see itself."""
    monkeypatch.setenv("OF_THE_RUN", "ü = 1")
    env = environment(os.environ, "gpu1", 3)
    told = [tmp_path / name / "told.json" for name in ("by-exec", "by-fork")]
    for path in told:
        path.parent.mkdir()
    # Whoever runs the tests may ignore both.
    as_daemon = {signal.SIGHUP: signal.SIG_IGN, signal.SIGINT: signal.SIG_DFL}
    before = {number: signal.signal(number, action) for number, action in as_daemon.items()}
    with (tmp_path / "output").open("ab") as output:
        subprocess.run(
            program("told", str(told[0])),
            env=env,
            cwd="/",
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,
            umask=0o077,
            check=False,
        )
    for number, action in before.items():
        signal.signal(number, action)
    parent = Pool(on=True)
    order = parent.order([str(told[1])], env, tmp_path / "output", "told", wait=True)
    assert order is not None, parent.problem
    assert parent.answer(order, 60.0)
    order.connection.settimeout(60.0)
    reply = pool.receive(order.connection)
    assert reply
    assert os.waitstatus_to_exitcode(reply["status"]) == 3
    executed, forked = (json.loads(path.read_text().replace(path.parent.name, "")) for path in told)
    assert executed == forked
    assert executed["environ"]["CUDA_VISIBLE_DEVICES"] == "1"
    assert (tmp_path / "output").read_text() == "said\nsaid\n"


def test_a_child_is_the_same_forked_where_a_pool_is_up_and_executed_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Folder, umask, streams, exit code: what whoever exports a run, or asks for a report, has chosen."""
    assert finish(Call(len, "the pool of this session is up")) == 0
    monkeypatch.chdir(tmp_path)
    umask = os.umask(0o027)
    outcomes, told = [], tmp_path / "told.json"
    try:
        for place in (os.environ[pool.PLACE], str(tmp_path / "none")):
            monkeypatch.setenv(pool.PLACE, place)
            started = child.start("told", str(told), stdin="given")
            said, code = started.read()
            state = json.loads(told.read_text())
            read = {name: state[name] for name in ("argv", "cwd", "umask", "leads its session", "path")}
            outcomes.append((said, code, read, isinstance(started.process, child.Forked)))
    finally:
        os.umask(umask)
    forked, executed = outcomes
    assert forked[:3] == executed[:3]
    assert (forked[3], executed[3]) == (True, False)
    assert forked[0] == "said\ngiven"
    assert forked[1] == 3
    assert forked[2]["umask"] == 0o027


def test_a_forked_child_can_be_ended() -> None:
    assert finish(Call(len, "the pool of this session is up")) == 0
    read, write = os.pipe()
    sleeper = child.start("told", "--sleep", stderr=write)
    os.close(write)
    sleeper.process.terminate()
    assert sleeper.read() == ("", -signal.SIGTERM)
    assert os.read(read, 1) == b"", "nobody else holds it"
    os.close(read)


def test_a_forked_run_trains_as_one_that_was_executed(home: Home) -> None:
    """On two threads each, to the last digit: losses, scores, weights; and the figures for its memory."""
    tree = small(method="full", **LEAN)
    runs = []
    for use_pool in (False, True):
        body = {"recipe": tree, "name": "same"}
        run = accept.accept(home, last_number(home) + 1, *accept.read_submission(body))
        journal.append(run, journal.read(run), Starting(1, RunState.STARTING, "cpu"))
        runs.append((run, start(Executor(use_pool), run)))
    looks_like_a_worker(*runs[1])
    for run, _ in runs:
        until("its end", run.attempt(1).exit.exists)
        assert json.loads(run.attempt(1).exit.read_text())["exit_code"] == 0, run.attempt(
            1
        ).stdout.read_text()
    (executed, _), (forked, shim) = runs
    assert identities(forked)[0][0] == shim
    assert len(curve(executed)) == 6
    assert curve(forked) == curve(executed)
    assert measured(forked) == measured(executed)
    files = [run.path / "model" / "model.safetensors" for run in (executed, forked)]
    assert files[0].read_bytes() == files[1].read_bytes()
    peaks = [json.loads(run.attempt(1).exit.read_text())["peak_rss_mb"] for run in (executed, forked)]
    assert peaks[1] == pytest.approx(peaks[0], rel=0.25)


def start(executor: Executor, run: RunDir) -> Identity | None:
    shim = executor.start(run, 1, "cpu", 2, 1)
    while executor.is_ordered(run):
        shim = executor.collect(run, 1.0)
    assert executor.pool.problem is None
    return shim


def looks_like_a_worker(run: RunDir, shim: Identity | None) -> None:
    """To `ps`, to a terminal, to a kill of its group; and it does not hold the lock of its shim."""
    until("its log", run.attempt(1).events.exists)
    worker = identities(run)[0][1]
    assert worker
    assert shim
    assert (os.getsid(worker.pid), os.getpgid(worker.pid)) == (shim.pid, worker.pid)
    shown = Path(f"/proc/{worker.pid}/cmdline").read_bytes().rstrip(b"\0").decode()
    assert shown == " ".join(program(WORKER, str(run.path), "1"))
    held = [str(one.readlink()) for one in Path(f"/proc/{worker.pid}/fd").iterdir() if one.is_symlink()]
    assert str(run.attempt(1).stdout) in held
    assert not [path for path in held if "socket" in path or path == str(run.lock)]


# ---- when it is not used


@pytest.mark.parametrize("changed", ["HF_HOME", "LD_PRELOAD", "PYTHONPATH"])
def test_what_was_read_at_import_has_to_be_the_same(light: pool.Place, tmp_path: Path, changed: str) -> None:
    parent = Pool(on=True)
    env = environment(os.environ, "cpu", 1)
    first = parent.order(["x"], env, tmp_path / "output", "told")
    assert first
    assert parent.answer(first, 60.0)
    second = parent.order(["x"], {**env, changed: "/elsewhere"}, tmp_path / "output", "told")
    assert second
    with pytest.raises(LookupError):
        parent.answer(second, 60.0)
    assert parent.problem == f"${changed} is not that of the pool"


def test_a_run_is_executed_where_the_pool_is_off_or_the_run_has_several_processes(
    light: pool.Place, home: Home
) -> None:
    for number, (use_pool, processes) in enumerate([(False, 1), (True, 2)], 1):
        run = accept.accept(home, number, *accept.read_submission(submission(steps=1)))
        journal.append(run, journal.read(run), Starting(1, RunState.STARTING, "cpu"))
        assert Executor(use_pool).start(run, 1, "cpu", 1, processes)
        until("its end", run.attempt(1).exit.exists)
    assert not light.directory.exists()


def test_changed_code_or_libraries_mean_another_pool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code, libraries = tmp_path / "engine" / "loop.py", tmp_path / "site-packages"
    code.parent.mkdir()
    code.write_text("1")
    libraries.mkdir()
    monkeypatch.setattr(pool, "ROOT", tmp_path)
    monkeypatch.setattr("sys.path", [str(libraries)])
    keys = [pool.key(WORKER)]
    code.write_text("2 + 2")
    keys.append(pool.key(WORKER))
    (libraries / "torch-3.0.dist-info").mkdir()
    keys.append(pool.key(WORKER))
    os.utime(libraries / "torch-3.0.dist-info", (1, 1))  # installed again
    keys += [pool.key(WORKER), pool.key("fake_worker")]
    assert len(set(keys)) == len(keys)
    assert pool.key("fake_worker") == keys[-1]


def test_a_directory_of_somebody_else_is_not_used(light: pool.Place, tmp_path: Path) -> None:
    (tmp_path / "pool").write_text("")
    parent = Pool(on=True)
    assert parent.order(["x"], environment(os.environ, "cpu", 1), tmp_path / "output") is None
    assert parent.problem


# ---- kills


def test_a_pool_killed_at_random_loses_no_run_and_starts_none_twice(light: pool.Place, home: Home) -> None:
    rng, queue = random.Random(5), queue_of(home)
    for _ in range(12):
        queue.submit(submission(steps=6, step_s=0.02))
    kills = 0
    deadline = time.monotonic() + 120
    while any(queue.counts().values()):
        queue.tick()
        assert not queue.problems, queue.problems
        assert time.monotonic() < deadline, queue.counts()
        if kills < 8 and rng.random() < 0.15 and (one := pool_at(light)):
            kills += send(one, signal.SIGKILL)
        time.sleep(0.02)
    assert kills >= 2  # after two in a row without an answer between them, none is started any more
    for run in run_dirs(home):
        assert journal.read(run).state == "finished", run.path
        assert starts(run) == ["1"]
        assert not (run.path / "TWO").exists()


def test_runs_outlive_the_pool_and_how_they_end_is_known(light: pool.Place, home: Home) -> None:
    queue = queue_of(home)
    queue.submit(submission(steps=30, step_s=0.05, kill_self_at=20))
    run = run_dirs(home)[0]
    until("its worker", lambda: (queue.tick(), starts(run))[1])
    one = pool_at(light)
    assert one
    send(one, signal.SIGKILL)
    until("its end", run.attempt(1).exit.exists)
    assert json.loads(run.attempt(1).exit.read_text())["signal"] == signal.SIGKILL


@pytest.mark.parametrize("then", ["killed", "cancelled", "another daemon"])
def test_while_the_pool_does_not_answer(light: pool.Place, home: Home, then: str) -> None:
    """As while it imports: the run waits, may be cancelled, and is executed once the pool is gone."""
    parent = Pool(on=True)
    first = parent.order(["x"], environment(os.environ, "cpu", 1), home.path / "output", "told")
    assert first
    assert parent.answer(first, 60.0)
    one = pool_at(light)
    assert one
    send(one, signal.SIGSTOP)
    queue = queue_of(home)
    number = queue.submit(submission(steps=2))
    run = run_dirs(home)[0]
    queue.tick()
    queue.tick()
    assert journal.read(run).state == "starting"
    assert starts(run) == []
    match then:
        case "killed":
            send(one, signal.SIGKILL)
        case "cancelled":
            queue.cancel(number)
            assert journal.read(run).state == "cancelled"
            send(one, signal.SIGCONT)
        case "another daemon":
            queue = queue_of(home)
            queue.recover()
            send(one, signal.SIGCONT)
    until("its end", lambda: (queue.tick(), not any(queue.counts().values()))[1])
    assert journal.read(run).state == ("cancelled" if then == "cancelled" else "finished")
    assert len(starts(run)) == (0 if then == "cancelled" else 1)


def test_a_pool_that_is_ended_takes_its_socket_along(
    light: pool.Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At whatever it is just looking."""
    patient = [sys.executable, "-P", "-u", "-c", IMPATIENT.format(change="pool.LOOK_S = 0.0")]
    monkeypatch.setattr("engine.queue.pool.program", lambda module, *arguments: [*patient, *arguments])
    parent = Pool(on=True)
    order = parent.order(
        [str(tmp_path / "told")], environment(os.environ, "cpu", 1), tmp_path / "output", "told"
    )
    assert order
    assert parent.answer(order, 60.0)
    one = pool_at(light)
    assert one
    send(one, signal.SIGTERM)
    until("its end", lambda: ended(identify(one.pid)))
    assert not light.socket.exists()
    assert parent.status()["pid"] is None


# ---- how it ends by itself


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ("pool.IDLE_S = 0.3", None),
        (KEYS, None),
        ("pool.LARGEST_BYTES = 1 << 20", "it takes"),
        (
            "import threading, time; threading.Thread(target=time.sleep, args=[3], daemon=True).start()",
            "a thread",
        ),
    ],
    ids=["idle", "changed", "large", "thread"],
)
def test_it_ends_when_it_is_of_no_use(
    light: pool.Place, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: str, why: str | None
) -> None:
    command = [sys.executable, "-P", "-u", "-c", IMPATIENT.format(change=change)]
    monkeypatch.setattr("engine.queue.pool.program", lambda module, *arguments: [*command, *arguments])
    parent = Pool(on=True)
    order = parent.order(
        [str(tmp_path / "told")], environment(os.environ, "cpu", 1), tmp_path / "output", "told"
    )
    assert order
    if why is None:
        assert parent.answer(order, 60.0)
        until("its end", lambda: not light.socket.exists())
        return
    with pytest.raises(LookupError, match=why):
        parent.answer(order, 60.0)
