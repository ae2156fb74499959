"""Everything that training needs, loaded, and its position."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any

import torch

from engine.evals.choices import ChoiceSuite
from engine.evals.looks import Looks
from engine.evals.metrics import Metrics
from engine.losses.batches import Plan
from engine.losses.packing import keep_from_compiler
from engine.memory.estimate import EVAL_FACTOR
from engine.models.load import without_adapters
from engine.recipe.sections import Recipe
from engine.runs.home import RunDir
from engine.tasks.prepare import Prepared
from engine.training.meter import Meter
from engine.training.report import Report
from engine.training.stop import Stop
from store.lines import Timing


@dataclass
class Spent:
    """What an attempt has spent so far on training steps, on checkpoints, and on looks after step 0, which may be read
    from a cache.
    """

    train_s: float = 0.0
    train_tokens: int = 0
    looks: int = 0
    eval_s: float = 0.0
    eval_tokens: int = 0  # read by looks
    saves: int = 0
    save_s: float = 0.0

    def step(self, seconds: float, tokens: int) -> None:
        self.train_s, self.train_tokens = self.train_s + seconds, self.train_tokens + tokens

    def look(self, seconds: float) -> None:
        self.eval_s, self.looks = self.eval_s + seconds, self.looks + 1

    def save(self, seconds: float) -> None:
        self.save_s, self.saves = self.save_s + seconds, self.saves + 1


@dataclass
class Job:
    """Everything that training needs, loaded; `step` is the number of optimiser steps done."""

    run: RunDir
    recipe: Recipe
    data: Prepared
    model: Any
    tokenizer: Any
    looks: Looks
    report: Report
    stop: Stop
    dtype: torch.dtype
    metrics: Metrics
    packed: bool  # examples share a row without padding
    plan: Plan
    meter: Meter
    checkpointing: bool  # activations are computed again in the backward pass
    choices: list[ChoiceSuite] = field(default_factory=list)
    step: int = 0
    micro_tokens: int = 0  # of one forward pass; less than the recipe's where memory is short
    spent: Spent = field(default_factory=Spent)

    def __post_init__(self) -> None:
        train = self.recipe.train
        if self.micro_tokens == 0:
            self.micro_tokens = train.micro_tokens
            if self.recipe.processes > 1:  # no more than gives every process a forward pass of its own
                self.micro_tokens = min(
                    train.micro_tokens, math.ceil(train.tokens_per_step / self.recipe.processes)
                )

    @property
    def timing(self) -> Timing:
        """What the attempt has spent, for its log."""
        return Timing(**vars(self.spent))

    @property
    def eval_tokens(self) -> int:
        """Tokens of one forward pass of an evaluation, which keeps no activations for gradients."""
        return EVAL_FACTOR * self.micro_tokens


def plan_of(recipe: Recipe, data: Prepared, packed: bool) -> Plan:
    """Return the order of training."""
    settings = recipe.train
    return Plan(
        lengths=tuple(len(example.tokens) for example in data.train),
        seed=recipe.seed,
        epochs=settings.epochs,
        max_steps=settings.max_steps,
        tokens_per_step=settings.tokens_per_step,
        packed=packed,
    )


def compile_backbone(model: Any) -> None:
    """Let PyTorch compile all of a model but its head when it is first called; that call takes up to minutes."""
    keep_from_compiler()
    base = without_adapters(model)
    base.base_model.compile(dynamic=True)
