"""Checkpoints: complete, exact, and never lost to a failed one."""

from __future__ import annotations

import json
import random
import shutil

import numpy as np
import pytest
import torch
from torch import nn

from engine.basics.errors import RestoreError
from engine.recipe.sections import Train
from engine.runs import checkpoints
from engine.runs.checkpoints import set_aside_damaged
from engine.runs.disk import DiskFullError
from engine.runs.home import RunDir
from engine.training import checkpoint
from engine.training.checkpoint import Position, checkpoint_name, prune, restore, save
from engine.training.optimiser import learning_rate, make_optimiser


@pytest.fixture
def run(tmp_path):
    return RunDir(tmp_path / "000001-run")


class Model(nn.Module):
    """A frozen layer, a trained one, and one weight under two names."""

    def __init__(self) -> None:
        super().__init__()
        self.frozen, self.first, self.second = nn.Linear(4, 4), nn.Linear(4, 4), nn.Linear(4, 4)
        self.frozen.requires_grad_(False)
        self.second.weight = self.first.weight

    def forward(self, x):
        return self.second(torch.dropout(self.first(self.frozen(x)), 0.3, train=True))


def made() -> tuple[Model, torch.optim.Optimizer]:
    torch.manual_seed(7)
    model = Model()
    return model, make_optimiser(model, Train(weight_decay=0.1))


def steps(model, optimiser, count: int) -> list[float]:
    losses = []
    for _ in range(count):
        x = torch.randn(3, 4) + float(np.random.rand()) + random.random()
        loss = model(x).square().mean()
        loss.backward()
        optimiser.param_groups[0]["lr"] = 0.01
        optimiser.step()
        optimiser.zero_grad()
        losses.append(loss.item())
    return losses


def test_training_goes_on_exactly_after_a_restore(run):
    model, optimiser = made()
    steps(model, optimiser, 3)
    path = save(run, model, optimiser, Position(3, 900))
    expected = steps(model, optimiser, 4)

    model, optimiser = made()
    steps(model, optimiser, 1)
    assert restore(path, model, optimiser) == Position(3, 900)
    assert steps(model, optimiser, 4) == expected


def test_only_trained_weights_are_held_and_tied_ones_once(run):
    model, optimiser = made()
    path = save(run, model, optimiser, Position(1, 1))
    from safetensors.torch import load_file

    assert sorted(load_file(path / "weights.safetensors")) == ["first.bias", "first.weight", "second.bias"]


def test_weights_of_another_recipe_are_refused(run):
    model, optimiser = made()
    path = save(run, model, optimiser, Position(1, 1))
    model.frozen.requires_grad_(True)
    with pytest.raises(ValueError, match="other weights than this recipe trains"):
        checkpoint.load_weights(path, model)


@pytest.mark.parametrize("moment", ["weights", "optimiser", "rename", "complete"])
def test_a_write_that_fails_at_any_moment_leaves_the_last_whole_one(run, monkeypatch, moment):
    model, optimiser = made()
    save(run, model, optimiser, Position(1, 1))

    def full(*_args, **_kwargs):
        raise OSError(28, "No space left on device")

    place, name = {
        "weights": (checkpoint, "save_file"),
        "optimiser": (torch, "save"),
        "rename": (checkpoint.Path, "rename"),
        "complete": (checkpoints, "write_json"),
    }[moment]
    with monkeypatch.context() as patch:
        patch.setattr(place, name, full)
        with pytest.raises(DiskFullError, match=r"the disk is full \(.* free, .* needed for step-000002\)"):
            save(run, model, optimiser, Position(2, 2))
    found = run.last_checkpoint()
    assert found is not None
    assert found[0] == 1
    save(run, model, optimiser, Position(2, 2))
    found = run.last_checkpoint()
    assert found is not None
    assert found[0] == 2


def test_pruning_keeps_the_last_and_the_best_and_clears_what_is_half_written(run):
    model, optimiser = made()
    for step in range(1, 6):
        save(run, model, optimiser, Position(step, step))
    (run.checkpoints / "step-000005" / "COMPLETE").unlink()
    (run.checkpoints / ".step-000006.123.tmp").mkdir()
    shutil.copytree(run.checkpoints / "step-000002", run.checkpoints / "step-000002-mine")
    prune(run, keep=2, best_step=1)
    assert sorted(path.name for path in run.checkpoints.iterdir()) == [
        "step-000001",
        "step-000002-mine",
        "step-000003",
        "step-000004",
    ]
    assert run.last_checkpoint() == (4, run.checkpoints / "step-000004")


def test_steps_are_counted_and_not_spelt(run):
    for step in (999_000, 999_500, 1_000_000):
        path = run.checkpoints / checkpoint_name(step)
        path.mkdir(parents=True)
        (path / "COMPLETE").touch()
    prune(run, keep=2, best_step=None)
    assert [step for step, _ in run.whole_checkpoints()] == [999_500, 1_000_000]


def test_saving_again_replaces(run):
    model, optimiser = made()
    save(run, model, optimiser, Position(1, 1))
    steps(model, optimiser, 1)
    path = save(run, model, optimiser, Position(1, 5))
    other, other_optimiser = made()
    assert restore(path, other, other_optimiser) == Position(1, 5)
    assert torch.equal(other.first.weight, model.first.weight)


# ---- optimiser


def test_decay_is_for_matrices_only():
    _, optimiser = made()
    shapes = {group["weight_decay"]: {p.dim() for p in group["params"]} for group in optimiser.param_groups}
    assert shapes == {0.1: {2}, 0.0: {1}}


@pytest.mark.parametrize(("schedule", "last"), [("cosine", 0.1), ("linear", 0.1), ("constant", 1.0)])
def test_the_rate_warms_up_and_comes_down(schedule, last):
    train = Train(lr=1.0, schedule=schedule, warmup=4)
    rates = [learning_rate(train, step, 100) for step in range(100)]
    assert rates[:4] == [0.25, 0.5, 0.75, 1.0]
    assert rates[4] == 1.0
    assert rates[4:] == sorted(rates[4:], reverse=True)
    assert rates[-1] == pytest.approx(last, abs=0.02)


def test_a_checkpoint_of_another_version_is_one_sentence(run) -> None:
    model, optimiser = made()
    path = save(run, model, optimiser, Position(1, 2, "d"))
    state = json.loads((path / "state.json").read_text())
    del state["data"]
    (path / "state.json").write_text(json.dumps(state))
    with pytest.raises(RestoreError, match="another version") as caught:
        restore(path, model, optimiser)
    assert "\n" not in str(caught.value)


def flip(file, at):
    body = bytearray(file.read_bytes())
    body[int(at * len(body))] ^= 0x40
    file.write_bytes(bytes(body))


@pytest.mark.parametrize("name", ["weights.safetensors", "optimiser.pt", "rng.pt", "state.json", "COMPLETE"])
@pytest.mark.parametrize("harm", ["flip", "cut", "delete"])
def test_a_damaged_checkpoint_is_set_aside_and_the_one_before_is_used(run, name, harm):
    model, optimiser = made()
    for step in (1, 2, 3):
        save(run, model, optimiser, Position(step, step))
    assert set_aside_damaged(run) == []
    for step in (2, 3):
        file = run.checkpoints / checkpoint_name(step) / name
        if harm == "flip":
            flip(file, 0.6)
        elif harm == "cut":
            file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])
        elif name != "COMPLETE":  # without it a checkpoint is one that was never finished
            file.unlink()
    said = set_aside_damaged(run)
    if (name, harm) == ("COMPLETE", "delete"):
        assert said == []
        return
    assert len(said) == 2
    assert said[0].startswith(f"the checkpoint step-000003 is damaged ({name} ")
    assert said[1].endswith("kept as step-000002.damaged: resuming from step-000001")
    assert run.last_checkpoint() == (1, run.checkpoints / "step-000001")
    restore(run.checkpoints / "step-000001", model, optimiser)
    save(run, model, optimiser, Position(2, 2))
    prune(run, keep=1, best_step=None)
    assert sorted(path.name for path in run.checkpoints.iterdir()) == [
        "step-000002",
        "step-000002.damaged",
        "step-000003.damaged",
    ]


def test_a_checkpoint_without_checksums_is_that_of_an_older_finetui(run):
    model, optimiser = made()
    path = save(run, model, optimiser, Position(1, 1))
    (path / "COMPLETE").write_text("")
    assert set_aside_damaged(run) == []
    assert run.last_checkpoint() == (1, path)
