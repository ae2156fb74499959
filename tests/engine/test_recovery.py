"""Run directories as they are found: with damaged journals, copied, moved, renamed, gone."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.fuzz import make_run
from engine.basics.errors import QueueError
from engine.queue import known_runs
from engine.queue.scheduler import Capacity
from engine.queue.settings import Settings
from engine.queue.supervisor import Supervisor
from engine.runs import journal
from engine.runs.home import RunDir
from finetui.home import Home
from store.journal_lines import Cancel, Conditions, Ended, Interrupted
from store.states import RunState


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    monkeypatch.setattr(known_runs, "SETTLE_S", -1.0)  # what appears is not in the middle of a copy
    home = Home(tmp_path / "home")
    home.create()
    return home


def queue_of(home: Home, concurrency: int = 0) -> Supervisor:
    """A daemon's queue that has just found the home; by default it starts nothing."""
    settings = Settings(Capacity(concurrency), threads=1, grace_s=0.0)
    queue = Supervisor(home, settings, on_change=lambda run: None)
    queue.recover()
    queue.tick()
    return queue


def spoil(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


@pytest.mark.parametrize("damage", [Path.unlink, lambda path: path.write_text("")], ids=["missing", "empty"])
@pytest.mark.parametrize(
    ("kind", "state"), [("finished", "finished"), ("failed", "failed"), ("lost", "paused")]
)
def test_without_a_journal_the_runs_own_log_decides(
    home: Home, damage: Callable[[Path], object], kind: str, state: str
) -> None:
    run = make_run(home, 1, kind)
    damage(run.journal)
    queue = queue_of(home)
    assert queue.counts() == {"running": [], "queued": []}
    assert "journal.jsonl" in queue.damaged[1]
    record = journal.read(run)
    assert (record.state, record.attempt) == (state, 1)
    assert "journal.jsonl" in str(record.reason) or kind == "failed"
    assert queue_of(home).damaged == {}, "the journal says enough again"


def test_a_run_whose_cancellation_cannot_be_read_is_not_started(home: Home) -> None:
    run = make_run(home, 1, "queued")
    journal.append(run, journal.read(run), Cancel(RunState.CANCELLED))
    spoil(run.journal, '"state":"cancelled"', '"state":"camcelled"')
    queue = queue_of(home)
    assert queue.counts()["queued"] == []
    assert "line 3 of journal.jsonl is damaged" in queue.damaged[1]
    record = journal.read(run)
    assert record.state == "paused"
    assert "finetui resume 1 goes on, finetui cancel 1 ends it" in str(record.reason)
    assert queue.resume(1) == "queued"
    assert queue_of(home).counts()["queued"] == [1]


def test_a_journal_that_was_cut_back_starts_nothing_that_has_ended(home: Home) -> None:
    run = make_run(home, 1, "resumed")
    lines = run.journal.read_text().splitlines(keepends=True)
    run.journal.write_text("".join(lines[:2]))  # header and submission
    queue = queue_of(home)
    assert queue.counts()["queued"] == []
    assert journal.read(run).state == "finished"


def test_a_journal_that_is_a_pipe_holds_nobody_up(home: Home) -> None:
    run, other = make_run(home, 1, "queued"), make_run(home, 2, "queued")
    run.journal.unlink()
    os.mkfifo(run.journal)
    queue = queue_of(home)
    assert queue.counts()["queued"] == [other.number]
    assert "it is a pipe, not a file" in queue.damaged[1]


def test_a_copy_waits_for_a_person(home: Home) -> None:
    run = make_run(home, 1, "queued")
    copy = RunDir(run.path.with_name("000050-queued"))
    shutil.copytree(run.path, copy.path)
    queue = queue_of(home)
    assert queue.counts()["queued"] == [1]
    assert str(journal.read(copy).reason).startswith("it is a copy of run #1: ")
    assert queue.resume(50) == "queued"
    assert queue_of(home).counts()["queued"] == [1, 50], "it was asked for under this number"


@pytest.mark.parametrize("kind", ["queued", "finished"])
def test_a_copy_names_its_original_by_the_number_that_it_has_here(home: Home, kind: str) -> None:
    """The original came from another home, where it had the number that is another run's here."""
    run = make_run(home, 1, kind)
    if kind == "finished":  # a run that ended where no daemon recorded it
        run.journal.write_text("".join(run.journal.read_text().splitlines(keepends=True)[:-1]))
    copy = RunDir(Path(shutil.copytree(run.path, home.runs / "000060-copy")))
    run.path.rename(home.runs / "000011-original")
    make_run(home, 1, "finished")
    queue_of(home)
    assert "it is a copy of run #11" in str(journal.read(copy).reason)
    assert "a copy of" not in str(journal.read(RunDir(home.runs / "000011-original")).reason)


def test_a_directory_that_was_given_another_number_is_no_copy(home: Home) -> None:
    run = make_run(home, 1, "queued")
    moved = RunDir(run.path.rename(home.runs / "000060-moved"))
    queue_of(home)
    assert str(journal.read(moved).reason).startswith(
        "its directory was moved here, or given another number: "
    )


def test_a_copy_of_an_ended_run_is_a_run(home: Home) -> None:
    run = make_run(home, 1, "finished")
    shutil.copytree(run.path, run.path.with_name("000050-finished"))
    queue = queue_of(home)
    with pytest.raises(QueueError, match="run #50 is finished"):
        queue.resume(50)


def test_a_copy_of_a_paused_run_advises_what_to_do_with_the_copy(home: Home) -> None:
    run = make_run(home, 1, "lost")
    journal.append(run, journal.read(run), Ended(RunState.PAUSED, 1, reason="full: then finetui resume 1"))
    copy = RunDir(Path(shutil.copytree(run.path, home.runs / "000060-copy")))
    for _ in range(2):
        queue_of(home)
        assert journal.read(run).reason == "full: then finetui resume 1"
        assert journal.read(copy).reason == "full: then finetui resume 60"
    assert copy.journal.read_text().count("finetui resume 60") == 1


@pytest.mark.parametrize("kind", ["moved in", "copied"])
def test_what_was_lost_is_not_counted_again_elsewhere(home: Home, tmp_path: Path, kind: str) -> None:
    """A third time, and the run would have failed."""
    run = make_run(home, 1, "lost")
    lost = Interrupted(1, None, 9, -1, 2, RunState.INTERRUPTED, "killed")
    journal.append(run, journal.read(run), lost)
    if kind == "copied":
        found = RunDir(Path(shutil.copytree(run.path, home.runs / "000060-copy")))
        queue_of(home)
    else:
        found, aside = run, run.path.rename(tmp_path / "aside")
        queue = queue_of(home)
        aside.rename(run.path)
        queue.tick()
    record = journal.read(found)
    assert record.state == "paused"
    assert f"finetui resume {found.number} goes on" in str(record.reason)


def test_a_run_from_elsewhere_waits_for_no_run_that_has_the_number_here(home: Home) -> None:
    make_run(home, 1, "queued")
    run = make_run(home, 2, "queued")
    journal.append(run, journal.read(run), Conditions(held=False, after=[1]))
    moved = RunDir(run.path.rename(home.runs / "000060-moved"))
    queue = queue_of(home)
    assert journal.read(moved).state == "paused"
    assert queue.resume(60) == "queued"
    assert journal.read(moved).after == ()


def test_a_second_directory_with_a_number_is_refused_by_name(home: Home) -> None:
    first = make_run(home, 1, "finished")
    queue = queue_of(home)
    other = first.path.with_name("000001-other")
    shutil.copytree(first.path, other)
    spoil(other / "run.json", '"slug": "finished"', '"slug": "other"')
    spoil(other / "run.json", '"created": 1', '"created": 0')  # an older one, from elsewhere
    queue.tick()
    assert len(queue.refused) == 1
    assert f"{other} is not read: run #1 is {first.path.name}" in queue.refused[0]
    assert "(mv 000001-other 000002-other)" in queue.refused[0], "under its own name"
    other.rename(first.path.with_name("000002-other"))
    queue.tick()
    assert queue.refused == []


def test_what_is_moved_in_while_the_daemon_runs_is_known(home: Home, tmp_path: Path) -> None:
    run = make_run(home, 3, "queued")
    aside = run.path.rename(tmp_path / "aside")
    queue = queue_of(home)
    with pytest.raises(QueueError, match="there is no run #3"):
        queue.resume(3)
    aside.rename(run.path)
    queue.tick()
    assert queue.counts()["queued"] == []
    assert "moved here" in str(journal.read(run).reason)
    assert queue.resume(3) == "queued"
    assert queue.submit({"recipe": json.loads(run.meta.read_text())["recipe"]}) == 4


def test_a_deleted_directory_is_not_made_again(home: Home) -> None:
    run = make_run(home, 1, "queued")
    queue = queue_of(home)
    shutil.rmtree(run.path)
    with pytest.raises(OSError, match="directory is gone"):
        queue.cancel(1)  # before the queue has noticed
    assert not run.path.exists()
    queue.tick()
    with pytest.raises(QueueError, match="is gone, and the run with it"):
        queue.cancel(1)
    assert queue.counts() == {"running": [], "queued": []}


def test_a_run_without_a_readable_recipe_fails_in_a_sentence(home: Home) -> None:
    run = make_run(home, 1, "queued")
    run.meta.write_text(run.meta.read_text()[:100])
    queue_of(home, concurrency=1)
    record = journal.read(run)
    assert record.state == "failed"
    assert str(run.meta) in str(record.reason)
    assert "put a copy back and resume the run" in str(record.reason)


def test_a_missing_run_json_is_told(home: Home) -> None:
    run = make_run(home, 1, "finished")
    text = run.meta.read_text()
    run.meta.unlink()
    queue = queue_of(home)
    assert queue.refused == [
        f"{run.path}: run.json is missing; put it back, or move the directory out of runs/"
    ]
    run.meta.write_text(text)
    queue.tick()
    assert queue.refused == []


def test_a_directory_in_the_middle_of_a_copy_is_left_alone(
    home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    queue = queue_of(home)
    monkeypatch.setattr(known_runs, "SETTLE_S", 3600.0)
    run = make_run(home, 3, "queued")
    run.journal.unlink()  # not copied yet
    queue.tick()
    assert not run.journal.exists(), "nothing was written into it"
    with pytest.raises(QueueError, match="there is no run #3"):
        queue.resume(3)
