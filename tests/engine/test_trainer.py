"""One optimiser step in the test's own process: what it changes, and what it must not."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from trainers import make_trainer

from engine.basics.errors import TrainingError
from engine.data.chat import Example
from engine.memory.estimate import EVAL_FACTOR
from engine.models.load import load_model
from engine.recipe.sections import Recipe
from engine.training.loop import Trainer

ROWS = 6


def trainer(path: Path, micro_tokens: int = 1024, **train: object) -> Trainer:
    settings = {"lr": 1e-2, "warmup": 1, "max_steps": 5, "micro_tokens": micro_tokens, "memory_probe": False}
    recipe = Recipe.model_validate(
        {
            "model": "bundled:stdlib-2m",
            "method": "lora",
            "data": {"train": "bundled:docstrings"},
            "train": {**settings, **train},
        }
    )
    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    examples = [
        Example(str(n), rng.integers(5, 900, length).astype(np.int32), np.arange(length) >= length // 2)
        for n, length in enumerate(rng.integers(8, 60, ROWS))
    ]
    return make_trainer(path, recipe, load_model(recipe.model, recipe.method, torch.float32), examples)


def trained(of: Trainer) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in of.job.model.named_parameters() if p.requires_grad}


def same_weights(one: Trainer, other: Trainer) -> bool:
    """Adam divides by the size of a gradient: where that is nothing but noise, a step is of full size."""
    theirs = trained(other)
    return all((weight - theirs[name]).abs().mean() < 1e-5 for name, weight in trained(one).items())


def test_a_step_in_many_passes_is_the_step_in_one(tmp_path: Path) -> None:
    one, many = trainer(tmp_path / "one"), trainer(tmp_path / "many", micro_tokens=64)
    chosen = np.arange(ROWS)
    assert len(one.job.plan.split(chosen, 1024)) == 1
    assert len(many.job.plan.split(chosen, 64)) > 2
    first, other = one.step(chosen), many.step(chosen)
    assert first["train/loss"] == pytest.approx(other["train/loss"], rel=1e-5)
    assert first["train/grad_norm"] == pytest.approx(other["train/grad_norm"], rel=1e-4)
    assert first["train/tokens"] == other["train/tokens"] == sum(len(e.tokens) for e in one.job.data.train)
    assert one.job.step == many.job.step == 1
    assert same_weights(one, many)


def test_a_step_that_runs_out_of_memory_is_done_again_in_smaller_passes(tmp_path: Path) -> None:
    plenty, short = trainer(tmp_path / "plenty"), trainer(tmp_path / "short")
    chosen, backward, refused = np.arange(ROWS), short.backward, []

    def refuse(examples: list[Example], weight: float, targets: int) -> torch.Tensor:
        """Memory runs out in every pass of more than two examples, after its gradients were added."""
        loss = backward(examples, weight, targets)
        if len(examples) > 2:
            refused.append(len(examples))
            raise MemoryError("no room")
        return loss

    short.backward = refuse  # type: ignore[method-assign]
    before, expected = short.job.micro_tokens, plenty.step(chosen)
    assert short.step(chosen)["train/loss"] == pytest.approx(expected["train/loss"], rel=1e-5)
    assert refused
    assert short.job.micro_tokens < before
    assert same_weights(plenty, short)


def test_not_a_number_changes_no_weight(tmp_path: Path) -> None:
    broken = trainer(tmp_path)
    next(p for p in broken.job.model.parameters() if p.requires_grad).data.fill_(float("nan"))
    before = trained(broken)
    with pytest.raises(TrainingError, match="No weights were saved"):
        broken.step(np.arange(ROWS))
    after = trained(broken)
    assert all(
        torch.equal(weight.nan_to_num(7.0), after[name].nan_to_num(7.0)) for name, weight in before.items()
    )
    assert broken.job.step == 0


def test_evaluations_score_as_many_tokens_at_once_as_the_estimate_counts(tmp_path: Path) -> None:
    made = trainer(tmp_path, micro_tokens=64)
    assert made.job.eval_tokens == EVAL_FACTOR * 64
