"""Which weights each method trains: some of the model's own, or new ones beside it. Torch-free."""

from __future__ import annotations

import re

from engine.memory.plan import Plan
from engine.memory.shapes import ModelShapes
from engine.memory.weights import Weight

_LAYER = re.compile(r"(?:^|\.)(?:layers|h|blocks)\.(\d+)\.")
_FINAL_NORM = re.compile(r"(?:^|\.)(?:norm|ln_f|final_layernorm|final_layer_norm)\.(?:weight|bias)$")


def trained_weights(model: ModelShapes, plan: Plan) -> list[Weight]:
    """The weights that get gradients, with their shapes."""
    if plan.method == "full":
        return list(model.weights)
    if plan.method == "freeze":
        return [weight for weight in model.weights if is_trained(model, plan, weight.name)]
    if plan.method in ("lora", "qlora"):
        return _low_rank(model, plan)
    if plan.method == "adapter":
        return _bottlenecks(model, plan)
    if plan.method == "ia3":
        return _scales(model)
    per_token = model.hidden if plan.method == "prompt" else 2 * model.layers * model.kv_width
    return [Weight("prompt_encoder.embedding.weight", (plan.virtual, per_token), "embedding")]


def is_trained(model: ModelShapes, plan: Plan, name: str) -> bool:
    """Whether a weight of the model itself is trained, as engine/models/methods/freeze.py chooses."""
    if plan.method != "freeze":
        return plan.method == "full"
    if plan.trained_modules:
        chosen = plan.trained_modules + (("embed_tokens", "wte") if model.tied and _head(plan) else ())
        return any(f".{module}." in f".{name}" for module in chosen)
    number = layer_of(name)
    return bool(_FINAL_NORM.search(name)) if number is None else number >= model.layers - plan.trained_layers


def first_layer(model: ModelShapes, plan: Plan) -> int:
    """The first layer whose backward pass is needed; the number of layers if that is none."""
    if plan.method != "freeze":
        return 0
    trained = [weight for weight in model.weights if is_trained(model, plan, weight.name)]
    if any(weight.role == "embedding" for weight in trained):
        return 0
    numbers = [number for weight in trained if (number := layer_of(weight.name)) is not None]
    return min(numbers, default=model.layers)


def head_trained(model: ModelShapes, plan: Plan) -> bool:
    """Whether the matrix that makes the logits gets a gradient."""
    role = "embedding" if model.tied else "head"
    return any(weight.role == role and is_trained(model, plan, weight.name) for weight in model.weights)


def layer_of(name: str) -> int | None:
    """The layer that a weight is in; None for embedding, head and final norm."""
    found = _LAYER.search(name)
    return int(found[1]) if found else None


def is_target(module: str, targets: str | tuple[str, ...]) -> bool:
    """Whether peft puts an adapter on a linear layer: by its whole name or its last parts."""
    if isinstance(targets, str):
        return True  # all-linear
    return any(module == target or module.endswith(f".{target}") for target in targets)


def _head(plan: Plan) -> bool:
    return any(module.endswith(("lm_head", "embed_out")) for module in plan.trained_modules)


def _low_rank(model: ModelShapes, plan: Plan) -> list[Weight]:
    """The two low-rank matrices of each adapted layer (Hu et al. 2021, arXiv 2106.09685); DoRA's length of each
    output (Liu et al. 2024, arXiv 2402.09353)."""
    adapters = []
    for weight in model.linears:
        if is_target(weight.module, plan.targets):
            out, into = out_in(model, weight)
            adapters.append(Weight(f"{weight.module}.lora_A.weight", (plan.r, into), "linear"))
            adapters.append(Weight(f"{weight.module}.lora_B.weight", (out, plan.r), "linear"))
            if plan.dora:
                adapters.append(Weight(f"{weight.module}.lora_magnitude_vector.weight", (out,), "vector"))
    return adapters


def _bottlenecks(model: ModelShapes, plan: Plan) -> list[Weight]:
    """Two linear layers with biases at each place, see finetui/bottleneck.py."""
    width = max(1, model.hidden // plan.reduction)
    shapes: dict[str, tuple[int, ...]] = {
        "down.weight": (width, model.hidden),
        "down.bias": (width,),
        "up.weight": (model.hidden, width),
        "up.bias": (model.hidden,),
    }
    return [
        Weight(f"{layer}.{place}.{name}", shape, "linear" if len(shape) == 2 else "vector")
        for layer in range(model.layers)
        for place in range(plan.places)
        for name, shape in shapes.items()
    ]


def _scales(model: ModelShapes) -> list[Weight]:
    """A factor for each number of keys, of values and inside the MLP (Liu et al. 2022, arXiv 2205.05638); a
    layer that makes queries, keys and values at once is scaled as a whole."""
    keys = model.query_width + 2 * model.kv_width if model.fused_qkv else 2 * model.kv_width
    return [Weight(f"{layer}.ia3_l", (keys + model.intermediate,), "vector") for layer in range(model.layers)]


def out_in(model: ModelShapes, weight: Weight) -> tuple[int, int]:
    """Outputs and inputs of a linear layer; GPT-2's Conv1D is [in, out]."""
    out, into = weight.shape
    return (into, out) if model.model_type == "gpt2" else (out, into)
