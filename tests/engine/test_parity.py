"""finetui's training step gives the loss curve of TRL's SFTTrainer: same data, order, rate and start."""

from __future__ import annotations

import json
import subprocess
import sys
from contextlib import nullcontext
from functools import partial
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import Accelerator

from benchmarks.throughput import bundled, save_data
from engine.data.chat import Example
from engine.methods.load import load_model, save_model
from engine.recipe import Recipe
from engine.training.loop import optimiser_step
from engine.training.loss import TargetLoss
from engine.training.optimiser import make_optimiser

STEPS, ROWS, PASSES = 50, 8, 2  # rows of a step, in two forward passes of unequal numbers of targets
RATE = 1e-3


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """The examples as TRL's side reads them, in order; as many as the steps need."""
    path = tmp_path_factory.mktemp("parity") / "data.npz"
    save_data(path)
    saved = np.load(path)
    last = STEPS * ROWS
    ends = saved["ends"][:last]
    np.savez(path, tokens=saved["tokens"][: ends[-1]], mask=saved["mask"][: ends[-1]], ends=ends)
    return path


def examples(path) -> list[Example]:
    saved = np.load(path)
    parts = (np.split(saved[key], saved["ends"][:-1]) for key in ("tokens", "mask"))
    return [Example(str(i), *part) for i, part in enumerate(zip(*parts, strict=True))]


def trl(spec, folder) -> list[float]:
    flags = {
        "bf16": False,
        "gradient_checkpointing": False,
        "per_device_train_batch_size": ROWS // PASSES,
        "gradient_accumulation_steps": PASSES,
        "train_sampling_strategy": "sequential",
        "lr_scheduler_type": "constant",
    }
    out = folder / "trl.json"
    fields = {"steps": STEPS, "lr": RATE, "flags": flags, "out": str(out), "tokenizer": str(bundled())}
    (folder / "spec.json").write_text(json.dumps(spec | fields))
    command = [sys.executable, "-m", "benchmarks.trl_sft", str(folder / "spec.json")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return json.loads(out.read_text())["losses"]


@pytest.mark.parametrize("method", ["full", "lora"])
def test_fifty_steps_have_the_losses_of_trl(method, data, tmp_path):
    recipe = Recipe.model_validate(
        {"model": str(bundled()), "method": method, "data": {"train": "bundled:docstrings"}}
    )
    torch.manual_seed(0)
    model = load_model(recipe.model, recipe.method, torch.float32).train()
    spec = {"model": str(bundled()), "method": method, "data": str(data)}
    if method == "lora":
        save_model(model, recipe.method, tmp_path / "adapter")
        spec["adapter"] = str(tmp_path / "adapter")
    theirs = trl(spec, tmp_path)

    optimiser = make_optimiser(model, recipe.train)
    prepared = type("Data", (), {"train": examples(data)})
    job: Any = SimpleNamespace(recipe=recipe, data=prepared, model=model, report=None, step=0)
    guard: Any = SimpleNamespace(watching=lambda rows: nullcontext(), update=optimiser.step)  # of memory
    each = np.arange(STEPS * ROWS).reshape(STEPS, PASSES, ROWS // PASSES)
    accelerator, loss = Accelerator(cpu=True), TargetLoss(model)
    step = partial(optimiser_step, job, accelerator, loss, optimiser, guard, RATE)
    ours = [step(list(groups))["train/loss"] for groups in each]
    assert len(theirs) == STEPS
    assert ours[-1] < 0.97 * ours[0]
    np.testing.assert_allclose(ours, theirs, rtol=1e-3)
