"""Mixtures of experts: what adapters reach of them, and the loss that keeps their routers balanced.

transformers holds the matrices of all experts of a block as one tensor, which is no linear layer: PEFT adapts it for
some architectures only, and bitsandbytes leaves it in 16 bits.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch

from engine.basics.errors import ModelError
from engine.models.outline import listed
from engine.models.source import setting
from engine.recipe.methods import IA3, Lora, Method, Prefix, Prompt, QLora

INITS = {"pissa": "PiSSA", "eva": "EVA", "corda": "CorDA", "corda-kpm": "CorDA"}
COUNTS = ("num_experts", "num_local_experts", "n_routed_experts")


def has_experts(config: Any) -> bool:
    """Whether the text model of a configuration is a mixture of experts."""
    return any((setting(config, name) or 0) > 1 for name in COUNTS)


def expert_tensors(model: Any) -> dict[str, torch.nn.Parameter]:
    """Return the tensors that hold a matrix for each expert, by name."""
    return {
        name: parameter
        for name, parameter in model.named_parameters()
        if parameter.dim() == 3 and "conv" not in name and "lora_" not in name
    }


def check(model: Any, method: Lora | QLora, targets: str | list[str]) -> None:
    """Raise ModelError for settings of LoRA that PEFT lacks for the tensors of experts and routers. `targets`: the
    method's, as PEFT takes them."""
    tensors, others = _targets(model, targets)
    if not tensors:
        return
    init = method.init if isinstance(method, Lora) else "default"
    settings = (
        ("init", INITS.get(init, init), init != "default"),
        ("dora", "DoRA", method.dora),
        ("dropout", "dropout", method.dropout > 0),
    )
    for key, what, is_set in settings:
        if is_set:
            raise ModelError(
                f"key method.{key}: {what} does not work on experts and routers ({', '.join(tensors)}), which "
                f"method.targets reaches in {type(model).__name__}; leave it out, or set method.targets to "
                f"[{', '.join(others or ['q_proj', 'v_proj'])}]"
            )


def reaches(model: Any, target: str) -> bool:
    """Whether PEFT takes the name of a target for one of an expert's layers, which are part of a larger tensor."""
    return target.rpartition(".")[2] in _names(model)


def mlp_names(model: Any) -> list[str]:
    """Return the names by which PEFT adapts the tensors of experts, those of routers left out."""
    return sorted(name for name, tensor in _names(model).items() if not tensor.startswith("gate."))


def _names(model: Any) -> dict[str, str]:
    """Return the names of an expert's layers, each with the tensor that PEFT takes it for; empty if it adapts none."""
    from peft.utils import transformers_weight_conversion as conversion

    kind = conversion._MODEL_TO_CONVERSION_PATTERN.get(model.config.model_type)
    return conversion._MOE_TARGET_MODULE_MAPPING.get(kind, {}) if kind else {}


def _targets(model: Any, targets: str | list[str]) -> tuple[list[str], list[str]]:
    """Return what PEFT makes of targets: (tensors of experts and routers, last names of linear layers)."""
    from peft import LoraConfig
    from peft.utils.transformers_weight_conversion import convert_peft_config_for_transformers

    config = LoraConfig(r=1, target_modules=targets)
    try:
        convert_peft_config_for_transformers(config, model, None)
    except ValueError:  # one half of what is fused; with_lora says so
        return [], []
    if not config.target_parameters:
        return [], []
    layers = sorted(config.target_modules) if isinstance(config.target_modules, set | list) else []
    return sorted(config.target_parameters), layers


def notes(model: Any, method: Method, task: str) -> list[str]:
    """Return what is otherwise in a mixture of experts than one may think, in sentences."""
    config = model.config.get_text_config()
    if not has_experts(config):
        return []
    sentences = []
    tensors = expert_tensors(model)
    share = sum(p.numel() for p in tensors.values()) / sum(p.numel() for p in model.parameters())
    if isinstance(method, QLora) and share > 0.5:
        sentences.append(
            f"qlora saves little here: {share:.0%} of the weights are experts, one tensor for each block, which "
            "bitsandbytes leaves in 16 bits; lora needs about as much memory and is faster"
        )
    if isinstance(method, IA3) and tensors:
        sentences.append(
            f"ia3 scales no MLP of experts ({listed(list(tensors))}), which are no linear layers"
        )
    if getattr(config, "output_router_logits", False):
        sentences.append(_router_note(model, method, task))
    return sentences


def _router_note(model: Any, method: Method, task: str) -> str:
    asked = "config.json asks for the router's balance loss (output_router_logits)"
    if task == "classification":
        return f"{asked}, which task classification does not use"
    if isinstance(method, Prefix | Prompt):
        return f"{asked}, which method {method.name} does not use"
    loss = router_loss(model)
    if loss is None:
        return f"{asked}, which transformers has not for {type(model).__name__}: it is not used"
    return f"{asked}: it is added with weight {loss.weight:g}, and logged as train/router_balance (1: even)"


@dataclass(frozen=True)
class RouterLoss:
    """The load-balancing loss of a mixture of experts (Fedus et al. 2021, arXiv:2101.03961, equations 4 to 6)."""

    function: Callable[..., torch.Tensor]
    weight: float
    experts: int
    per_token: int

    def balance(self, router_logits: Any, mask: torch.Tensor) -> torch.Tensor:
        """Return the loss over the tokens of a mask [rows, length], 1 where all experts get equally many; float32
        scalar. `router_logits`: as the decoder returns them.
        """
        return self.function(router_logits, self.experts, self.per_token, mask) / self.per_token


def router_loss(model: Any) -> RouterLoss | None:
    """Return the router's loss if the configuration asks for it and transformers has it for this model."""
    config = model.config.get_text_config()
    function = getattr(sys.modules[type(model).__module__], "load_balancing_loss_func", None)
    weight = setting(config, "router_aux_loss_coef")
    per_token = setting(config, "num_experts_per_tok") or getattr(model, "num_experts_per_tok", None)
    count = next((n for name in COUNTS if (n := setting(config, name))), None)
    if not getattr(config, "output_router_logits", False) or None in (function, weight, per_token, count):
        return None
    assert function is not None
    return RouterLoss(function, float(weight or 0), int(count or 0), int(per_token or 1))
