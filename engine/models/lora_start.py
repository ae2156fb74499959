"""Adapters of LoRA that begin from data: EVA and CorDA, through PEFT.

EVA (Paischer et al. 2024, arXiv:2410.07170) sets A to the main directions of what a layer reads. Its redistribution of
ranks among layers is left out (rho 1): the weights and the memory are then known before the run. CorDA (Yang et al.
2024, arXiv:2406.05223, instruction-previewed) moves the part of the weights into the adapter that is largest for what
the layer reads: W C = U S V, with the covariance C of its inputs, gives B0 A0 = U_r S_r V_r C^-1. In its
knowledge-preserved mode the inputs are general text, and the part is the smallest: what the base does with such text
stays where it is.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch

from engine.basics.errors import ModelError
from engine.models.start import Text

ROWS = 8  # texts in a forward pass


def explain(model: Any, r: int, texts: Sequence[Text]) -> None:
    """Set A of every layer to the r main directions of its inputs at learned tokens. Raises ModelError."""
    from peft import EvaConfig
    from peft.tuners.lora.eva import initialize_lora_eva_weights

    config = model.peft_config["default"]
    config.init_lora_weights, config.eva_config = "eva", EvaConfig(rho=1.0)
    initialize_lora_eva_weights(model, eva_state_dict=main_directions(model, r, texts))
    config.init_lora_weights, config.eva_config = True, None  # from here on it is a plain adapter


@torch.no_grad()
def main_directions(model: Any, r: int, texts: Sequence[Text]) -> dict[str, torch.Tensor]:
    """Return the r main directions of the inputs of each adapted layer, float32 [r, inputs]. Raises ModelError.

    PEFT's own loop goes on over the data until the directions stand still, for ever where a batch has fewer than r
    tokens; here all texts are read once.
    """
    from peft.tuners.lora.eva import SVDHook
    from peft.tuners.lora.layer import LoraLayer

    hooks: dict[str, Any] = {}
    mask: list[torch.Tensor] = []

    def see(name: str, states: torch.Tensor) -> None:
        hook = hooks.setdefault(name, SVDHook(r, 1.0, name=name, gather_distributed_inputs=False))
        hook((), (states[mask[0]],), None)

    layers = {name: module for name, module in model.named_modules() if isinstance(module, LoraLayer)}
    with _watching_inputs(layers, see) as same, model.disable_adapter():
        for texts_at_once in _groups(texts, r):
            ids, attended, learned = _padded(texts_at_once, model.device)
            mask[:] = [learned.flatten()]
            _run(model.get_base_model(), input_ids=ids, attention_mask=attended)
    decompositions = {
        name: hooks[same.get(name, name)].svd for name in layers if same.get(name, name) in hooks
    }
    if len(decompositions) < len(layers) or not all(
        hasattr(svd, "components_") for svd in decompositions.values()
    ):
        raise ModelError(
            f"key method.init: eva finds {r} directions in no fewer than {r} learned tokens, and a layer saw fewer; "
            "lower method.r, or use init: default"
        )
    return {name: svd.components_[:r].to(model.device) for name, svd in decompositions.items()}


def weigh(base: Any, config: Any, texts: Sequence[Text], smallest: bool = False) -> dict[str, torch.Tensor]:
    """Return the first weights of CorDA's adapter, float32, by their later names; of its knowledge-preserved mode
    where the `smallest` parts are to move. Raises ModelError.

    PEFT can do it too, but needs the package attrs for it, which it does not ask for, holds the singular vectors of all
    layers at once, rounds the adapter to the base's number format after it was taken from the base, and leaves C's
    scale to B.
    """
    from peft.tuners.lora import LoraModel
    from transformers.pytorch_utils import Conv1D

    layers = {
        path: module
        for path, module in base.named_modules()
        if isinstance(module, torch.nn.Linear | Conv1D)
        and LoraModel._check_target_module_exists(config, path)
    }
    covariances = _covariances(base, layers, texts)
    scale = config.lora_alpha / (math.sqrt(config.r) if config.use_rslora else config.r)
    first: dict[str, torch.Tensor] = {}
    for path, layer in layers.items():
        if path not in covariances:
            raise ModelError(
                f"key method.init: no text passes through {path}, so init: corda cannot begin there; leave it out of "
                "method.targets"
            )
        weight = layer.weight.detach().float()
        whole = weight.T if isinstance(layer, Conv1D) else weight
        u, s, v = _parts(whole, covariances[path], config.r, smallest)
        lengths, name = v.norm(dim=1), f"base_model.model.{path}"
        root = (s * lengths / scale).sqrt()  # both factors get as much: without C these are PiSSA's
        first[f"{name}.lora_A.default.weight"] = ((root / lengths)[:, None] * v).contiguous()
        first[f"{name}.lora_B.default.weight"] = (u * root).contiguous()
    return first


def _covariances(base: Any, layers: dict[str, Any], texts: Sequence[Text]) -> dict[str, torch.Tensor]:
    """Return X^T X of the inputs X of each layer over all tokens, float32 [inputs, inputs]; layers that read the same
    share it."""
    covariances: dict[str, torch.Tensor] = {}

    def see(name: str, states: torch.Tensor) -> None:
        states = states.detach().float()
        covariances.setdefault(name, states.new_zeros(states.shape[1], states.shape[1])).addmm_(
            states.T, states
        )

    with _watching_inputs(layers, see) as same:
        for text in texts:
            _run(base, input_ids=torch.as_tensor(text.tokens[None], dtype=torch.long, device=base.device))
    return covariances | {name: covariances[first] for name, first in same.items()}


@contextmanager
def _watching_inputs(
    layers: dict[str, Any], see: Callable[[str, torch.Tensor], None]
) -> Iterator[dict[str, str]]:
    """Call `see` with the name and the inputs [tokens, inputs] of each layer in a forward pass; of layers that read
    the same, once: the others are in what is yielded, by the one that was seen.
    """
    same: dict[str, str] = {}
    last: list[Any] = [None, ""]

    def watch(name: str) -> Callable[..., None]:
        def hook(module: Any, inputs: tuple[Any, ...], output: Any) -> None:
            if inputs[0] is last[0]:
                same[name] = last[1]
                return
            last[:] = [inputs[0], name]
            see(name, inputs[0].reshape(-1, inputs[0].shape[-1]))

        return hook

    handles = [module.register_forward_hook(watch(name)) for name, module in layers.items()]
    try:
        yield same
    finally:
        for handle in handles:
            handle.remove()


def _parts(
    weight: torch.Tensor, covariance: torch.Tensor, r: int, smallest: bool
) -> tuple[torch.Tensor, ...]:
    """Return the r largest or smallest parts of W C = U S V as U [out, r], S [r] and V C^-1 [r, inputs]; the product of
    the largest is close to W where the inputs are; `weight`: float32 [out, inputs]. Raises ModelError.

    As in the authors' code, C gets as much of the identity as its inverse needs.
    """
    if r > min(weight.shape):
        raise ModelError(f"key method.r: {r} is more than a layer of {tuple(weight.shape)} has; lower it")
    identity, damping = torch.eye(len(covariance), device=covariance.device), 0.01
    while True:
        damped = covariance + damping * covariance.diag().mean() * identity
        inverse = torch.linalg.inv(damped)
        if torch.dist(damped @ inverse, identity) < 0.05 or damping > 1e3:
            break
        damping *= 2
    u, s, vh = torch.linalg.svd(weight @ damped, full_matrices=False)
    if smallest:
        return u[:, -r:], s[-r:], vh[-r:] @ inverse
    return u[:, :r], s[:r], vh[:r] @ inverse


@torch.no_grad()
def put_first(model: Any, made: dict[str, torch.Tensor], takes_from_base: bool) -> None:
    """Put an adapter's first weights in place, and take them out of the base if they are part of it.

    Raises KeyError.
    """
    from peft.tuners.lora.layer import LoraLayer

    for name, parameter in model.named_parameters():
        if re.search(r"\.lora_[AB]\.", name):
            parameter.copy_(made[name])
    for module in model.modules() if takes_from_base else ():
        if isinstance(module, LoraLayer):
            weight = module.get_base_layer().weight
            # As PEFT's `corda_init` does, so that the very same numbers come out.
            delta = (
                module.scaling["default"] * module.lora_B["default"].weight @ module.lora_A["default"].weight
            )
            if module.fan_in_fan_out:
                delta = delta.T
            weight.data = (weight.to(torch.float32) - delta).to(weight.dtype)


def first_weights(model: Any) -> dict[str, torch.Tensor]:
    """Return the weights of an adapter that began from data; to be called before the first step."""
    return {
        name: parameter.detach().cpu().clone()
        for name, parameter in model.named_parameters()
        if re.search(r"\.lora_[AB]\.", name)
    }


def _groups(texts: Sequence[Text], r: int) -> list[list[Text]]:
    """Return the texts some at a time, each time with enough learned tokens for r directions."""
    groups: list[list[Text]] = []
    group: list[Text] = []
    for text in texts:
        group.append(text)
        if len(group) >= ROWS and sum(int(text.learned.sum()) for text in group) >= 2 * r:
            groups.append(group)
            group = []
    if not groups or sum(int(text.learned.sum()) for text in group) >= r:
        groups.append(group)
    return groups


def _padded(texts: Sequence[Text], device: torch.device) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return token ids (padded with 0), which of them are text, and which are learned: [texts, longest] each."""
    longest = max(len(text.tokens) for text in texts)
    ids = torch.zeros((len(texts), longest), dtype=torch.long)
    attended, learned = torch.zeros_like(ids), torch.zeros(ids.shape, dtype=torch.bool)
    for row, text in enumerate(texts):
        ids[row, : len(text.tokens)] = torch.as_tensor(text.tokens)
        attended[row, : len(text.tokens)] = 1
        learned[row, : len(text.tokens)] = torch.as_tensor(text.learned)
    return ids.to(device), attended.to(device), learned.to(device)


def _run(base: Any, **inputs: torch.Tensor) -> None:
    """Run all of a model but its head."""
    decoder = base.get_decoder() if hasattr(base, "get_decoder") else None
    was_training = base.training
    base.eval()
    with torch.no_grad():
        (decoder if decoder is not None and decoder is not base else base.base_model)(
            **inputs, use_cache=False
        )
    base.train(was_training)
