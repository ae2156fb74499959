"""SHiRA, OFT and OSF through PEFT: methods that change the weights of layers within limits.

SHiRA (Bhardwaj et al. 2024, arXiv:2406.13175) trains a few single weights of a layer. OFT (Qiu et al. 2023,
arXiv:2306.07280; its quick form: Qiu et al. 2025, arXiv:2506.19847) rotates its inputs in blocks, R = (I + Q)(I - Q)^-1
by the first terms of its series. OSF (Nayak et al. 2025, arXiv:2504.07097) trains the smallest singular directions,
with gradients orthogonal to the largest.
"""

from __future__ import annotations

import itertools
import warnings
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_file
from torch import nn

from engine.basics.errors import ModelError
from engine.models.classifier import HEADS, modules_to_save
from engine.models.layers import check_targets, odd_layers
from engine.models.targets import is_target
from engine.models.towers import linear_in_towers
from engine.recipe.methods import Constrained, Oft, Osf, Shira
from finetui.errors import first_line

OSF_FACTORS = ("U_low", "S_low", "V_low")


def with_constrained(base: Any, method: Constrained) -> Any:
    """Make the layers that a method changes trainable within its limits; the rest is frozen. Raises ModelError."""
    from peft import get_peft_model

    layers = changed_layers(base, method)
    new = modules_to_save(base)
    options: dict[str, Any] = {
        "task_type": "CAUSAL_LM" if new is None else "SEQ_CLS",
        "modules_to_save": new,
        "target_modules": list(layers),
    }
    try:
        with warnings.catch_warnings():
            # It takes the nearest that fits.
            warnings.filterwarnings("ignore", message="Invalid `oft_block_size`")
            model = get_peft_model(base, _config(method, layers, options))
    except (ValueError, TypeError) as error:
        raise ModelError(
            f"key method: {method.name} does not fit {type(base).__name__} ({first_line(error)}); use lora"
        ) from None
    if isinstance(method, Osf):
        _project_again(model)
    return model


def changed_layers(base: Any, method: Constrained) -> dict[str, nn.Linear]:
    """Return the layers that a method changes, by their paths. Raises ModelError."""
    from transformers.pytorch_utils import Conv1D

    check_targets(base, method.targets)
    head = base.get_output_embeddings()
    new = modules_to_save(base)
    left_out = {*odd_layers(base), *(linear_in_towers(base) if new is None else new)}
    layers = {
        path: module
        for path, module in base.named_modules()
        if isinstance(module, nn.Linear)
        and module is not head
        and path.partition(".")[0] not in HEADS
        and path not in left_out
        and is_target(path, method.targets)
    }
    if any(isinstance(module, Conv1D) for module in base.modules()):
        raise ModelError(
            f"key method: {method.name} changes layers of type Linear, and {type(base).__name__} has others (Conv1D); "
            "use lora"
        )
    if not layers:
        raise ModelError(
            f"key method.targets: {type(base).__name__} has no linear layer for {method.targets}; use all-linear"
        )
    if isinstance(method, Shira):
        _check_rank(layers, method.r)
    return layers


def _check_rank(layers: dict[str, nn.Linear], r: int) -> None:
    """Raise ModelError if a layer has fewer weights than would be trained of it."""
    for path, layer in layers.items():
        out, into = layer.out_features, layer.in_features
        if r * (out + into) > out * into:
            raise ModelError(
                f"key method.r: {r} asks for more trained weights than {path} has ({out} x {into}); at most "
                f"{out * into // (out + into)} fits, or leave that layer out of method.targets"
            )


def _config(method: Constrained, layers: dict[str, nn.Linear], options: dict[str, Any]) -> Any:
    from peft import OFTConfig, OSFConfig, ShiraConfig
    from peft.tuners.shira.mask_functions import random_mask

    if isinstance(method, Oft):
        return OFTConfig(oft_block_size=method.block, **options)
    if isinstance(method, Osf):
        return OSFConfig(effective_rank=method.keep, **options)
    config = ShiraConfig(r=method.r, **options)
    seeds = itertools.count()

    def mask(layer: nn.Linear, r: int, **_: Any) -> torch.Tensor | None:
        # With one seed, as PEFT has it, layers of one shape would all have their weights in the same places.
        return random_mask(layer, r, random_seed=next(seeds))

    # Without weights there is nothing to choose from; the number of trained weights is known.
    config.mask_fn = None if next(iter(layers.values())).weight.is_meta else mask
    return config


def _project_again(model: Any) -> None:
    """Make gradients orthogonal to what is kept: PEFT 0.21 does so by hooks on weights that it then replaces by their
    copies in float32, so that with a base in bfloat16 none was left."""
    from peft.tuners.osf.layer import OSFLayer

    for module in model.modules():
        if isinstance(module, OSFLayer):
            module._detach_hooks()
            module._attach_hooks("default")


def made_parts(model: Any) -> dict[str, torch.Tensor]:
    """Return what a method made of the base and does not train: places of weights, smallest singular directions."""
    parts: dict[str, torch.Tensor] = {}
    for path, module in model.named_modules():
        for name, places in getattr(module, "shira_indices", {}).items():
            parts[f"{path}.shira_indices.{name}"] = places.cpu()
        if hasattr(module, "osf_svd_params"):
            for name in OSF_FACTORS:
                parts[f"{path}.{name}"] = getattr(module, f"_osf_{name}_init")["default"].cpu()
    return parts


@torch.no_grad()
def put_parts(model: Any, parts: dict[str, torch.Tensor]) -> None:
    """Put them back as an earlier attempt made them: other versions or machines may make others. Raises KeyError."""
    for path, module in model.named_modules():
        for name, places in getattr(module, "shira_indices", {}).items():
            module.shira_indices[name] = parts[f"{path}.shira_indices.{name}"].to(places.device)
        if hasattr(module, "osf_svd_params"):
            for name in OSF_FACTORS:
                value = parts[f"{path}.{name}"]
                getattr(module, f"_osf_{name}_init")["default"].copy_(value)
                module.osf_svd_params["default"][name].copy_(value)


def save_osf(model: Any, directory: Path) -> None:
    """Write what was trained as a plain LoRA adapter of twice as many directions.

    OSF learned the difference U S V - U0 S0 V0 of two low-rank products, which is B A with B = [U S, -U0 S0] and
    A = [V; V0]. PEFT's own file has U, S and V alone: reading it takes the singular values of every layer anew.
    """
    from peft import LoraConfig

    model.save_pretrained(directory, save_embedding_layers=False)
    file = directory / "adapter_model.safetensors"
    weights = {name: value for name, value in load_file(file).items() if ".osf_svd_params." not in name}
    ranks: dict[str, int] = {}
    for path, module in model.named_modules():
        if hasattr(module, "osf_svd_params"):
            (u, s, v), (u0, s0, v0) = _factors(module)
            weights[f"{path}.lora_A.weight"] = torch.cat([v, v0]).contiguous()
            weights[f"{path}.lora_B.weight"] = torch.cat([u * s, -u0 * s0], 1).contiguous()
            ranks[path.removeprefix("base_model.model.")] = 2 * len(s)
    save_file(weights, file, metadata={"format": "pt"})
    trained = model.active_peft_config
    most = max(ranks.values())
    pattern = {path: rank for path, rank in ranks.items() if rank != most}
    LoraConfig(
        task_type=trained.task_type,
        modules_to_save=trained.modules_to_save,
        base_model_name_or_path=trained.base_model_name_or_path,
        target_modules=trained.target_modules,
        r=most,
        lora_alpha=most,  # times alpha / r, which is 1 in every layer
        rank_pattern=pattern,
        alpha_pattern=pattern,
        inference_mode=True,
    ).save_pretrained(directory)


def _factors(module: Any) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """Return U, S and V of an OSF layer as they are now, and as they were at first; on the CPU."""
    now = [module.osf_svd_params["default"][name].detach().cpu() for name in OSF_FACTORS]
    return now, [getattr(module, f"_osf_{name}_init")["default"].cpu() for name in OSF_FACTORS]
