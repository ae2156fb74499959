"""The optimiser and the learning-rate curve."""

from __future__ import annotations

import math
import warnings
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from torch import nn

from engine.recipe.fields import parse_share
from engine.recipe.sections import Train

FLOOR = 0.1  # of the peak rate: where cosine and linear end


def make_optimiser(model: nn.Module, train: Train, lora_b_scale: float = 1.0) -> torch.optim.Optimizer:
    """Make the recipe's optimiser of the trainable weights; decay on matrices only, not on gains, biases, IA3's
    vectors, and OSF's parts of the base, which it would take out of the model.

    `lora_b_scale` multiplies the rate of LoRA's B matrices (LoRA+, Hayou et al. 2024, arXiv:2402.12354).
    """
    lora_b: list[nn.Parameter] = []
    matrices: list[nn.Parameter] = []
    vectors: list[nn.Parameter] = []
    for name, parameter in model.named_parameters():
        if not parameter.requires_grad:
            continue
        if lora_b_scale != 1.0 and ".lora_B." in name:
            lora_b.append(parameter)
        elif parameter.dim() < 2 or ".ia3_l." in name or ".osf_svd_params." in name:
            vectors.append(parameter)
        else:
            matrices.append(parameter)
    groups = [
        {"params": matrices, "weight_decay": train.weight_decay},
        {"params": vectors, "weight_decay": 0.0},
        {"params": lora_b, "weight_decay": train.weight_decay, "scale": lora_b_scale},
    ]
    return _optimiser([group for group in groups if group["params"]], train)


def _optimiser(groups: list[dict[str, Any]], train: Train) -> torch.optim.Optimizer:
    """Make the optimiser. The rate is set before each step, so it begins at 0."""
    if train.optimiser == "adamw":
        return torch.optim.AdamW(groups, lr=0.0, fused=True)
    if train.optimiser == "adafactor":
        from transformers.optimization import Adafactor  # not before: all of peft comes with it

        # At fixed rates that mean what AdamW's do (Shazeer and Stern 2018, arXiv:1804.04235, has relative ones).
        return Adafactor(groups, lr=0.0, scale_parameter=False, relative_step=False)
    import bitsandbytes

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Paged optimizers are not supported on CPU")
        if train.optimiser == "paged_adamw":
            return bitsandbytes.optim.PagedAdamW(groups, lr=0.0)
        if train.optimiser == "adamw8bit":
            return bitsandbytes.optim.AdamW8bit(groups, lr=0.0)
        return bitsandbytes.optim.PagedAdamW8bit(groups, lr=0.0)


def set_rate(optimiser: torch.optim.Optimizer, rate: float) -> None:
    """Set the rate of the next step, for every group at its own scale."""
    for group in optimiser.param_groups:
        group["lr"] = rate * group.get("scale", 1.0)


def learning_rate(train: Train, step: int, total_steps: int) -> float:
    """Return the rate for optimiser step `step` (from 0): linear warm-up, then the schedule down to a tenth."""
    assert train.lr is not None  # Recipe fills both in
    assert train.warmup is not None
    warmup = parse_share(train.warmup).of(total_steps)
    if step < warmup:
        return train.lr * (step + 1) / warmup
    done = (step - warmup) / max(1, total_steps - warmup)
    if train.schedule == "cosine":
        return train.lr * (FLOOR + (1 - FLOOR) * (1 + math.cos(math.pi * done)) / 2)
    if train.schedule == "linear":
        return train.lr * (1 - (1 - FLOOR) * done)
    return train.lr


@lru_cache(maxsize=4)
def learning_rates(train: Train, total_steps: int) -> np.ndarray:
    """Return the rates of all steps of a run: float64 [steps]. Read-only, since it is shared."""
    rates = np.array([learning_rate(train, step, total_steps) for step in range(total_steps)])
    rates.setflags(write=False)
    return rates
