"""Train part of a model: its last blocks with the final norm, or modules chosen by name. The rest is frozen."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import nn

from engine.basics.errors import ModelError
from engine.recipe.methods import Freeze


def freeze(model: Any, method: Freeze) -> Any:
    """Leave only the chosen parts trainable, in place and in float32. Raises ModelError.

    A tied weight is trained wherever one of its modules is chosen: `lm_head` may mean the embeddings as well.
    """
    chosen = by_name(model, method.modules) if method.modules else last_blocks(model, method.layers)
    model.requires_grad_(False)
    for module in chosen:
        for parameter in module.parameters():
            parameter.data = parameter.data.to(torch.float32)
            parameter.requires_grad = True
    return model


def by_name(model: nn.Module, names: Iterable[str]) -> list[nn.Module]:
    """Return the modules whose path ends in one of the names: `self_attn` is in every block, `layers.4.mlp` in one."""
    modules = []
    for name in names:
        matches = [m for path, m in model.named_modules() if f".{path}".endswith(f".{name}")]
        if not any(map(_has_weights, matches)):
            known = {path.rpartition(".")[2] for path, m in model.named_modules() if _has_weights(m)}
            parts = sorted(word for word in known if word and not word.isdigit())
            raise ModelError(
                f"key method.modules: no module of {type(model).__name__} with weights is named {name}; "
                f"there is: {', '.join(parts)}"
            )
        modules += matches
    return modules


def last_blocks(model: Any, count: int) -> list[nn.Module]:
    """Return the last `count` blocks of the text model and the norm after them."""
    total = model.config.get_text_config().num_hidden_layers
    if count > total:
        raise ModelError(
            f"key method.layers: {count} is more than the {total} blocks of this model; lower it"
        )
    body = getattr(model.base_model, "language_model", model.base_model)  # not the blocks of a vision tower
    for parent in body.modules():
        for blocks in parent.children():
            if isinstance(blocks, nn.ModuleList) and len(blocks) == total:
                norms = [
                    child
                    for name, child in parent.named_children()
                    if "norm" in type(child).__name__.lower() and "embed" not in name
                ]
                return [*blocks[-count:], *norms]
    raise ModelError(
        f"key method.layers: no list of {total} blocks was found in {type(model).__name__}; "
        "list what to train in method.modules"
    )


def _has_weights(module: nn.Module) -> bool:
    return next(module.parameters(), None) is not None
