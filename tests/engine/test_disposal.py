"""Removed runs come back whole; cleaned ones keep their weights, and resume where they may."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest
from finished import Finished, copy, killed_after
from workers import curve, small, work

from engine.basics.errors import QueueError
from engine.export.source import read
from engine.queue import accept
from engine.queue.scheduler import Capacity
from engine.queue.settings import Settings
from engine.queue.supervisor import Supervisor
from engine.runs import checkpoints, cleaning, journal, removed
from engine.runs.home import WEIGHTS_ONLY, RunDir
from finetui.home import Home
from store.journal_lines import Ended
from store.paths import removed_runs
from store.states import RunState

DAY_S = 86_400.0
ALL_KEPT = small(method="lora", train__keep_checkpoints=9)  # of steps 2, 4 and 6


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path / "home")
    home.create()
    return home


@pytest.fixture
def queue(home: Home) -> Supervisor:
    """With one run that has ended."""
    body = {"recipe": {"model": "m", "method": "lora", "data": {"train": "x"}}, "name": "mine"}
    run = accept.accept(home, 1, *accept.read_submission(body))
    journal.append(run, journal.read(run), Ended(RunState.CANCELLED))
    return begun(home)


def begun(home: Home) -> Supervisor:
    queue = Supervisor(home, Settings(Capacity(1), threads=1, grace_s=1.0), on_change=lambda run: None)
    queue.recover()
    return queue


def test_a_removed_run_comes_back_as_it_was(home: Home, queue: Supervisor) -> None:
    before = journal.read(RunDir(home.runs / "000001-mine"))
    queue.remove(1)
    assert list(home.runs.iterdir()) == []
    with pytest.raises(QueueError, match="run #1 was removed; finetui restore 1 brings it back"):
        queue.resume(1)
    assert queue.restore(1) == {"state": "cancelled"}
    assert journal.read(RunDir(home.runs / "000001-mine")) == before
    assert queue.resume(1) == "queued"
    with pytest.raises(QueueError, match="run #1 is queued: cancel or pause it before you remove it"):
        queue.remove(1)
    with pytest.raises(QueueError, match="no run #1 was removed"):
        queue.restore(1)


def test_the_number_of_a_removed_run_is_given_to_no_other(home: Home, queue: Supervisor) -> None:
    queue.remove(1)
    again = begun(home)
    body = {"recipe": {"model": "m", "method": "lora", "data": {"train": "x"}}, "name": "next"}
    assert again.submit(body) == 2
    with pytest.raises(QueueError, match="run #1 was removed; finetui restore 1 brings it back"):
        again.resume(1)
    assert again.restore(1) == {"state": "cancelled"}


def test_removed_runs_are_deleted_when_their_time_is_over(home: Home, queue: Supervisor) -> None:
    queue.remove(1)
    (path,) = home.removed.iterdir()
    path.rename(path.with_name(f"000001-mine~{int(time.time() - 3 * DAY_S)}"))
    (home.removed / "a folder of somebody").mkdir()
    queue.tidy(7 * DAY_S, None)
    assert len(removed_runs(home.removed)) == 1
    queue.tidy(2 * DAY_S, None)
    assert [path.name for path in home.removed.iterdir()] == ["a folder of somebody"]


def test_what_was_removed_is_open_to_nobody_else(home: Home, queue: Supervisor) -> None:
    os.umask(os.umask(0o022))
    queue.remove(1)
    assert home.removed.stat().st_mode & 0o077 == 0


# ---- cleaning


def names(run: RunDir) -> dict[str, set[str]]:
    return {path.name: {file.name for file in path.iterdir()} for _, path in run.whole_checkpoints()}


def test_a_finished_run_keeps_its_weights_alone(finished: Finished, tmp_path: Path) -> None:
    run = copy(finished.of(ALL_KEPT), tmp_path / "000001-lora")
    found = cleaning.pieces(run, RunState.FINISHED, 4, checkpoints=False)
    before = removed.bytes_of(run.path)
    for piece in found:
        cleaning.free(piece)
    # The mark and the new list of sums take a block each.
    assert before - removed.bytes_of(run.path) == pytest.approx(
        sum(piece.bytes for piece in found), abs=32_768
    )
    for files in names(run).values():
        assert files == {"weights.safetensors", "state.json", "COMPLETE", WEIGHTS_ONLY}
    assert all(checkpoints.damage(path) is None for _, path in run.whole_checkpoints())
    assert run.last_checkpoint() is None, "nothing is resumed from"
    assert read(run).checkpoints().keys() == {2, 4, 6}
    assert cleaning.pieces(run, RunState.FINISHED, 4, checkpoints=False) == []
    for piece in cleaning.pieces(run, RunState.FINISHED, 2, checkpoints=True):
        cleaning.free(piece)
    assert names(run).keys() == {"step-000002", "step-000006"}, "the best and the last one"


def test_a_run_that_may_be_resumed_is_resumed_after_it_was_cleaned(
    finished: Finished, tmp_path: Path
) -> None:
    whole = finished.of(ALL_KEPT)
    run = killed_after(whole, tmp_path / "000001-lora", step=4)
    for piece in cleaning.pieces(run, RunState.CANCELLED, None, checkpoints=True):
        cleaning.free(piece)
    assert names(run).keys() == {"step-000002", "step-000004"}, "should the last one be damaged"
    assert [step for step, _ in run.resumable_checkpoints()] == [2, 4]
    assert work(run, attempt=2) == 0
    assert curve(run) | curve(run, 2) == curve(whole)


def test_cut_short_at_any_point_a_checkpoint_is_whole_or_marked(
    finished: Finished, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*_: object, **__: object) -> None:
        raise KeyboardInterrupt

    for place in ("engine.runs.cleaning.seal", "pathlib.Path.unlink", "pathlib.Path.touch"):
        run = copy(finished.of(ALL_KEPT), tmp_path / f"000001-{place.replace('.', '-').lower()}")
        piece = cleaning.pieces(run, RunState.FINISHED, None, checkpoints=False)[0]
        with monkeypatch.context() as patch:
            patch.setattr(place, stop)
            with pytest.raises(KeyboardInterrupt):
                cleaning.free(piece)
        assert checkpoints.damage(piece.checkpoint) is None
        body = json.loads((piece.checkpoint / "COMPLETE").read_text())
        assert "optimiser.pt" in body or (piece.checkpoint / WEIGHTS_ONLY).exists()


def test_finished_runs_are_cleaned_when_their_time_has_come(home: Home, finished: Finished) -> None:
    run = copy(finished.of(ALL_KEPT), home.runs / "000001-lora")
    journal.append(run, journal.read(run), Ended(RunState.FINISHED))
    queue = begun(home)
    queue.tidy(DAY_S, DAY_S)
    assert len(run.resumable_checkpoints()) == 3
    os.utime(run.journal, (0, 0))
    queue.tidy(DAY_S, DAY_S)
    assert run.resumable_checkpoints() == []
    assert len(run.whole_checkpoints()) == 3
