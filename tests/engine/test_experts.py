"""Mixtures of experts are trained as transformers trains them: the balance of their routers is part of the loss."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from trainers import make_trainer
from transformers import AutoModelForCausalLM

from engine.data.chat import Example
from engine.losses.batches import collate
from engine.losses.dpo_loss import PairLoss
from engine.losses.loss import TargetLoss
from engine.losses.packing import pack
from engine.recipe.sections import Recipe
from engine.recipe.tasks import Dpo
from engine.tasks.items import Pair
from scripts.architectures import tiny_config

CPU = torch.device("cpu")
WEIGHT = 0.5
KINDS = ["mixtral", "qwen3_moe", "olmoe", "gpt_oss", "granitemoe"]


def model_of(kind: str, **changes: Any) -> Any:
    torch.manual_seed(0)
    config = tiny_config(kind)
    for name, value in {"output_router_logits": True, "router_aux_loss_coef": WEIGHT, **changes}.items():
        setattr(config, name, value)
    return AutoModelForCausalLM.from_config(config).train()


def example(length: int) -> Example:
    """Everything but its first token is a target, as transformers takes labels."""
    tokens = np.random.default_rng(length).integers(6, 3000, length).astype(np.int32)
    return Example(str(length), tokens, np.arange(length) > 0)


@pytest.mark.parametrize("kind", KINDS)
def test_loss_and_gradients_are_those_of_transformers(kind: str) -> None:
    model, one = model_of(kind), example(24)
    ids = torch.from_numpy(one.tokens.astype(np.int64))[None]
    theirs = model(input_ids=ids, labels=ids)
    theirs.loss.backward()
    expected = {name: p.grad.clone() for name, p in model.named_parameters() if p.grad is not None}
    model.zero_grad()
    loss = TargetLoss(model)
    batch = collate([one], CPU, multiple=16)  # padding is no token
    (loss(batch) / len(batch.targets)).backward()
    assert loss.router_balance is not None
    assert loss.router
    assert loss.router_balance.item() * loss.router.per_token == pytest.approx(theirs.aux_loss.item())
    assert loss.router_term is not None
    assert loss.router_term.item() == pytest.approx(WEIGHT * theirs.aux_loss.item() * len(batch.targets))
    for name, parameter in model.named_parameters():
        if name in expected:
            torch.testing.assert_close(parameter.grad, expected[name], rtol=1e-3, atol=1e-5)


def test_examples_in_one_row_have_the_balance_of_all_their_tokens() -> None:
    model = model_of("qwen3_moe")
    examples = [example(n) for n in (9, 20, 33)]
    padded, balances = TargetLoss(model), []
    padded(padded.collate(examples, CPU))
    assert pack(model)
    packed = TargetLoss(model, packed=True)
    packed(packed.collate(examples, CPU))
    balances = [loss.router_balance for loss in (padded, packed)]
    torch.testing.assert_close(*balances)
    with torch.no_grad():
        assert packed.scores(packed.collate(examples, CPU)).nll.isfinite().all()


def test_without_being_asked_for_it_is_not_used() -> None:
    loss = TargetLoss(model_of("qwen3_moe", output_router_logits=False))
    assert loss.router is None
    loss(loss.collate([example(9)], CPU))
    assert loss.router_balance is None


def test_it_is_part_of_a_preference_loss() -> None:
    recipe = Recipe.model_validate({"model": "m", "method": "full", "data": {"train": "-"}})
    losses = []
    for weight in (0.0, WEIGHT):
        loss = PairLoss(model_of("qwen3_moe", router_aux_loss_coef=weight), recipe.method, Dpo(name="dpo"))
        pair = Pair("0", example(9), example(20))
        batch = loss.collate([pair], CPU)
        losses.append(loss(batch).item())
    assert loss.token_loss.router_term is not None
    assert losses[1] - losses[0] == pytest.approx(loss.token_loss.router_term.item(), rel=1e-4)


def test_a_step_logs_the_balance_and_the_loss_without_it(tmp_path: Path) -> None:
    recipe = Recipe.model_validate(
        {
            "model": "m",
            "method": "full",
            "data": {"train": "-"},
            "train": {"lr": 1e-3, "max_steps": 2, "tokens_per_step": 64, "memory_probe": False},
        }
    )
    examples = [example(n) for n in (20, 33)]
    metrics = []
    for weight in (0.0, WEIGHT):
        trainer = make_trainer(
            tmp_path / str(weight), recipe, model_of("qwen3_moe", router_aux_loss_coef=weight), examples
        )
        metrics.append(trainer.step(np.arange(2)))
    assert metrics[0]["train/loss"] == pytest.approx(metrics[1]["train/loss"], rel=1e-5)
    assert metrics[0]["train/router_balance"] == pytest.approx(metrics[1]["train/router_balance"])
    assert 0.9 < metrics[0]["train/router_balance"] < 2
    assert metrics[0]["train/grad_norm"] != pytest.approx(metrics[1]["train/grad_norm"], rel=1e-3)
