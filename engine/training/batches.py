"""Which examples make up each optimiser step and each forward pass, and their tensors.

An epoch is a new order of all examples, cut into steps of about `tokens_per_step` tokens. Inside a step,
examples of similar length share a forward pass of at most `micro_tokens` tokens with padding. Everything
follows from the seed and the lengths, so that a resumed run goes on at the exact place.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch

from engine.data.chat import Example


@dataclass(frozen=True)
class Batch:
    """One forward pass. Padding stands on the right, where causal attention never looks from a real token,
    so no attention mask is needed.
    """

    input_ids: torch.Tensor  # int64 [rows, longest]
    positions: torch.Tensor  # int64 [targets]: flat places in `input_ids` whose output predicts a target
    targets: torch.Tensor  # int64 [targets]
    rows: torch.Tensor  # int64 [targets]: the row that each target is in

    def to(self, device: torch.device) -> Batch:
        return Batch(
            *(value.to(device) for value in (self.input_ids, self.positions, self.targets, self.rows))
        )


def collate(examples: Sequence[Example], device: torch.device) -> Batch:
    """Pad examples to the longest and find their targets."""
    longest = max(len(example.tokens) for example in examples)
    tokens = np.zeros((len(examples), longest), dtype=np.int64)
    mask = np.zeros((len(examples), longest), dtype=bool)
    for row, example in enumerate(examples):
        tokens[row, : len(example.tokens)] = example.tokens
        mask[row, : len(example.mask)] = example.mask
    rows, columns = np.nonzero(mask)
    parts = tokens, rows * longest + columns - 1, tokens[rows, columns], rows
    return Batch(*map(torch.from_numpy, parts)).to(device)


def micro_batches(lengths: np.ndarray, chosen: np.ndarray, micro_tokens: int) -> list[np.ndarray]:
    """Split `chosen` (indices into `lengths`) by length into groups of at most `micro_tokens`, padding counted.

    An example longer than that is alone in its group.
    """
    by_length = chosen[np.argsort(lengths[chosen], kind="stable")]
    groups, start = [], 0
    for end, index in enumerate(by_length):  # the last is the longest so far
        if end > start and (end - start + 1) * lengths[index] > micro_tokens:
            groups.append(by_length[start:end])
            start = end
    return [*groups, by_length[start:]] if len(by_length) else []


@dataclass(frozen=True)
class Plan:
    """The order of training. `step` counts optimiser steps from 0 over all epochs."""

    lengths: tuple[int, ...]
    seed: int
    epochs: float
    max_steps: int | None
    tokens_per_step: int
    micro_tokens: int

    @property
    def total_steps(self) -> int:
        if self.max_steps is not None:
            return self.max_steps
        whole, part = divmod(self.epochs, 1)
        steps = sum(len(self.epoch(epoch)) for epoch in range(int(whole)))
        return steps + (math.ceil(part * len(self.epoch(int(whole)))) if part else 0)

    def epoch(self, epoch: int) -> list[np.ndarray]:
        """The steps of an epoch: indices of examples, each example once."""
        return _epoch(self.lengths, self.seed, epoch, self.tokens_per_step)

    def steps(self, start: int) -> Iterator[tuple[float, list[np.ndarray]]]:
        """From step `start` on: (epochs done after the step, its micro-batches)."""
        lengths = np.asarray(self.lengths)
        step, epoch, total = 0, 0, self.total_steps
        while step < total:
            groups = self.epoch(epoch)
            for place, chosen in enumerate(groups[: total - step]):
                if step + place >= start:
                    done = epoch + (place + 1) / len(groups)
                    yield done, micro_batches(lengths, chosen, self.micro_tokens)
            step, epoch = step + len(groups), epoch + 1


@lru_cache(maxsize=1)
def _epoch(lengths: tuple[int, ...], seed: int, epoch: int, tokens_per_step: int) -> list[np.ndarray]:
    order = np.random.default_rng([seed, epoch]).permutation(len(lengths))
    tokens = np.asarray(lengths, dtype=np.int64)[order]
    steps = math.ceil(tokens.sum() / tokens_per_step)
    # Steps of equal size, rather than full ones and a small last one that would count as much as they do.
    step_of = (np.cumsum(tokens) - tokens) * steps // tokens.sum()
    cuts = np.flatnonzero(np.diff(step_of)) + 1
    return np.split(order, cuts)
