"""What SHiRA, OFT and OSF hold beside weights and activations, and what adapters that begin from data need before
that. Torch-free."""

from __future__ import annotations

from engine.memory.activations import F32, compute_bytes, readers
from engine.memory.shapes import ModelShapes
from engine.memory.trained import adapted_layers, block_of, low_directions, out_in, trained_weights
from engine.memory.workload import Workload
from engine.models.targets import is_target

INT32, INT64 = 4, 8
# Tensors of a block's size that the backward pass of a rotation needs: Q, its powers and their sum (five terms).
ROTATION_TENSORS = 6


def fixed_bytes(model: ModelShapes, workload: Workload) -> int:
    """Return the bytes of what is held and not trained: the places of SHiRA's weights, two int32 each; OSF's directions
    as they were, and those of the larger side that are kept, in float32."""
    if workload.method not in ("shira", "osf"):
        return 0
    trained = sum(weight.numel for weight in trained_weights(model, workload))
    if workload.method == "shira":
        return 2 * INT32 * trained
    kept = 0
    for weight in adapted_layers(model, workload):
        out, into = out_in(model, weight)
        if out != into:
            kept += max(out, into) * (min(out, into) - low_directions(out, into, workload.keep))
    return F32 * (trained + kept)


def made_bytes(model: ModelShapes, workload: Workload) -> int:
    """Return what is made of each layer's weights in the forward pass, alive until its backward pass: SHiRA's changed
    weight, with places in int64; OFT's rotations, with what they are made of; both factors of OSF's change."""
    layers, b = adapted_layers(model, workload), compute_bytes(workload)
    if workload.method == "shira":
        places = 2 * INT64 * sum(weight.numel for weight in trained_weights(model, workload))
        return sum(weight.numel for weight in layers) * b + places
    shapes = [out_in(model, weight) for weight in layers]
    if workload.method == "oft":
        return sum(into * block_of(into, workload.block) for _, into in shapes) * ROTATION_TENSORS * F32
    if workload.method == "osf":
        return sum(2 * low_directions(out, into, workload.keep) * (out + into) for out, into in shapes) * b
    return 0


def decomposition_bytes(model: ModelShapes, workload: Workload) -> int:
    """Return what is held while weights are decomposed before the first step: one layer's singular vectors; of CorDA
    also the covariance of every layer's inputs, and the inverse of one."""
    shapes = [out_in(model, weight) for weight in adapted_layers(model, workload)]
    largest = max(((out + into) * min(out, into) + out * into for out, into in shapes), default=0)
    if workload.method == "osf":
        return F32 * largest
    if not workload.covariance:
        return 0
    widths = [
        reader.width
        for layer in range(model.layers)
        for reader in readers(model, workload, layer)
        if any(is_target(path, workload.targets) for path in reader.layers)
    ]
    return F32 * (sum(width * width for width in widths) + 3 * max(widths, default=0) ** 2 + largest)
