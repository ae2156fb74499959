"""The daemon as a user meets it: real processes, real database, through the socket."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from supervision import identities, submission, until
from with_daemon import (
    FOREVER,
    a_home,
    daemon_of,
    directory,
    row,
    starts,
    submit,
    wait_state,
    wait_worker,
)

from engine.basics.pool import circumstances, difference
from engine.basics.process import alive, identify, send
from engine.client import service
from engine.queue import accept
from engine.queue.scheduler import Capacity
from engine.queue.settings import Settings
from engine.queue.supervisor import Supervisor
from engine.runs import disk, journal
from engine.runs.home import run_dirs
from finetui.client import Client
from finetui.daemon import connect, environment, forget_allocator
from finetui.errors import ExitCode, StoreError
from finetui.home import Home
from finetui.log import read_log


@pytest.fixture
def own_home(tmp_path: Path) -> Iterator[Home]:
    """A home without a daemon, for tests about the daemon's own life."""
    with a_home(tmp_path / "home") as home:
        yield home


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    """A home whose daemon all tests of runs share, since a start takes seconds on a busy machine."""
    with a_home(tmp_path_factory.mktemp("shared") / "home") as home:
        home.config.write_text("grace_s = 2.0\nretry_wait_seconds = 0\n")
        yield home


@pytest.fixture
def client(home: Home) -> Iterator[Client]:
    """Of the shared daemon, which has nothing left to do afterwards."""
    with connect(home) as client:
        yield client
        said = client.action("status")
        assert said["problems"] == []
        for run in said["queued"] + said["running"]:
            client.action("cancel", run=run)
        until("an empty queue", lambda: not client.action("status")["running"])


# ---- the service ---------------------------------------------------------------------------------


def test_the_first_command_starts_it_and_stop_ends_it(own_home: Home) -> None:
    assert not service.running(own_home)
    assert service.status(own_home) is None
    assert service.stop(own_home) is False
    with connect(own_home) as client:
        said = client.action("status")
    assert said["home"] == str(own_home.path)
    assert said["queued"] == said["running"] == said["problems"] == []
    assert service.status(own_home)["same_version"]  # type: ignore[index]
    assert service.stop(own_home) is True
    assert not service.running(own_home)
    assert identify(said["pid"]) is None or not alive(identify(said["pid"]))


def test_it_is_detached_and_light(own_home: Home) -> None:
    """No terminal, no session of ours, no descriptor of ours; hang-ups do not matter; no torch and no pandas."""
    read_end, write_end = os.pipe()
    os.set_inheritable(write_end, True)
    try:
        with connect(own_home) as client:
            pid = client.action("status")["pid"]
            assert os.getsid(pid) == pid
            assert str(Path(f"/proc/{pid}/cwd").readlink()) == "/"
            opened = {str(path.readlink()) for path in Path(f"/proc/{pid}/fd").iterdir() if path.is_symlink()}
            assert str(Path(f"/proc/self/fd/{write_end}").readlink()) not in opened
            assert str(Path(f"/proc/{pid}/fd/0").readlink()) == "/dev/null"
            assert str(Path(f"/proc/{pid}/fd/2").readlink()) == str(own_home.daemon_log)
            os.kill(pid, signal.SIGHUP)
            client.action("status")
            loaded = Path(f"/proc/{pid}/maps").read_text()
            assert "/_duckdb" in loaded
            assert not any(f"/{name}/" in loaded for name in ("torch", "pandas"))
    finally:
        os.close(read_end)
        os.close(write_end)


def test_the_daemons_modules_hold_no_torch() -> None:
    code = "import engine.queue.daemon, store.ingest, store.projection, store.server, sys; print(' '.join(sys.modules))"
    loaded = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, check=True)
    assert not {"torch", "transformers", "datasets", "textual", "typer"} & set(loaded.stdout.split())


def test_two_commands_at_once_start_one_daemon(own_home: Home) -> None:
    code = "import finetui; print(finetui.connect().action('status')['pid'])"
    commands = [
        subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) for _ in range(2)
    ]
    pids = {command.communicate(timeout=60)[0].strip() for command in commands}
    assert len(pids) == 1
    assert own_home.daemon_log.read_text().count("is ready") == 1


def test_why_it_cannot_start_reaches_the_user(own_home: Home) -> None:
    own_home.config.write_text("concurency = 2\n")
    with pytest.raises(StoreError) as caught:
        connect(own_home)
    assert str(caught.value) == f"{own_home.config}, key concurency: unknown key; did you mean `concurrency`?"
    assert caught.value.kind == "config"
    assert caught.value.exit_code == ExitCode.BAD_INPUT


def test_sigterm_ends_it_in_order(own_home: Home) -> None:
    connect(own_home).close()
    daemon = daemon_of(own_home)
    assert daemon
    send(daemon, signal.SIGTERM)
    until("the daemon's end", lambda: not alive(daemon))
    assert "stops; active runs go on" in own_home.daemon_log.read_text()
    assert not own_home.socket.exists()


def test_a_daemon_whose_home_was_deleted_leaves_and_takes_no_socket_with_it(own_home: Home) -> None:
    connect(own_home).close()
    daemon = daemon_of(own_home)
    own_home.lock.unlink()
    until("the daemon's end", lambda: not alive(daemon))
    assert own_home.socket.exists()  # it may be that of the daemon that owns the home now


def test_a_socket_that_was_cleared_away_is_made_again(own_home: Home) -> None:
    """Also where a file has taken its place, which is kept."""
    connect(own_home).close()
    daemon = daemon_of(own_home)
    own_home.socket.unlink()
    until("a socket", lambda: service.running(own_home))
    own_home.socket.unlink()
    own_home.socket.write_text("mine")
    until("a socket", lambda: service.running(own_home))
    assert daemon_of(own_home) == daemon
    assert [path.read_text() for path in own_home.path.glob("daemon.sock.aside-*")] == ["mine"]
    files = [path for path in own_home.path.rglob("*") if path.is_file()]
    made = [path for path in files if not path.name.startswith("daemon.sock.aside")]
    assert own_home.store in made
    assert [path for path in made if path.stat().st_mode & 0o077] == []


@pytest.mark.parametrize("name", ["jürgen", "a b", "h#1", "a%20b", "x[1]", "long" * 30])
def test_a_home_of_any_name_has_a_plain_socket(tmp_path: Path, name: str, monkeypatch) -> None:
    monkeypatch.setenv("TMPDIR", str(tmp_path))  # another in every job of a cluster
    socket = Home(tmp_path / name).socket
    assert re.fullmatch(rf"/tmp/finetui-{os.getuid()}-[0-9a-f]+/daemon.sock", str(socket))
    assert Home(tmp_path / "plain").socket == tmp_path / "plain" / "daemon.sock"


def test_copies_of_run_directories_are_no_runs(own_home: Home) -> None:
    run = accept.accept(own_home, 2, *accept.read_submission(submission(steps=1)))
    for name in ("000002-backup", "000002-fake-run.bak", "000002.bak-x", "000002-fake-run-old"):
        shutil.copytree(run.path, own_home.runs / name)
    assert run_dirs(own_home) == [run]


def test_a_full_disk_holds_the_queue_and_fails_nothing(own_home: Home, monkeypatch) -> None:
    supervisor = Supervisor(
        own_home, Settings(Capacity(1), threads=1, grace_s=1.0), on_change=lambda run: None
    )
    supervisor.recover(last=41)
    number = supervisor.submit(submission(steps=1))
    assert number == 42, "a number is never used again, not even of a run that was deleted"
    monkeypatch.setattr(disk, "free_bytes", lambda path: disk.RESERVE)
    supervisor.tick()
    assert supervisor.counts() == {"running": [], "queued": [42]}
    assert supervisor.waiting_for == {42: "the disk is full (1 MiB free)"}


def test_a_changed_configuration_counts_without_a_restart(own_home: Home) -> None:
    own_home.config.write_text("concurrency = 1\n")
    with connect(own_home) as client:
        runs = [submit(client, steps=FOREVER) for _ in range(2)]
        wait_worker(own_home, runs[0])
        own_home.config.write_text("concurrency = 'many'\n")
        until("the problem", lambda: client.action("status")["problems"])
        assert "config.toml, key concurrency" in client.action("status")["problems"][0]
        own_home.config.write_text("concurrency = 2\n")
        wait_worker(own_home, runs[1])
        assert client.action("status")["problems"] == []
        assert client.action("status")["running"] == runs


# ---- a run's life --------------------------------------------------------------------------------


def test_a_run_from_submit_to_finish(home: Home, client: Client) -> None:
    run = submit(client, steps=4)
    found = wait_state(client, run, "finished")
    assert found["attempt"] == 1
    assert found["name"] == "Fake Run"
    meta = json.loads(directory(home, run).meta.read_text())
    assert meta["number"] == run
    assert meta["slug"] == "fake-run"
    assert meta["recipe"]["task"] == {"name": "sft"}  # defaults are written out
    assert directory(home, run).path.name == f"{run:06d}-fake-run"
    steps = client.query(f"SELECT step FROM metrics WHERE run = {run} ORDER BY step").to_pydict()["step"]
    assert steps == [1, 2, 3, 4]


def test_the_worker_gets_its_share_of_the_cores_and_the_users_directory(
    home: Home, client: Client, tmp_path: Path
) -> None:
    run = client.action("submit", **submission(steps=FOREVER), cwd=str(tmp_path))["run"]
    worker = wait_worker(home, run)
    said = client.action("status")
    env = Path(f"/proc/{worker.pid}/environ").read_text().split("\0")
    assert f"OMP_NUM_THREADS={said['threads']}" in env
    limits = dict(
        re.findall(r"(?m)^Max (data size) +(\S+ +\S+)", Path(f"/proc/{worker.pid}/limits").read_text())
    )
    assert len(set(limits["data size"].split())) == 1, "the daemon's own limit is lifted"
    limits = dict(re.findall(r"(?m)^Max (data size) +(\S+)", Path(f"/proc/{said['pid']}/limits").read_text()))
    assert limits["data size"] != "unlimited"
    assert str(Path(f"/proc/{worker.pid}/cwd").readlink()) == str(tmp_path)
    assert str(Path(f"/proc/{worker.pid}/fd/0").readlink()) == "/dev/null"


def test_one_at_a_time_and_the_others_know_why(home: Home, client: Client) -> None:
    first, second = submit(client, steps=FOREVER), submit(client, steps=1)
    wait_worker(home, first)
    reason = f"run #{first} is running; 1 run at a time (concurrency in config.toml)"
    until("the reason", lambda: row(client, second)["waiting_for"] == reason)
    assert client.action("status")["running"] == [first]
    client.action("cancel", run=first)
    found = wait_state(client, second, "finished")
    assert found["waiting_for"] is None
    assert wait_state(client, first, "cancelled")["state"] == "cancelled"


def test_priority_and_cancel_in_the_queue(home: Home, client: Client) -> None:
    blocker = submit(client, steps=FOREVER)
    worker = wait_worker(home, blocker)
    processes = {row["pid"]: row for row in client.action("machine")["processes"]}
    assert processes[worker.pid]["run"] == blocker, (
        "whoever looks at the machine is told whose its processes are"
    )
    low, high, dropped = submit(client, steps=1), submit(client, steps=1), submit(client, steps=1)
    assert client.action("priority", run=high, priority=5)["priority"] == 5
    assert client.action("cancel", run=dropped)["state"] == "cancelled"
    client.action("cancel", run=blocker)
    wait_state(client, low, "finished")
    assert row(client, high)["started"] < row(client, low)["started"]
    assert starts(home, dropped) == []


def test_pause_and_resume_go_on_from_the_checkpoint(home: Home, client: Client) -> None:
    run = submit(client, steps=FOREVER)
    wait_worker(home, run)
    client.action("pause", run=run)
    wait_state(client, run, "paused")
    saved = directory(home, run).last_checkpoint()
    assert saved
    assert client.action("resume", run=run)["state"] == "queued"
    wait_worker(home, run, attempt=2)
    # The journal tells of the attempt before the worker's own log tells where it went on from.
    query = f"SELECT resumed_from FROM attempts WHERE attempt = 2 AND run = {run}"
    until("attempt 2", lambda: client.query(query).to_pydict()["resumed_from"] == [saved[0]])
    client.action("cancel", run=run)
    wait_state(client, run, "cancelled")


def test_a_paused_run_in_the_queue_is_held(home: Home, client: Client) -> None:
    blocker, held = submit(client, steps=FOREVER), submit(client, steps=1)
    assert client.action("pause", run=held)["state"] == "paused"
    client.action("cancel", run=blocker)
    wait_state(client, blocker, "cancelled")
    assert row(client, held)["state"] == "paused"
    client.action("resume", run=held)
    wait_state(client, held, "finished")


def test_a_cancel_before_the_worker_exists(home: Home, client: Client) -> None:
    run = submit(client, steps=FOREVER)
    client.action("cancel", run=run)
    wait_state(client, run, "cancelled")
    until("no worker", lambda: not any(alive(worker) for _, worker in identities(directory(home, run))))


def test_a_deaf_worker_is_killed_after_the_grace_period(home: Home, client: Client) -> None:
    run = submit(client, steps=FOREVER, deaf=True)
    wait_worker(home, run)
    client.action("cancel", run=run)
    with pytest.raises(StoreError, match=r"is already stopping \(cancel was asked\)"):
        client.action("cancel", run=run)
    assert row(client, run)["reason"] == "cancel was asked; it saves a checkpoint first"
    found = wait_state(client, run, "cancelled")
    assert "did not stop in time" in found["reason"]


def test_requeue_is_a_new_run_of_the_same_recipe(home: Home, client: Client) -> None:
    run = submit(client, steps=2)
    wait_state(client, run, "finished")
    again = client.action("requeue", run=run)["run"]
    assert wait_state(client, again, "finished")["parent"] == row(client, run)["uuid"]
    assert row(client, again)["recipe_hash"] == row(client, run)["recipe_hash"]
    assert starts(home, again) == [1]


@pytest.mark.parametrize(
    ("script", "reason"),
    [
        ({"fail_at": 1}, "the loss is not a number"),
        ({"crash_at": 1}, "RuntimeError: no such layer: lm_heed"),
    ],
)
def test_a_failure_leaves_its_last_words(client: Client, script: dict[str, int], reason: str) -> None:
    run = submit(client, **script)
    assert wait_state(client, run, "failed")["reason"] == reason


def test_a_worker_that_always_dies_is_given_up(home: Home, client: Client) -> None:
    """It saved once at step 2, so the first death counts as progress; then it gets two more tries."""
    run = submit(client, steps=9, kill_self_at=3)
    found = wait_state(client, run, "failed")
    assert found["reason"].startswith("interrupted 3 times in a row without a new checkpoint")
    assert "SIGKILL" in found["reason"]
    assert starts(home, run) == [1, 2, 3]


def test_a_transient_error_is_tried_again_after_a_while(own_home: Home) -> None:
    own_home.config.write_text("retry_wait_seconds = 0.2\n")
    with connect(own_home) as client:
        run = submit(client, short_until=2)
        assert wait_state(client, run, "finished", "failed")["state"] == "finished"
    lines = [line for line in read_log(directory(own_home, run).journal) if line["kind"] == "interrupted"]
    assert [(line["retry_s"], line["reason"]) for line in lines] == [
        (0.2, "out of memory"),
        (1.0, "out of memory"),
    ]
    assert starts(own_home, run) == [1, 2, 3]


def test_nobody_has_to_wait_for_another_try(own_home: Home) -> None:
    own_home.config.write_text("retry_wait_seconds = 3600\n")
    with connect(own_home) as client:
        run = submit(client, short_until=1)
        assert wait_state(client, run, "interrupted", "failed")["reason"] == "out of memory"
        other = submit(client)
        wait_state(client, other, "finished")  # it holds up nobody
        waits = until("a reason", lambda: row(client, run)["waiting_for"])
        assert waits.startswith("tried again at ")
        assert waits.endswith(f", or now by finetui release {run}")
        client.action("release", run=run)
        wait_state(client, run, "finished")


# ---- killed processes, while the daemon lives -----------------------------------------------------


def test_a_killed_worker_is_resumed_from_its_last_checkpoint(home: Home, client: Client) -> None:
    run = submit(client, steps=120)
    worker = wait_worker(home, run)
    where = directory(home, run)
    until("a checkpoint", where.last_checkpoint)
    send(worker, signal.SIGKILL)
    wait_state(client, run, "finished")
    assert starts(home, run) == [1, 2]
    steps = client.query(f"SELECT step FROM metrics WHERE run = {run} ORDER BY step").to_pydict()["step"]
    assert steps == list(range(1, 121))  # none lost, none twice
    first = client.query(f"SELECT signal FROM attempts WHERE run = {run} ORDER BY attempt").to_pydict()
    assert first["signal"] == [signal.SIGKILL, None]


def test_shim_and_worker_killed_together(home: Home, client: Client) -> None:
    run = submit(client, steps=60, child=True)
    worker = wait_worker(home, run)
    where = directory(home, run)
    pid = until(
        "a child", lambda: (where.path / "child.pid").exists() and (where.path / "child.pid").read_text()
    )
    child = identify(int(pid))
    for victim in reversed(identities(where)[0]):
        assert victim
        send(victim, signal.SIGKILL)
    found = wait_state(client, run, "finished")
    assert found["attempt"] == 2
    assert not alive(worker)
    until("the end of what the worker left behind", lambda: not alive(child))


def test_a_worker_without_its_shim_goes_on_and_ends_well(home: Home, client: Client) -> None:
    run = submit(client, steps=60)
    wait_worker(home, run)
    shim, _ = identities(directory(home, run))[0]
    assert shim
    send(shim, signal.SIGKILL)
    assert wait_state(client, run, "finished", "interrupted", "failed")["state"] == "finished"
    assert starts(home, run) == [1]


# ---- requests that are refused -------------------------------------------------------------------


def test_refusals_are_sentences(home: Home, client: Client) -> None:
    run = submit(client, steps=1)
    wait_state(client, run, "finished")
    with pytest.raises(StoreError, match=rf"^there is no run #99; the last one is #{run}$"):
        client.action("cancel", run=99)
    with pytest.raises(StoreError, match=rf"^run #{run} is finished; use requeue to run its recipe again$"):
        client.action("resume", run=run)
    with pytest.raises(StoreError, match=rf"^run #{run} is finished; there is nothing to cancel"):
        client.action("cancel", run=run)
    with pytest.raises(
        StoreError, match=rf"^run #{run} is finished; only a run that waits has a place in the queue$"
    ):
        client.action("priority", run=run, priority=5)
    assert row(client, run)["priority"] == 0
    with pytest.raises(StoreError, match="cancel needs a whole number as `run`, got '1'"):
        client.action("cancel", run="1")
    with pytest.raises(StoreError, match="no action 'dance'"):
        client.action("dance")
    with pytest.raises(StoreError, match="the submitted run is not valid, key recipe"):
        client.action("submit", name="x")
    with pytest.raises(StoreError, match="not valid, key data"):
        client.action("submit", recipe={"model": "x", "method": "full"})
    with pytest.raises(StoreError, match="there is no run #77"):
        client.action("submit", **submission(), parent=77)
    assert max(found.number for found in run_dirs(home)) == run


def test_a_submission_that_cannot_be_written_is_refused_and_leaves_nothing(
    home: Home, client: Client
) -> None:
    aside = home.runs.rename(home.path / "aside")
    home.runs.touch()  # a file where the directory should be
    with pytest.raises(StoreError, match=r"the run cannot be written to .*/runs: "):
        submit(client)
    home.runs.unlink()
    aside.rename(home.runs)
    run = submit(client, steps=1)
    wait_state(client, run, "finished")


def test_notes_are_kept(home: Home, client: Client) -> None:
    run = submit(client, steps=1)
    client.action("note", run=run, text="the good one")
    wait_state(client, run, "finished")
    assert "the good one" in directory(home, run).journal.read_text()


def test_leftovers_of_a_submission_cut_short_are_cleared(own_home: Home) -> None:
    parts = accept.read_submission(submission(steps=1))
    accept.accept(own_home, 7, *parts)
    unfinished = own_home.runs / f"{accept.UNFINISHED}000008-x"
    unfinished.mkdir()
    with connect(own_home) as client:
        wait_state(client, 7, "finished")
        assert not unfinished.exists()
        assert submit(client, steps=1) == 8
    assert journal.read(directory(own_home, 7)).state == "finished"


def test_a_fork_of_its_pool_is_as_good_as_a_command(own_home: Home) -> None:
    """Else no command is ever run by the pool, and each waits for its imports."""
    started = environment(own_home)
    assert started["ARROW_DEFAULT_MEMORY_POOL"] == "system"
    forget_allocator(started)
    assert difference(circumstances(started), circumstances(os.environ)) is None
