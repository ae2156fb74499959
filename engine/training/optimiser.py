"""AdamW and the learning-rate curve."""

from __future__ import annotations

import math

import torch
from torch import nn

from engine.recipe import Train, parse_share

FLOOR = 0.1  # of the peak rate: where cosine and linear end


def make_optimiser(model: nn.Module, weight_decay: float) -> torch.optim.Optimizer:
    """Fused AdamW over the trainable weights; decay on matrices only, not on gains and biases."""
    trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
    groups = [
        {"params": [p for p in trained if p.dim() >= 2], "weight_decay": weight_decay},
        {"params": [p for p in trained if p.dim() < 2], "weight_decay": 0.0},
    ]
    return torch.optim.AdamW([group for group in groups if group["params"]], lr=0.0, fused=True)


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
