"""finetui's training step gives the loss curve of TRL's SFTTrainer: same data, order, rate and start."""

from __future__ import annotations

import json
import os
from pathlib import Path

import numpy as np
import pytest
import torch
from trainers import make_trainer
from workers import Call, finish

from benchmarks import trl_sft
from benchmarks.throughput import save_data
from engine.data.chat import Example
from engine.models.load import load_model, save_model
from engine.models.threads import set_threads
from engine.recipe.sections import Recipe

STEPS, ROWS, PASSES = 50, 2, 2  # rows of a step, in two forward passes of unequal numbers of targets
RATE = 1e-3
SHALLOW = os.environ["FINETUI_SHALLOW"]  # two layers of the bundled model, with its tokenizer
PASS = 160  # tokens of a forward pass, so that a step takes several


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """The examples as TRL's side reads them, in order; as many as the steps need."""
    path = tmp_path_factory.mktemp("parity") / "data.npz"
    last = STEPS * ROWS
    save_data(path, limit=last + 100)  # some are held out, and some are no examples
    saved = np.load(path)
    ends = saved["ends"][:last]
    np.savez(path, tokens=saved["tokens"][: ends[-1]], mask=saved["mask"][: ends[-1]], ends=ends)
    return path


def examples(path) -> list[Example]:
    saved = np.load(path)
    parts = (np.split(saved[key], saved["ends"][:-1]) for key in ("tokens", "mask"))
    return [Example(str(i), *part) for i, part in enumerate(zip(*parts, strict=True))]


@pytest.fixture(scope="module")
def theirs(data, tmp_path_factory) -> dict[str, list[float]]:
    """TRL's losses by method, from a process of its own."""
    folder = tmp_path_factory.mktemp("trl")
    flags = {
        "bf16": False,
        "gradient_checkpointing": False,
        "per_device_train_batch_size": ROWS // PASSES,
        "gradient_accumulation_steps": PASSES,
        "train_sampling_strategy": "sequential",
        "lr_scheduler_type": "constant",
    }
    same = {"model": SHALLOW, "data": str(data), "steps": STEPS, "lr": RATE, "flags": flags}
    save_model(start("lora"), recipe("lora").method, folder / "adapter")
    specs = []
    for method, options in (("full", {}), ("lora", {"adapter": str(folder / "adapter")})):
        specs.append(folder / f"{method}.json")
        spec = {"method": method, "out": str(folder / f"{method}-out.json"), "tokenizer": SHALLOW}
        specs[-1].write_text(json.dumps(same | spec | options))
    assert finish(Call(_train, specs)) == 0
    return {
        method: json.loads((folder / f"{method}-out.json").read_text())["losses"]
        for method in ("full", "lora")
    }


def _train(specs: list[Path]) -> None:
    set_threads()
    for spec in specs:
        trl_sft.main(json.loads(spec.read_text()))


def recipe(method: str) -> Recipe:
    return Recipe.model_validate(
        {
            "model": SHALLOW,
            "method": method,
            "data": {"train": "bundled:docstrings"},
            "train": {
                "lr": RATE,
                "schedule": "constant",
                "warmup": 1,
                "micro_tokens": PASS,
                "memory_probe": False,
            },
        }
    )


def start(method: str) -> torch.nn.Module:
    """The model that both sides begin with."""
    torch.manual_seed(0)
    return load_model(recipe(method).model, recipe(method).method, torch.float32).train()


@pytest.mark.parametrize("method", ["full", "lora"])
def test_fifty_steps_have_the_losses_of_trl(method, data, theirs, tmp_path):
    model = start(method)
    trainer = make_trainer(tmp_path, recipe(method), model, examples(data))
    each = np.arange(STEPS * ROWS).reshape(STEPS, ROWS)
    ours = [trainer.step(chosen)["train/loss"] for chosen in each]
    assert len(theirs[method]) == STEPS
    assert np.mean(ours[-10:]) < 0.97 * np.mean(ours[:10])  # it learns
    np.testing.assert_allclose(ours, theirs[method], rtol=1e-3)
