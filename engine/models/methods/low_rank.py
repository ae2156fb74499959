"""LoRA and its variants through PEFT: how the adapter is made and how it is saved."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file

from engine.basics.errors import ModelError
from engine.models import experts, lora_start
from engine.models.classifier import modules_to_save
from engine.models.layers import check_targets, chosen, linear_layers, odd_layers
from engine.models.outline import listed
from engine.models.start import NOTHING, Start
from engine.models.towers import linear_in_towers
from engine.recipe.methods import Lora, QLora
from finetui.errors import first_line

# The weights that PiSSA or CorDA began with, kept with the model: training learned the difference from them.
INITIAL = "initial_adapter"


def with_lora(base: Any, method: Lora | QLora, start: Start = NOTHING) -> Any:
    """Add a new adapter to the base; it alone is trained. Raises ModelError."""
    from peft import get_peft_model

    layers = linear_layers(base)  # before PEFT has replaced some
    check_targets(base, method.targets)
    init = method.init if isinstance(method, Lora) else "default"
    weighs = isinstance(method, Lora) and method.weighs_inputs
    targets = chosen(base, method.targets, as_paths=weighs)
    experts.check(base, method, chosen(base, method.targets))
    config, made = _config(base, method, targets), start.made
    if weighs and made is None and start.texts:
        made = lora_start.weigh(base, config, start.texts, smallest=init == "corda-kpm")
    try:
        model = get_peft_model(base, config)
    except ValueError as error:
        raise ModelError(_unfit(base, method.targets, layers, first_line(error))) from None
    if made is not None:
        lora_start.put_first(model, made, takes_from_base=weighs)
    elif init == "eva" and start.texts:
        lora_start.explain(model, method.r, start.texts)
    if init == "pissa" or (weighs and made is not None):
        setattr(model, INITIAL, {name: value.cpu() for name, value in _trained(model).items()})
    return model


def read_as_they_come(model: Any) -> None:
    """Let LoRA's layers take their inputs as they are, for a model that runs under bfloat16 autocast.

    PEFT casts them to the adapter's float32, and autocast casts them back: the same numbers, for two copies a layer and
    one of them kept for the backward pass. DoRA takes a weight's norm in the format of its input: it keeps float32.
    """
    from peft.tuners.lora import LoraLayer

    for module in model.modules():
        if isinstance(module, LoraLayer) and not module.lora_variant:
            module.cast_input_dtype_enabled = False


def _config(base: Any, method: Lora | QLora, targets: str | list[str]) -> Any:
    """Return PEFT's configuration of an adapter. Raises ModelError."""
    from peft import LoraConfig

    odd = odd_layers(base)
    if odd and isinstance(method, QLora):
        raise ModelError(
            f"key method: qlora would make plain 4-bit layers of {listed(odd)}, which {type(base).__name__} computes "
            "in a way of its own; use lora"
        )
    pissa = isinstance(method, Lora) and method.init == "pissa"
    new = modules_to_save(base)
    return LoraConfig(
        task_type="CAUSAL_LM" if new is None else "SEQ_CLS",
        modules_to_save=new,
        r=method.r,
        lora_alpha=method.alpha,  # only ever divided by r or its root
        lora_dropout=method.dropout,
        target_modules=targets,
        exclude_modules=[*odd, *(() if new else linear_in_towers(base))] or None,
        use_rslora=method.rslora,
        use_dora=method.dora,
        init_lora_weights="pissa" if pissa else True,
    )


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

    PiSSA (Meng et al. 2024, arXiv:2404.02948) and CorDA take a part of the base into the adapter: W = W' + s B0 A0.
    They learned s (B A - B0 A0) on top of W, a plain adapter of twice the rank.
    """
    # Looking at the hub for whether embeddings changed would need the network; they never do.
    options: dict[str, Any] = {"save_embedding_layers": False}
    initial = getattr(model, INITIAL, None)
    if initial is None:
        model.save_pretrained(directory, **options)
        return
    # PEFT's own conversion fails for a classifier, whose head it takes for a part of the adapter.
    model.save_pretrained(directory, **options)
    file, config_file = directory / "adapter_model.safetensors", directory / "adapter_config.json"
    weights, config = load_file(file), json.loads(config_file.read_text())
    for name, first in initial.items():
        saved = name.replace(".default", "")
        if ".lora_A." in name:
            weights[saved] = torch.cat([weights[saved], first])
        elif ".lora_B." in name:
            weights[saved] = torch.cat([weights[saved], -first], 1).contiguous()
    save_file(weights, file, metadata={"format": "pt"})
    times = math.sqrt(2) if config["use_rslora"] else 2  # the scale stays as it was trained
    config |= {"r": 2 * config["r"], "lora_alpha": times * config["lora_alpha"], "init_lora_weights": True}
    config_file.write_text(json.dumps(config, indent=2))


def _trained(model: Any) -> dict[str, torch.Tensor]:
    return {name: p.detach().clone() for name, p in model.named_parameters() if p.requires_grad}
