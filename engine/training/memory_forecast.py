"""Find the forward pass of a run that takes most memory, and estimate its memory."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from itertools import islice

import numpy as np

from engine.basics.errors import ModelError
from engine.losses.batches import Plan
from engine.memory.estimate import activation_bytes, chunk, estimate
from engine.memory.shapes import ModelShapes
from engine.memory.workload import Device, Workload, recipe_shapes, workload_of
from engine.recipe.sections import Recipe

MAX_PASSES = 20_000  # forward passes among which the largest is sought


@dataclass(frozen=True)
class Largest:
    """The largest forward pass: its examples and their size."""

    chosen: np.ndarray
    tokens: int  # padding counted
    longest: int
    targets: int


class MemoryForecast:
    """The memory forecast of one run, from its recipe, its plan, and the targets of each of its examples."""

    def __init__(
        self, recipe: Recipe, plan: Plan, targets: np.ndarray, device: Device, checkpointing: bool
    ) -> None:
        self._recipe, self._plan, self._targets = recipe, plan, targets
        self._device, self._checkpointing = device, checkpointing
        self._lengths = np.asarray(plan.lengths)
        self._largest: dict[int, Largest] = {}  # by micro_tokens

    @cached_property
    def _shapes(self) -> ModelShapes | None:
        """None for an architecture that the estimate does not know."""
        try:
            return recipe_shapes(self._recipe)
        except ModelError:
            return None

    def largest(self, micro_tokens: int) -> Largest:
        """Return the pass with most activations and logits, if passes have at most `micro_tokens` tokens."""
        if micro_tokens not in self._largest:
            self._largest[micro_tokens] = self._find_largest(micro_tokens)
        return self._largest[micro_tokens]

    def _find_largest(self, micro_tokens: int) -> Largest:
        per_token, per_target, targets_at_once = self._weights
        best, highest_cost = None, -1.0
        passes = (
            part for _, chosen in self._plan.steps(0) for part in self._plan.split(chosen, micro_tokens)
        )
        for chosen in islice(passes, MAX_PASSES):
            tokens, targets = self._plan.tokens_of(chosen), int(self._targets[chosen].sum())
            cost = per_token * tokens + per_target * min(targets, targets_at_once)
            if cost > highest_cost:
                best, highest_cost = chosen, cost
        assert best is not None  # a plan has a step
        longest = int(self._lengths[best].max())
        return Largest(best, self._plan.tokens_of(best), longest, int(self._targets[best].sum()))

    def predicted(self, largest: Largest) -> int | None:
        """Estimate the peak of the run, bytes, on CUDA without the framework; None for unknown architectures."""
        if self._shapes is None:
            return None
        share = largest.targets / largest.tokens
        workload = self._workload(self._shapes, largest.longest)
        prediction = estimate(self._shapes, replace(workload, tokens=largest.tokens, target_share=share))
        return prediction.for_model if self._device == "cuda" else prediction.total

    def optimiser_bytes(self, trained: int) -> int:
        """Estimate the bytes of the optimiser's state on the device, for `trained` numbers."""
        if self._shapes is None:
            return 8 * trained  # AdamW
        return estimate(self._shapes, self._workload(self._shapes, int(self._lengths.max()))).optimiser

    @cached_property
    def _weights(self) -> tuple[float, float, int]:
        """(bytes of a token, bytes of a target, targets whose logits are held at once)."""
        if self._shapes is None:
            return 1.0, 0.0, 0
        workload = replace(self._workload(self._shapes, 1024), tokens=1024, target_share=0.0)
        vocabulary = self._shapes.vocabulary
        return activation_bytes(self._shapes, workload) / 1024, 12.0 * vocabulary, chunk(vocabulary)

    def _workload(self, shapes: ModelShapes, longest: int) -> Workload:
        workload = workload_of(self._recipe, shapes, self._device, longest)
        return replace(workload, checkpointing=self._checkpointing)
