"""Number formats and activation checkpointing: decided and reported before a run."""

from __future__ import annotations

from typing import Any

import torch

from engine.basics.errors import ModelError
from engine.memory.fit import wants_checkpointing
from engine.memory.workload import recipe_shapes, workload_of
from engine.recipe.sections import Recipe
from engine.training.report import Report

NAMES = {torch.float32: "fp32", torch.bfloat16: "bf16", torch.float16: "fp16", torch.uint8: "4 bits"}


def choose_checkpointing(recipe: Recipe, longest: int, memory: int, report: Report) -> bool:
    """Whether activations are computed again; `auto` asks the estimate whether they would fit into `memory` bytes."""
    setting = recipe.train.activation_checkpointing
    if setting != "auto":
        return setting
    try:
        shapes = recipe_shapes(recipe)
    except ModelError:
        return False  # nothing is known of its memory
    workload = workload_of(recipe, shapes, "cuda" if torch.cuda.is_available() else "cpu", longest)
    chosen = wants_checkpointing(workload, shapes, memory)
    if chosen:
        report.log(
            "info", "activation checkpointing is on: by the estimate, the run would not fit without it"
        )
    return chosen


def precisions(model: Any, dtype: torch.dtype, checkpointing: bool) -> str:
    """Return one line: `frozen weights 4 bits and bf16, trained weights fp32, forward pass bf16 by autocast`."""
    formats = [(p.requires_grad, NAMES.get(p.dtype, str(p.dtype))) for p in model.parameters()]
    frozen, trained = (
        {name for requires_grad, name in formats if requires_grad == is_trained}
        for is_trained in (False, True)
    )
    parts = [f"frozen weights {' and '.join(sorted(frozen))}"] * bool(frozen)
    parts.append(f"trained weights {' and '.join(sorted(trained))}")
    parts.append(f"forward pass {NAMES[dtype]}" + " by autocast" * (dtype != torch.float32))
    parts += ["activations recomputed in the backward pass"] * checkpointing
    return ", ".join(parts)
