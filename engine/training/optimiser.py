"""AdamW and the learning-rate curve."""

from __future__ import annotations

import math

import torch
from torch import nn

from engine.recipe import Train
from engine.recipe_fields import parse_share

FLOOR = 0.1  # of the peak rate: where cosine and linear end


def make_optimiser(model: nn.Module, weight_decay: float, lora_b_scale: float = 1.0) -> torch.optim.Optimizer:
    """Fused AdamW over the trainable weights; decay on matrices only, not on gains, biases and IA3's vectors.

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
        elif parameter.dim() < 2 or ".ia3_l." in name:
            vectors.append(parameter)
        else:
            matrices.append(parameter)
    groups = [
        {"params": matrices, "weight_decay": weight_decay},
        {"params": vectors, "weight_decay": 0.0},
        {"params": lora_b, "weight_decay": weight_decay, "scale": lora_b_scale},
    ]
    return torch.optim.AdamW([group for group in groups if group["params"]], lr=0.0, fused=True)


def set_rate(optimiser: torch.optim.Optimizer, rate: float) -> None:
    """The rate of the next step, for every group at its own scale."""
    for group in optimiser.param_groups:
        group["lr"] = rate * group.get("scale", 1.0)


def learning_rate(train: Train, step: int, total_steps: int) -> float:
    """The rate for optimiser step `step` (from 0): linear warm-up, then the schedule down to a tenth."""
    assert train.lr is not None  # Recipe fills it in
    warmup = parse_share(train.warmup).of(total_steps)
    if step < warmup:
        return train.lr * (step + 1) / warmup
    done = (step - warmup) / max(1, total_steps - warmup)
    if train.schedule == "cosine":
        return train.lr * (FLOOR + (1 - FLOOR) * (1 + math.cos(math.pi * done)) / 2)
    if train.schedule == "linear":
        return train.lr * (1 - (1 - FLOOR) * done)
    return train.lr
