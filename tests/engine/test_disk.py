"""A full disk, a real one: the run is paused with a reason, no whole checkpoint is lost, and it goes on."""

from __future__ import annotations

from pathlib import Path

import pytest
from finished import Finished, recipe_of
from small_disk import small_disk
from supervision import until
from with_daemon import a_home, directory, row, wait_state
from workers import curve, finish, make_run, of_kind, small, start, wait_for, work

from engine.client import preflight
from engine.memory.shapes import model_shapes
from engine.memory.storage import storage
from engine.memory.workload import workload_of
from engine.recipe.sections import Recipe
from engine.runs import disk
from engine.runs.disk import DiskFullError, is_full
from finetui.daemon import connect

# The whole bundled model: its checkpoints are large enough for what can be mounted.
LORA = {
    "model": "bundled:stdlib-2m",
    "method": "lora",
    "evals__general": None,
    "evals__generate": 0,
    "evals__limit": 4,
}


@pytest.fixture
def expected(finished: Finished) -> dict[int, float]:
    """The losses of a run that had room."""
    return curve(finished.of(small(**LORA)))


def test_no_room_for_a_checkpoint_pauses_and_the_run_goes_on_exactly(tmp_path: Path, expected) -> None:
    with small_disk(tmp_path / "disk", 6) as small_one:
        run = make_run(small_one.path / "000001-run", small(**LORA))
        assert work(run) == 5, run.attempt(1).stdout.read_text()
        (end,) = of_kind(run, 1, "end")
        assert end["status"] == "paused"
        assert "MiB needed for step-000004): make room, then finetui resume 1" in end["reason"]
        found = run.last_checkpoint()
        assert found is not None
        assert found[0] == 2
        assert [path.name for path in run.checkpoints.iterdir()] == ["step-000002"]
        small_one.grow(64)
        assert work(run, attempt=2) == 0
        assert curve(run) | curve(run, 2) == expected


def test_no_room_for_the_log_itself_pauses_too(tmp_path: Path, expected) -> None:
    with small_disk(tmp_path / "disk", 40) as small_one:
        run = make_run(small_one.path / "000001-run", small(**LORA, train__checkpoint_every=3))
        run.attempt(1).path.mkdir(parents=True)
        disk.reserve(run.attempt(1))  # as the shim does
        process = start(run)
        wait_for(run, 1, "checkpoint", process, step=3)
        small_one.fill()
        assert finish(process) == 5
        (end,) = of_kind(run, 1, "end")
        assert (end["status"], end["step"] >= 3) == ("paused", True)
        assert "the disk is full (" in end["reason"]
        small_one.clear()
        assert work(run, attempt=2) == 0
        assert curve(run) | curve(run, 2) == expected


def test_not_even_room_for_the_first_line(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk", 1) as small_one:
        run = make_run(small_one.path / "000001-run", small(**LORA))
        (run.attempt(1).path).mkdir(parents=True)
        (run.attempt(1).path / "stdout.log").touch()
        small_one.fill()
        assert work(run) == 5
        assert run.last_checkpoint() is None


def test_the_daemon_pauses_the_run_and_resumes_it(tmp_path: Path) -> None:
    """Every part real: the whole home is on the disk that becomes full."""
    with (
        small_disk(tmp_path / "disk", 200) as small_one,
        a_home(small_one.path / "home") as home,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.delenv("FINETUI_WORKER_MODULE")
        tree = small(**LORA, train__max_steps=400, train__checkpoint_every=4)
        with connect(home) as client:
            run = client.action("submit", recipe=tree, name="full disk", recipe_text="")["run"]
            until("a checkpoint", lambda: directory(home, run).last_checkpoint(), 120)
            small_one.fill()
            reason = wait_state(client, run, "paused", "failed", "finished")["reason"]  # the store has it too
            assert reason.startswith("the disk is full (")
            assert reason.endswith(f"make room, then finetui resume {run}")
            last = directory(home, run).last_checkpoint()
            assert last is not None
            small_one.clear()
            client.action("resume", run=run)
            until("more steps", lambda: (row(client, run)["step"] or 0) > last[0] + 2, 120)
            assert row(client, run)["attempt"] == 2
            client.action("cancel", run=run)
            wait_state(client, run, "cancelled")


@pytest.mark.parametrize("method", ["full", "lora", "adapter", "prefix"])
def test_predicted_size_is_the_one_on_disk(finished: Finished, method: str) -> None:
    run, tree = finished[method], recipe_of(method)
    recipe, shapes = Recipe.model_validate(tree), model_shapes(small()["model"])
    predicted = storage(recipe, shapes, workload_of(recipe, shapes, "cpu"))
    extra = 40_000  # random states, names
    for written in of_kind(run, 1, "checkpoint"):
        assert predicted.checkpoint <= written["bytes"] < 1.05 * predicted.checkpoint + extra
    (weights,) = run.path.glob("*/*.safetensors")
    assert predicted.weights <= weights.stat().st_size < predicted.weights + extra


def test_too_little_room_is_told_before_the_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    recipe = Recipe.model_validate(small(model="bundled:stdlib-2m", method="full"))
    with small_disk(tmp_path / "disk", 60) as small_one:
        monkeypatch.setenv("FINETUI_HOME", str(small_one.path / "home"))
        (warning,) = [note for note in preflight.check(recipe, tmp_path).warnings if "make room" in note]
        assert warning.startswith("the run may write 99.9 MiB, the disk has 60 MiB free: ")
        small_one.grow(200)
        assert not [note for note in preflight.check(recipe, tmp_path).warnings if "make room" in note]


def test_what_counts_as_full() -> None:
    assert is_full(OSError(28, "No space left on device"))
    assert is_full(OSError(122, "Disk quota exceeded"))
    assert is_full(DiskFullError(1, 2, "step-000001"))
    assert not is_full(OSError(27, "File too large"))
    wrapped = RuntimeError("write failed")
    wrapped.__cause__ = OSError(28, "No space left on device")
    assert is_full(wrapped)
    assert not is_full(RuntimeError("no"))
