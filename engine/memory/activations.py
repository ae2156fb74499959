"""Activations: what the backward pass of a decoder layer needs from its forward pass, in bytes per token.

Counted tensor by tensor, as torch 2.13, transformers 5.23 and peft 0.21 save them (see
`benchmarks/memory.py count`, which reads them off autograd's saved-tensor hooks). The approach is that of
Korthikanti et al. 2022 (arXiv 2205.05198, section 4), for today's layers: RMSNorm in float32, rotary
positions, grouped key/value heads, attention without stored scores, gated MLP.
"""

from __future__ import annotations

from typing import NamedTuple

from engine.memory.shapes import ModelShapes
from engine.memory.trained import adapted_layers, is_trained, low_directions, out_in
from engine.memory.weights import Weight
from engine.memory.workload import Workload
from engine.models.targets import is_target

F32 = 4


class Reader(NamedTuple):
    """Linear layers of a block that read the same tensor."""

    layers: tuple[str, ...]  # by their paths
    width: int
    kept_anyway: bool  # attention saves its own output, which is what the output projection reads


def compute_bytes(workload: Workload) -> int:
    return 2 if workload.bf16 else F32


def residual_bytes(model: ModelShapes, workload: Workload) -> int:
    """Return the bytes of a number between the layers: as in the embedding, so float32 where that is trained."""
    if not workload.bf16 or workload.method == "full":
        return F32
    embeddings = [weight.name for weight in model.weights if weight.role == "embedding"]
    return F32 if any(is_trained(model, workload, name) for name in embeddings) else 2


def layer_bytes(model: ModelShapes, workload: Workload, layer: int = 0) -> float:
    """Return what is saved for the backward pass of one layer, bytes per token; copies of weights not counted."""
    trained = {w.name for w in in_layer(model, layer) if is_trained(model, workload, w.name)}
    return (
        _norms(model, workload, layer, trained)
        + _attention(model, workload)
        + _mlp(model, workload)
        + _linear_inputs(model, workload, layer, trained)
        + _dropout_masks(model, workload)
        + _method_extras(model, workload)
    )


def layer_transient(model: ModelShapes, workload: Workload) -> int:
    """Return the gradients alive at once in the backward pass of an MLP, bytes per token: of its product, of the
    activation and of the other branch, and of the residual stream before and after."""
    wide = (3 if model.gated else 2) * model.intermediate * compute_bytes(workload)
    return wide + 2 * model.hidden * residual_bytes(model, workload)


def norm_bytes(model: ModelShapes, workload: Workload, trained: bool) -> int:
    """Return what a norm saves, bytes per token: its input in float32 (torch has no fused RMSNorm in transformers'
    layers) and the inverse root mean square; the normalised values as well if its gain is `trained`. LayerNorm is
    fused: input, mean and inverse deviation."""
    if not model.rms_norm:
        return (model.hidden + 2) * residual_bytes(model, workload)
    return model.hidden * (F32 + (residual_bytes(model, workload) if trained else 0)) + F32


def _norms(model: ModelShapes, workload: Workload, layer: int, trained: set[str]) -> int:
    gains = [w for w in in_layer(model, layer) if w.shape == (model.hidden,) and w.name.endswith("weight")]
    # OLMo's norms have no gain.
    gain_trained = workload.method == "full" or bool(gains and all(gain.name in trained for gain in gains))
    total = model.norms * norm_bytes(model, workload, gain_trained)
    if not model.query_norm:
        return total
    width = model.query_width + model.kv_width
    head = model.query_width // model.heads if model.query_norm == "head" else 0
    inverses = (width // head if head else 2) * F32
    # Llama's norm casts back before its gain, OLMo's and Gemma's after it.
    normalised = compute_bytes(workload) if model.model_type.startswith("qwen") else F32
    query_gain_trained = gain_trained or any("q_norm" in name for name in trained)
    return total + width * (F32 + (normalised if query_gain_trained else 0)) + inverses


def _attention(model: ModelShapes, workload: Workload) -> float:
    """Queries and keys after rotation, values, output and one log-sum-exp per head: no scores (Dao et al.
    2022, arXiv 2205.14135). Where scores are kept, `length` of them per head and token."""
    b = compute_bytes(workload)
    if model.eager:
        # Softmax in float32, its copy in the compute precision, and tanh before it (Gemma 2's soft cap);
        # keys and values repeated for all heads.
        scores = F32 + (2 if workload.bf16 else 0) + b
        return 3 * model.query_width * b + model.heads * workload.length * scores
    if model.dropout and workload.device == "cpu":
        # No fused attention with dropout on a CPU: softmax, mask and product, in float32.
        return 3 * model.query_width * F32 + 3 * model.heads * workload.length * F32
    total: float = 2 * (model.query_width + model.kv_width) * b + model.heads * F32
    if workload.method == "prefix":
        # Keys and values of the virtual tokens too, all repeated for every head, and a mask.
        keys = workload.length + workload.virtual
        total += b * (2 * (model.query_width * keys / workload.length - model.kv_width) + keys)
    elif model.fused_qkv and model.rms_norm:  # the values are a view that keeps queries and keys alive
        total += (model.query_width + model.kv_width) * b
    return total


def _mlp(model: ModelShapes, workload: Workload) -> int:
    """Both branches and the activation's output; what the last matrix reads is counted as its input."""
    b = compute_bytes(workload)
    if model.model_type == "gpt2":  # gelu_new is written out in Python: x, tanh, 0.5 x and 1 + tanh
        return 4 * model.intermediate * b
    routed = 2 * model.experts_per_token * model.hidden * b  # each expert's inputs and weighted outputs
    return (3 if model.gated else 1) * model.intermediate * b + routed


def _linear_inputs(model: ModelShapes, workload: Workload, layer: int, trained: set[str]) -> int:
    """Return what linear layers save of their inputs: where weights train, or for adapters."""
    trained_layers = {name.rpartition(".")[0].rpartition(".")[2] for name in trained}
    norms_trained = workload.method == "full" or any("norm" in name or ".ln_" in name for name in trained)
    return sum(
        _input_bytes(model, workload, reader, trained_layers, norms_trained)
        for reader in readers(model, workload, layer)
    )


def readers(model: ModelShapes, workload: Workload, layer: int) -> list[Reader]:
    """Return the linear layers of a layer, by the tensor that they read."""
    linears = [weight for weight in in_layer(model, layer) if weight.role == "linear"]
    hidden, others, attention_output = [], [], []
    for weight in linears:
        name = weight.module.rpartition(".")[2]
        width = out_in(model, weight)[1]
        if name in ("o_proj", "dense", "out_proj") or weight.module.endswith("attn.c_proj"):
            attention_output.append(weight.module)
        elif width == model.hidden and not name.startswith(("down", "fc2", "dense_4h", "w2")):
            hidden.append(weight.module)
        else:
            others.append((weight.module, width))
    attention = tuple(module for module in hidden if "att" in module)
    mlp = tuple(module for module in hidden if "att" not in module)
    # Attention's output is copied where its values were a view, or its scores are computed one by one.
    copied = (
        model.eager or (model.fused_qkv and model.rms_norm) or (model.dropout and workload.device == "cpu")
    )
    return [
        Reader(attention, model.hidden, False),
        Reader(tuple(attention_output), model.query_width, not copied),
        Reader(mlp, model.hidden, False),
        *(Reader((module,), width, False) for module, width in others),
    ]


def _input_bytes(
    model: ModelShapes, workload: Workload, reader: Reader, trained_layers: set[str], norms_trained: bool
) -> int:
    """Return what one reader saves; `trained_layers`: last names of linear layers whose weights are trained;
    `norms_trained`: whether the gains before them are, too."""
    b = compute_bytes(workload)
    adapted = sum(is_target(layer, workload.targets) for layer in reader.layers)
    if workload.method in ("shira", "oft", "osf"):
        # Cast to float32, and a copy back by autocast for each.
        if workload.bf16 and workload.method != "shira":
            return adapted * reader.width * b
        return 0 if reader.kept_anyway or not adapted else reader.width * b
    if workload.method not in ("lora", "qlora"):
        trained = [layer for layer in reader.layers if layer.rpartition(".")[2] in trained_layers]
        if not trained:
            return 0
        if workload.bf16 and norms_trained and reader.width == model.hidden and not reader.kept_anyway:
            return len(trained) * reader.width * b  # autocast makes a copy of the float32 norm for each
        return 0 if reader.kept_anyway else reader.width * b
    if not adapted:
        return 0
    low_rank = adapted * workload.r * b  # A's output, which B reads
    # With DoRA, peft casts to the adapter's float32 and autocast back, a copy each; on 4-bit layers it asks whether
    # autocast is on, but means CUDA's.
    casts = workload.bf16 and workload.dora and (workload.method == "lora" or workload.device == "cpu")
    if workload.lora_dropout:  # an output and a mask per layer: bool on CUDA, a multiplier on a CPU
        mask = 1 if workload.device == "cuda" else F32 if casts else b
        return low_rank + adapted * reader.width * (b + mask)
    if casts:
        return low_rank + adapted * reader.width * b
    return low_rank + (0 if reader.kept_anyway else reader.width * b)


def _dropout_masks(model: ModelShapes, workload: Workload) -> int:
    """Return the masks of GPT-2's dropout after attention and after the MLP."""
    if not model.dropout:
        return 0
    return 2 * model.hidden * (1 if workload.device == "cuda" else compute_bytes(workload))


def _method_extras(model: ModelShapes, workload: Workload) -> int:
    """Return what methods other than plain LoRA save in addition."""
    b = compute_bytes(workload)
    if workload.dora:  # the base's output and the adapter's, which are both scaled by the trained length
        return 2 * b * sum(out_in(model, weight)[0] for weight in _adapted_in_first(model, workload))
    if workload.method == "osf":  # between the two products of its directions, new and old
        shapes = (out_in(model, weight) for weight in _adapted_in_first(model, workload))
        return 2 * b * sum(low_directions(*shape, workload.keep) for shape in shapes)
    if workload.method == "adapter":  # what both of its layers and its activation read
        return workload.bottlenecks * b * (model.hidden + 2 * max(1, model.hidden // workload.reduction))
    if workload.method == "ia3":  # what is scaled: keys, values, and in float32 the product inside the MLP
        keys = model.query_width + 2 * model.kv_width if model.fused_qkv else 2 * model.kv_width
        return keys * b + model.intermediate * F32
    return 0


def _adapted_in_first(model: ModelShapes, workload: Workload) -> list[Weight]:
    return [weight for weight in adapted_layers(model, workload) if weight in in_layer(model, 0)]


def in_layer(model: ModelShapes, layer: int) -> list[Weight]:
    """Return the weights of one layer."""
    return [weight for weight in model.weights if f".{layer}." in weight.name]
