"""The linear layers of a model: what `method.targets` may name, and which PEFT must leave alone."""

from __future__ import annotations

from typing import Any

import torch

from engine.basics.errors import ModelError
from engine.models import experts
from engine.models.classifier import HEADS
from engine.models.source import unknown_target
from engine.models.targets import in_mlp

# Subclasses of nn.Linear whose output is not the product with their weight, so that PEFT's sum with it does not fit.
ODD_LAYERS = ("DeepseekV4GroupedLinear", "PhimoeTopKRouter")


def linear_layers(model: Any) -> list[str]:
    """Return the last parts of the names of a model's linear layers: what `method.targets` may name."""
    names = (name for name, module in model.named_modules() if isinstance(module, torch.nn.Linear))
    return sorted({name.rpartition(".")[2] for name in names})


def odd_layers(base: Any) -> list[str]:
    """Return the paths of layers that only look linear."""
    return [path for path, module in base.named_modules() if type(module).__name__ in ODD_LAYERS]


def check_targets(base: Any, targets: str | list[str]) -> None:
    """Raise ModelError for a target that is no layer: PEFT says so only if none is one."""
    paths = [f".{path}" for path, _ in base.named_modules()]
    layers = linear_layers(base)
    for target in targets if isinstance(targets, list) else ():
        if not any(path.endswith(f".{target}") for path in paths) and not experts.reaches(base, target):
            raise unknown_target(target, type(base).__name__, [name for name in layers if name != "lm_head"])


def chosen(base: Any, targets: str | list[str], as_paths: bool = False) -> str | list[str]:
    """Return targets as PEFT takes them for LoRA: those of MLPs, or with `as_paths` all, by their paths.

    Raises ModelError for a model without MLPs that finetui knows.
    """
    from transformers.pytorch_utils import Conv1D

    if targets == "all-linear" and not as_paths:
        return targets
    head, kinds = base.get_output_embeddings(), (torch.nn.Linear, Conv1D)
    linear = [path for path, m in base.named_modules() if isinstance(m, kinds) and m is not head]
    if targets == "all-linear":
        return [path for path in linear if path.partition(".")[0] not in HEADS]
    if isinstance(targets, list):
        return targets
    names = experts.mlp_names(base)
    paths = [
        path for path in linear if in_mlp(path) and not path.endswith(tuple(f".{name}" for name in names))
    ]
    if not names and not paths:
        raise ModelError(
            f"key method.targets: {type(base).__name__} has no MLP of linear layers; use all-linear, or name layers: "
            f"{', '.join(name for name in linear_layers(base) if name != 'lm_head')}"
        )
    return [*names, *paths]
