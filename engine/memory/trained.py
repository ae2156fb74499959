"""The weights that each method trains: some of the model's own, or new ones beside it. Torch-free."""

from __future__ import annotations

import re

from engine.memory.shapes import ModelShapes
from engine.memory.weights import Weight
from engine.memory.workload import Workload
from engine.models.targets import is_target

_LAYER = re.compile(r"(?:^|\.)(?:layers|h|blocks)\.(\d+)\.")
_FINAL_NORM = re.compile(r"(?:^|\.)(?:norm|ln_f|final_layernorm|final_layer_norm)\.(?:weight|bias)$")


def trained_weights(model: ModelShapes, workload: Workload) -> list[Weight]:
    """Return the weights that get gradients, with their shapes."""
    if model.trained is not None and model.trained_by == workload.trains:
        return [_at_rank(weight, workload.r) for weight in model.trained]
    if workload.method == "full":
        return list(model.weights)
    if workload.method == "freeze":
        return [weight for weight in model.weights if is_trained(model, workload, weight.name)]
    if workload.method in ("lora", "qlora"):
        return _low_rank(model, workload)
    if workload.method in ("shira", "oft", "osf"):
        return _constrained(model, workload)
    if workload.method == "adapter":
        return _bottlenecks(model, workload)
    if workload.method == "ia3":
        return _scales(model)
    per_token = model.hidden if workload.method == "prompt" else 2 * model.layers * model.kv_width
    return [Weight("prompt_encoder.embedding.weight", (workload.virtual, per_token), "embedding")]


def _at_rank(weight: Weight, r: int) -> Weight:
    """Return a weight at rank r from one at rank 1."""
    if ".lora_A." in weight.name:
        return weight._replace(shape=(weight.shape[0] * r, *weight.shape[1:]))
    return (
        weight._replace(shape=(weight.shape[0], weight.shape[1] * r)) if ".lora_B." in weight.name else weight
    )


def merged_tensors(model: ModelShapes, workload: Workload) -> list[Weight]:
    """Return the tensors of experts and routers that an adapter changes: PEFT adds the low-rank product to a copy of
    each, which the backward pass keeps (peft 0.21, `ParamWrapper`)."""
    if model.trained is None or model.trained_by != workload.trains or not workload.adapters:
        return []
    adapted = {weight.name.partition(".lora_A")[0] for weight in model.trained}
    return [w for w in model.weights if w.role == "expert" and w.name.removesuffix(".weight") in adapted]


def is_trained(model: ModelShapes, workload: Workload, name: str) -> bool:
    """Whether a weight of the model itself is trained, as engine/models/methods/freeze.py chooses."""
    if workload.method != "freeze":
        return workload.method == "full"
    if workload.trained_modules:
        chosen = workload.trained_modules + (
            ("embed_tokens", "wte") if model.tied and _head(workload) else ()
        )
        return any(f".{module}." in f".{name}" for module in chosen)
    number = layer_of(name)
    return (
        bool(_FINAL_NORM.search(name)) if number is None else number >= model.layers - workload.trained_layers
    )


def first_layer(model: ModelShapes, workload: Workload) -> int:
    """Return the first layer whose backward pass is needed; the number of layers if that is none."""
    if workload.method != "freeze":
        return 0
    trained = [weight for weight in model.weights if is_trained(model, workload, weight.name)]
    if any(weight.role == "embedding" for weight in trained):
        return 0
    numbers = [number for weight in trained if (number := layer_of(weight.name)) is not None]
    return min(numbers, default=model.layers)


def head_trained(model: ModelShapes, workload: Workload) -> bool:
    """Whether the matrix that makes the logits gets a gradient."""
    role = "embedding" if model.tied else "head"
    return any(weight.role == role and is_trained(model, workload, weight.name) for weight in model.weights)


def layer_of(name: str) -> int | None:
    """Return the layer that a weight is in; None for embedding, head and final norm."""
    match = _LAYER.search(name)
    return int(match[1]) if match else None


def _head(workload: Workload) -> bool:
    return any(module.endswith(("lm_head", "embed_out")) for module in workload.trained_modules)


def _low_rank(model: ModelShapes, workload: Workload) -> list[Weight]:
    """Return the two low-rank matrices of each adapted layer (Hu et al. 2021, arXiv 2106.09685); DoRA's length of each
    output (Liu et al. 2024, arXiv 2402.09353)."""
    adapters = []
    for weight in adapted_layers(model, workload):
        out, into = out_in(model, weight)
        adapters.append(Weight(f"{weight.module}.lora_A.weight", (workload.r, into), "linear"))
        adapters.append(Weight(f"{weight.module}.lora_B.weight", (out, workload.r), "linear"))
        if workload.dora:
            adapters.append(Weight(f"{weight.module}.lora_magnitude_vector.weight", (out,), "vector"))
    return adapters


def _constrained(model: ModelShapes, workload: Workload) -> list[Weight]:
    """Return what SHiRA, OFT and OSF train of each layer: r (m + n) single weights; the numbers above the diagonal of a
    skew-symmetric matrix for each block of inputs; the smallest singular values with their directions."""
    trained = []
    for weight in adapted_layers(model, workload):
        out, into = out_in(model, weight)
        if workload.method == "shira":
            count = workload.r * (out + into)
            trained.append(Weight(f"{weight.module}.shira_weight", (count,), "vector"))
        elif workload.method == "oft":
            block = block_of(into, workload.block)
            numbers = block * (block - 1) // 2
            trained.append(Weight(f"{weight.module}.oft_R.weight", (into // block, numbers), "vector"))
        else:
            low = low_directions(out, into, workload.keep)
            shapes = (("U_low", (out, low)), ("S_low", (low,)), ("V_low", (low, into)))
            trained += [
                Weight(f"{weight.module}.osf_svd_params.{name}", shape, "vector") for name, shape in shapes
            ]
    return trained


def adapted_layers(model: ModelShapes, workload: Workload) -> list[Weight]:
    """Return the linear layers that `targets` means."""
    return [weight for weight in model.linears if is_target(weight.module, workload.targets)]


def block_of(inputs: int, block: int) -> int:
    """Return the size of OFT's blocks in a layer: the divisor of its inputs that is nearest, the smaller of two."""
    divisors = [n for n in range(1, inputs + 1) if inputs % n == 0]
    return min(divisors, key=lambda n: (abs(n - block), n))


def low_directions(out: int, into: int, keep: float) -> int:
    """Return how many singular directions of a layer OSF trains."""
    smaller = min(out, into)
    return smaller - int(smaller * keep)


def _bottlenecks(model: ModelShapes, workload: Workload) -> list[Weight]:
    """Return the weights of the bottlenecks: two linear layers with biases each, see finetui/bottleneck.py."""
    width = max(1, model.hidden // workload.reduction)
    shapes: dict[str, tuple[int, ...]] = {
        "down.weight": (width, model.hidden),
        "down.bias": (width,),
        "up.weight": (model.hidden, width),
        "up.bias": (model.hidden,),
    }
    return [
        Weight(f"{layer}.{place}.{name}", shape, "linear" if len(shape) == 2 else "vector")
        for layer in range(model.layers)
        for place in range(workload.bottlenecks)
        for name, shape in shapes.items()
    ]


def _scales(model: ModelShapes) -> list[Weight]:
    """Return a factor for each number of keys, of values and inside the MLP (Liu et al. 2022, arXiv 2205.05638); a
    layer that makes queries, keys and values at once is scaled as a whole."""
    keys = model.query_width + 2 * model.kv_width if model.fused_qkv else 2 * model.kv_width
    return [Weight(f"{layer}.ia3_l", (keys + model.intermediate,), "vector") for layer in range(model.layers)]


def out_in(model: ModelShapes, weight: Weight) -> tuple[int, int]:
    """Return (outputs, inputs) of a linear layer; GPT-2's Conv1D is [in, out]."""
    outputs, inputs = weight.shape
    return (inputs, outputs) if model.model_type == "gpt2" else (outputs, inputs)
