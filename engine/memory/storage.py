"""The disk space that a run takes: its checkpoints and its final weights. Torch-free, pure functions."""

from __future__ import annotations

from dataclasses import dataclass

from engine.basics.wording import size
from engine.memory.activations import F32
from engine.memory.estimate import moment_bytes
from engine.memory.shapes import ModelShapes
from engine.memory.trained import trained_weights
from engine.memory.workload import Workload
from engine.recipe.methods import WHOLE_MODEL, Lora, Method, Osf, Shira
from engine.recipe.sections import Recipe


@dataclass(frozen=True)
class Storage:
    """Bytes that a run writes and keeps; logs, which are small, are not counted."""

    checkpoint: int  # trained weights and optimiser
    checkpoints: int  # at once: an old one is deleted only after the new one is whole
    weights: int  # final: an adapter, with what it began from, or the whole model

    @property
    def total(self) -> int:
        return self.checkpoint * self.checkpoints + self.weights

    def __str__(self) -> str:
        return (
            f"up to {size(self.total)}: {self.checkpoints} checkpoints of {size(self.checkpoint)} at once, "
            f"{size(self.weights)} at the end"
        )

    def warning(self, free: int) -> str | None:
        """Return one sentence if the disk has less than the total free, else None; `free`: bytes."""
        if free >= self.total:
            return None
        return (
            f"the run may write {size(self.total)}, the disk has {size(free)} free: make room, or lower "
            "train.keep_checkpoints; it will be paused when the disk is full"
        )


def storage(recipe: Recipe, model: ModelShapes, workload: Workload) -> Storage:
    """Estimate what a recipe will write. A run that a flag may stop keeps its best checkpoint as well."""
    trained = trained_weights(model, workload)
    weights = F32 * sum(weight.numel for weight in trained)
    keeps_best = recipe.flags.may_stop
    if recipe.method.name in WHOLE_MODEL:
        final = F32 * model.parameters
    else:  # for the unchanged base the adapter has twice the rank
        method = recipe.method
        doubled = isinstance(method, Osf) or (isinstance(method, Lora) and method.rewrites_base)
        final = weights * (2 if doubled else 1) + _start_bytes(method, weights)
    checkpoints = recipe.train.keep_checkpoints + 1 + keeps_best
    return Storage(weights + moment_bytes(trained, workload.optimiser), checkpoints, final)


def _start_bytes(method: Method, weights: int) -> int:
    """Return what a run keeps of its start: two int32 for each weight of SHiRA, as much as is trained of OSF and of
    adapters that begin from data."""
    if isinstance(method, Shira):
        return 2 * weights
    kept = isinstance(method, Osf) or (isinstance(method, Lora) and method.learns_from_data)
    return weights if kept else 0
