"""Peak memory of a run, part by part, from shapes alone. Torch-free, pure functions.

A step has moments that may be the largest: the end of the forward pass, the start of the backward pass (all
activations are there and the loss has its logits), and its end (all gradients are there). Loading holds weights
only; evaluation no gradients and no activations. `estimate` works out each and reports the parts at the largest.
"""

from __future__ import annotations

from dataclasses import dataclass

from engine.basics.wording import size
from engine.memory.activations import (
    F32,
    compute_bytes,
    layer_bytes,
    layer_transient,
    norm_bytes,
    residual_bytes,
)
from engine.memory.constrained import decomposition_bytes, fixed_bytes, made_bytes
from engine.memory.shapes import ModelShapes
from engine.memory.trained import (
    adapted_layers,
    first_layer,
    head_trained,
    merged_tensors,
    out_in,
    trained_weights,
)
from engine.memory.weights import Weight
from engine.memory.workload import Optimiser, Workload

MIB, GIB = 2**20, 2**30
LOGITS_AT_ONCE = 2**26  # engine/losses/loss.py; a test keeps the two equal
SMALLEST_CHUNK = 64  # tokens
EVAL_FACTOR = 2  # evaluations score so many times `micro_tokens` at once
# Of bitsandbytes: weights per constant, constants per constant of the second level.
BLOCK, DOUBLE_BLOCK = (64, 256)
# CPU: resident with torch 2.13, transformers 5.23, peft 0.21, bitsandbytes 0.50 after a tiny step, measured (450),
# and a little for what a worker has besides (465).
# CUDA: context, kernels and cuBLAS workspaces; published figures are 0.5 to 0.9 GiB.
FRAMEWORK = {"cpu": 465 * MIB, "cuda": 768 * MIB}


@dataclass(frozen=True)
class Estimate:
    """Peak memory in bytes: the parts as they are at the largest moment of training."""

    parameters: int  # base model and adapters
    gradients: int
    optimiser: int
    activations: int
    logits: int
    workspace: int  # gradients in passing, bfloat16 copies of trained weights, weights unpacked from 4 bits
    framework: int
    evaluation: int  # what an evaluation needs in place of gradients, activations, logits and workspace
    loading: int  # what loading needs in place of everything but parameters and framework
    trained: int  # parameters that are trained (a number, not bytes)

    @property
    def training(self) -> int:
        """The memory of a training step besides framework, parameters and optimiser."""
        return self.gradients + self.activations + self.logits + self.workspace

    @property
    def total(self) -> int:
        running = self.optimiser + max(self.training, self.evaluation)
        return self.framework + self.parameters + max(running, self.loading)

    @property
    def for_model(self) -> int:
        """The total without the framework."""
        return self.total - self.framework

    def lines(self) -> list[str]:
        """Return the parts for people, largest first, then the total."""
        parts = {
            "parameters": self.parameters,
            "gradients": self.gradients,
            "optimiser": self.optimiser,
            "activations": self.activations,
            "logits": self.logits,
            "workspace": self.workspace,
            "framework": self.framework,
        }
        largest = sorted((item for item in parts.items() if item[1]), key=lambda item: -item[1])
        lines = [f"{name:<12} {size(value):>10}" for name, value in largest]
        rest = self.total - sum(parts.values())
        if rest > 0:
            phase = (
                "loading" if self.total == self.framework + self.parameters + self.loading else "evaluation"
            )
            lines.append(f"{'more in ' + phase:<12} {size(rest):>10}")
        return [*lines, f"{'peak':<12} {size(self.total):>10}"]


def estimate(model: ModelShapes, workload: Workload) -> Estimate:
    """Estimate the peak memory of training `model` by `workload`."""
    trained = trained_weights(model, workload)
    count = sum(weight.numel for weight in trained)
    gradients = count * F32
    held_gradients = gradients if workload.accumulates else 0
    activations = activation_bytes(model, workload)
    logits, head = _loss_bytes(model, workload)
    copies = _copy_bytes(model, trained, workload)
    merged = _merged_bytes(model, workload) + made_bytes(model, workload)
    backward_copies = copies + merged
    if workload.checkpointing:
        merged, backward_copies = merged // model.layers, backward_copies // model.layers
    copies += merged
    transient = head + layer_transient(model, workload) * workload.tokens + _unpacked_bytes(model, workload)
    transient += _largest_merged(model, workload)  # its gradient
    largest_gradient = max((weight.numel for weight in trained), default=0) * F32
    # (gradients, activations, logits, workspace) at the end of the forward pass, where two of the three tensors
    # of the loss exist; in the backward pass of the loss, then of the last layer; and at the end, where the
    # largest gradient exists twice while it is added. A tied head's gradient waits for the embedding's.
    moments = (
        (held_gradients, activations, logits * 2 // 3, copies),
        (held_gradients, activations, logits, backward_copies + head),
        (held_gradients, activations, 0, backward_copies + transient),
        (gradients, 0, 0, largest_gradient if workload.accumulates or model.tied else 0),
    )
    held_gradients, activations, logits, workspace = max(moments, key=sum)
    return Estimate(
        parameters=parameter_bytes(model, workload) + fixed_bytes(model, workload),
        gradients=held_gradients,
        optimiser=optimiser_bytes(trained, workload),
        activations=activations,
        logits=logits,
        workspace=workspace,
        framework=FRAMEWORK[workload.device],
        evaluation=_evaluation_bytes(model, workload),
        loading=_loading_bytes(model, workload),
        trained=count,
    )


# ---- weights -------------------------------------------------------------------------------------


def parameter_bytes(model: ModelShapes, workload: Workload) -> int:
    """Return the bytes of the weights: float32 where they train; frozen ones in the compute precision; 4 bits for the
    linear layers of QLoRA, whose embedding, head, norms, biases and experts stay unquantised. Adapters are float32."""
    trained = F32 * sum(weight.numel for weight in trained_weights(model, workload))
    if not workload.adapters:
        frozen = model.parameters - trained // F32
        return trained + frozen * compute_bytes(workload)
    if workload.method != "qlora":
        return model.parameters * compute_bytes(workload) + trained
    packed = sum(quantised_bytes(weight.numel, workload.double_quant) for weight in model.linears)
    return packed + (model.parameters - model.count("linear")) * compute_bytes(workload) + trained


def quantised_bytes(numel: int, double: bool) -> int:
    """Return the bytes of a 4-bit weight with its constants: 4 bits each and a float32 per 64 (4.5 bits); with double
    quantisation an 8-bit constant per 64 and a float32 per 256 of those (4.127 bits). Dettmers et al. 2023 (arXiv
    2305.14314, section 3), block sizes of bitsandbytes 0.50. Two tables (16 and 256 float32) come on top."""
    blocks = -(-numel // BLOCK)
    if not double:
        return -(-numel // 2) + blocks * F32 + 16 * F32
    return -(-numel // 2) + blocks + -(-blocks // DOUBLE_BLOCK) * F32 + (16 + 256 + 1) * F32


def optimiser_bytes(trained: list[Weight], workload: Workload) -> int:
    """Return the bytes of the optimiser's state on the device: none for paged moments, which may move to the host."""
    if workload.optimiser.startswith("paged") and workload.device == "cuda":
        return 0
    return moment_bytes(trained, workload.optimiser)


def moment_bytes(trained: list[Weight], optimiser: Optimiser) -> int:
    """Return the bytes of the moments.

    AdamW: two float32 moments. 8 bits: a byte each and a float32 per 256, but float32 for weights of fewer than 4096
    numbers (bitsandbytes' `min_8bit_size`). Adafactor (Shazeer & Stern 2018, arXiv 1804.04235): a
    row and a column of second moments per matrix."""
    if optimiser == "adafactor":
        return sum(
            F32
            * (sum(w.shape[-2:]) * w.numel // (w.shape[-1] * w.shape[-2]) if len(w.shape) > 1 else w.numel)
            for w in trained
        )
    if optimiser.endswith("8bit"):
        return sum(
            2 * (w.numel + F32 * -(-w.numel // 256)) if w.numel >= 4096 else 8 * w.numel for w in trained
        )
    return sum(2 * F32 * w.numel for w in trained)


def _copy_bytes(model: ModelShapes, trained: list[Weight], workload: Workload) -> int:
    """Return the bfloat16 copies that autocast makes of float32 matrices: alive until the forward pass ends, and
    until their layer's backward pass unless that is computed again."""
    if not workload.bf16:
        return 0
    head = model.vocabulary * model.hidden if model.tied and head_trained(model, workload) else 0
    return 2 * (head + sum(w.numel for w in trained if w.role in ("linear", "expert", "head")))


def _merged_bytes(model: ModelShapes, workload: Workload) -> int:
    """Return the copies of tensors that adapters of experts are added to, alive until their layer's backward pass."""
    return sum(weight.numel for weight in merged_tensors(model, workload)) * compute_bytes(workload)


def _largest_merged(model: ModelShapes, workload: Workload) -> int:
    tensors = merged_tensors(model, workload)
    return max((weight.numel for weight in tensors), default=0) * compute_bytes(workload)


# ---- one step ------------------------------------------------------------------------------------


def activation_bytes(model: ModelShapes, workload: Workload) -> int:
    """Return the bytes saved for the backward pass of one micro-batch, without the logits.

    With checkpointing a layer keeps its input only, and one layer at a time is computed again in full (Chen et
    al. 2016, arXiv 1604.06174)."""
    first = first_layer(model, workload)
    if workload.method == "freeze":
        by_layer = [layer_bytes(model, workload, layer) for layer in range(first, model.layers)]
    else:
        by_layer = [layer_bytes(model, workload)] * model.layers
    layers = sum(by_layer)
    if workload.checkpointing:
        layers = len(by_layer) * model.hidden * residual_bytes(model, workload) + max(by_layer, default=0)
    gain = workload.method == "full" or (workload.method == "freeze" and not workload.trained_modules)
    outside_layers = norm_bytes(
        model, workload, gain
    ) + workload.target_share * model.hidden * residual_bytes(model, workload)
    tokens, rows = float(workload.tokens), workload.tokens / workload.length
    virtual_kv = 0.0
    if workload.method == "prompt":
        tokens += rows * workload.virtual
    elif workload.method == "prefix":  # keys and values of the virtual tokens, for every row
        virtual_kv = rows * workload.virtual * 2 * model.layers * model.kv_width * F32
    return int(tokens * (layers + outside_layers) + virtual_kv)


def _loss_bytes(model: ModelShapes, workload: Workload) -> tuple[int, int]:
    """Return the bytes of engine/losses/loss.py: (logits, gradients of and before the head).

    In the backward pass of a chunk three float32 tensors are alive: the log-softmax, the gradient of the
    negative log-likelihood and that of the logits; a soft cap adds tanh and its input."""
    targets = max(1, round(workload.tokens * workload.target_share))
    logits_at_once = min(targets, chunk(model.vocabulary)) * model.vocabulary
    logits = logits_at_once * F32 * (5 if model.softcap else 3)
    hidden = (targets + workload.tokens) * model.hidden * residual_bytes(model, workload)
    head = model.vocabulary * model.hidden * F32 if head_trained(model, workload) else 0
    return logits, hidden + head


def chunk(vocabulary: int) -> int:
    """Return the number of tokens whose logits are held at once."""
    return max(SMALLEST_CHUNK, LOGITS_AT_ONCE // vocabulary)


def _unpacked_bytes(model: ModelShapes, workload: Workload) -> int:
    """Return the bytes of temporary copies of whole weights.

    The largest 4-bit weight in the compute precision: bitsandbytes unpacks it for each product."""
    # The length is that of the whole weight: an identity, the product B A, and sums with it.
    if workload.dora:
        pairs = (out_in(model, weight) for weight in model.linears)
        return max((into * into + 3 * out * into for out, into in pairs), default=0) * F32
    if workload.method == "shira":  # the changed weight's gradient, and the weight itself in an evaluation
        return (
            2 * max((w.numel for w in adapted_layers(model, workload)), default=0) * compute_bytes(workload)
        )
    if workload.method != "qlora":
        return 0
    return max((weight.numel for weight in model.linears), default=0) * compute_bytes(workload)


def _evaluation_bytes(model: ModelShapes, workload: Workload) -> int:
    """Return the bytes of an evaluation: no gradients, and twice the tokens of a training pass; one layer's tensors,
    two float32 copies of a chunk's logits (logits, log-softmax), or the keys and values of the answers being written.
    """
    tokens = EVAL_FACTOR * workload.tokens
    layer = (4 * model.intermediate + 4 * model.hidden) * compute_bytes(workload) * tokens
    logits = min(tokens, chunk(model.vocabulary)) * model.vocabulary * F32 * 2
    cached = workload.prompts * (workload.length + workload.answer_tokens)
    answers = 2 * model.layers * model.kv_width * cached * compute_bytes(workload)
    merged = _merged_bytes(model, workload) // model.layers
    return max(layer, logits, answers) + _unpacked_bytes(model, workload) + merged


def _loading_bytes(model: ModelShapes, workload: Workload) -> int:
    """Return the bytes of loading: on a CPU the mapped file (2 bytes a weight in today's models) counts while read.
    What is decomposed before the first step comes on top."""
    file = 2 * model.parameters if workload.device == "cpu" else 0
    return file + decomposition_bytes(model, workload)
