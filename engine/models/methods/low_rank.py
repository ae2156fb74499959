"""LoRA and its variants through PEFT: how the adapter is made and how it is saved."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path
from typing import Any

import torch

from engine.basics.errors import ModelError
from engine.models import experts
from engine.models.classifier import modules_to_save
from engine.models.outline import listed
from engine.models.source import unknown_target
from engine.models.towers import linear_in_towers
from engine.recipe.methods import Lora, QLora
from finetui.errors import first_line

# The weights that PiSSA began with, kept with the model: training learned the difference from them.
INITIAL = "initial_adapter"
# Subclasses of nn.Linear whose output is not the product with their weight, so that PEFT's sum with it does not fit.
ODD_LAYERS = ("DeepseekV4GroupedLinear", "PhimoeTopKRouter")


def with_lora(base: Any, method: Lora | QLora) -> Any:
    """Add a new adapter to the base; it alone is trained. Raises ModelError."""
    from peft import LoraConfig, get_peft_model

    experts.check(base, method)
    layers = linear_layers(base)  # before PEFT has replaced some
    _check_targets(base, method.targets, layers)
    odd = _odd_layers(base)
    if odd and isinstance(method, QLora):
        raise ModelError(
            f"key method: qlora would make plain 4-bit layers of {listed(odd)}, which {type(base).__name__} computes "
            "in a way of its own; use lora"
        )
    pissa = isinstance(method, Lora) and method.init == "pissa"
    new = modules_to_save(base)
    config = LoraConfig(
        task_type="CAUSAL_LM" if new is None else "SEQ_CLS",
        modules_to_save=new,
        r=method.r,
        lora_alpha=method.alpha,  # only ever divided by r or its root
        lora_dropout=method.dropout,
        target_modules=method.targets,
        exclude_modules=[*odd, *(() if new else linear_in_towers(base))] or None,
        use_rslora=method.rslora,
        use_dora=method.dora,
        init_lora_weights="pissa" if pissa else True,
    )
    try:
        model = get_peft_model(base, config)
    except ValueError as error:
        raise ModelError(_unfit(base, method.targets, layers, first_line(error))) from None
    if pissa:
        setattr(model, INITIAL, {name: value.cpu() for name, value in _trained(model).items()})
    return model


def _odd_layers(base: Any) -> list[str]:
    """Return the paths of layers that only look linear."""
    return [path for path, module in base.named_modules() if type(module).__name__ in ODD_LAYERS]


def _check_targets(base: Any, targets: str | list[str], layers: list[str]) -> None:
    """Raise ModelError for a target that is no layer: PEFT says so only if none is one."""
    paths = [f".{path}" for path, _ in base.named_modules()]
    for target in targets if isinstance(targets, list) else ():
        if not any(path.endswith(f".{target}") for path in paths) and not experts.reaches(base, target):
            raise unknown_target(target, type(base).__name__, [name for name in layers if name != "lm_head"])


def _unfit(base: Any, targets: str | list[str], layers: list[str], reason: str) -> str:
    """Return one sentence on targets that PEFT refuses."""
    if "incompatible" in reason:  # the fused kernels of Mamba take these weights as they are
        refused = set(re.findall(r"'([^']+)'", reason))
        rest = [name for name in layers if name not in refused and name != "lm_head"]
        return (
            f"key method.targets: {targets} has layers of {type(base).__name__} that PEFT cannot adapt "
            f"({', '.join(sorted(refused.intersection(layers)))}); set it to [{', '.join(rest)}]"
        )
    return f"method.targets {targets}: {reason}; its linear layers are {', '.join(layers)}"


def save_lora(model: Any, directory: Path) -> None:
    """Write the adapter as plain LoRA for the unchanged base.

    PiSSA (Meng et al. 2024, arXiv:2404.02948) takes the base's largest singular vectors into the adapter:
    W = W' + s B0 A0. It learned s (B A - B0 A0) on top of W, a plain adapter of twice the rank.
    """
    # Looking at the hub for whether embeddings changed would need the network; they never do.
    options: dict[str, Any] = {"save_embedding_layers": False}
    initial = getattr(model, INITIAL, None)
    if initial is None:
        model.save_pretrained(directory, **options)
        return
    learnt = _trained(model)
    with tempfile.TemporaryDirectory() as start:
        _put(model, initial)
        model.save_pretrained(start, **options)
        _put(model, learnt)
        model.save_pretrained(directory, path_initial_model_for_weight_conversion=start, **options)


def linear_layers(model: Any) -> list[str]:
    """Return the last parts of the names of a model's linear layers: what `method.targets` may name."""
    names = (name for name, module in model.named_modules() if isinstance(module, torch.nn.Linear))
    return sorted({name.rpartition(".")[2] for name in names})


def _trained(model: Any) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in model.named_parameters() if p.requires_grad}


@torch.no_grad()
def _put(model: Any, weights: dict[str, torch.Tensor]) -> None:
    for name, parameter in model.named_parameters():
        if name in weights:
            parameter.copy_(weights[name])
