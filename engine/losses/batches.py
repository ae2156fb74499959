"""Divide the examples into optimiser steps and forward passes, and make their tensors.

An epoch is a new order of all examples, cut into steps of about `tokens_per_step` tokens. Inside a step,
examples of similar length share a forward pass of at most `micro_tokens` tokens: packed into one row where the
model can take that (packing.py), else padded to the longest. Everything follows from the seed and the lengths, so
that a resumed run continues at the exact place.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, lru_cache

import numpy as np
import torch

from engine.data.chat import Example
from engine.losses.packing import Layout, layout

# Kernels are built for each new shape, so shapes are rounded up to multiples: of ROUND tokens, the length of a packed
# row and the number of targets; of ROUND_ROWS tokens, the length of padded rows.
ROUND = 64
ROUND_ROWS = 16


@dataclass(frozen=True)
class Batch:
    """One forward pass: packed if it has a layout. Padding stands on the right, where causal attention never looks
    from a real token, so no attention mask is needed.
    """

    input_ids: torch.Tensor  # int64 [rows, longest]; packed: [1, tokens]
    positions: torch.Tensor  # int64 [targets]: flat places in `input_ids` whose output predicts a target
    targets: torch.Tensor  # int64 [targets]
    rows: torch.Tensor  # int64 [targets]: the example that each target is in
    layout: Layout | None = None
    real: torch.Tensor | None = None  # int64, as `input_ids`: 0 for padding
    # Examples that must not share a forward pass with these, as a batch of their own, and the place that each target
    # has among those of both: then `targets` and `rows` are those of both, `positions` of these alone.
    apart: Batch | None = None
    order: torch.Tensor | None = None  # int64 [targets]

    def to(self, device: torch.device) -> Batch:
        return Batch(
            self.input_ids.to(device),
            self.positions.to(device),
            self.targets.to(device),
            self.rows.to(device),
            self.layout.to(device) if self.layout else None,
            None if self.real is None else self.real.to(device),
            self.apart.to(device) if self.apart else None,
            None if self.order is None else self.order.to(device),
        )


def collate(
    examples: Sequence[Example],
    device: torch.device,
    packed: bool = False,
    multiple: int = 1,
    filling: int = ROUND,
) -> Batch:
    """Join examples in one row, or pad them to a `multiple` of tokens; with their targets.

    `filling`: most tokens of an example that is nothing but padding.
    """
    lengths = [len(example.tokens) for example in examples]
    tokens = np.concatenate([example.tokens for example in examples]).astype(np.int64)
    mask = np.concatenate([example.mask for example in examples])
    rows = np.repeat(np.arange(len(examples)), lengths)
    places = np.arange(len(tokens))
    if packed:
        # Padding, as examples of its own.
        spare = -len(tokens) % ROUND
        ids = np.concatenate([tokens, np.zeros(spare, dtype=np.int64)])[None]
        packed_layout = layout([*lengths, *(min(filling, spare - at) for at in range(0, spare, filling))])
    else:
        longest = -(-max(lengths) // multiple) * multiple
        ids, packed_layout = np.zeros((len(examples), longest), dtype=np.int64), None
        places = places + rows * longest - np.repeat(np.cumsum(lengths) - lengths, lengths)
        ids.ravel()[places] = tokens
    real = np.zeros_like(ids)
    real.ravel()[places] = 1
    positions, targets, owners = (
        torch.from_numpy(part) for part in (places[mask] - 1, tokens[mask], rows[mask])
    )
    batch = Batch(torch.from_numpy(ids), positions, targets, owners, packed_layout, torch.from_numpy(real))
    return batch.to(device)


def collate_apart(
    examples: Sequence[Example], longest: int, device: torch.device, packed: bool = False, multiple: int = 1
) -> Batch:
    """Join examples as `collate` does, those of more than `longest` tokens in a batch of their own."""
    is_long = np.array([len(example.tokens) > longest for example in examples])
    if is_long.all() or not is_long.any():
        return collate(examples, device, packed, multiple, min(ROUND, longest))
    owners = [np.flatnonzero(~is_long), np.flatnonzero(is_long)]
    short, long = (
        collate([examples[int(i)] for i in own], device, packed, multiple, min(ROUND, longest))
        for own in owners
    )
    rows = torch.cat(
        [torch.from_numpy(own).to(device)[part.rows] for own, part in zip(owners, (short, long), strict=True)]
    )
    order = rows.argsort(stable=True)  # the targets of an example stand together, in their order
    targets = torch.cat([short.targets, long.targets])[order]
    return replace(short, targets=targets, rows=rows[order], apart=long, order=order)


def micro_batches(
    lengths: np.ndarray, chosen: np.ndarray, micro_tokens: int, packed: bool = False
) -> list[np.ndarray]:
    """Split `chosen` (indices into `lengths`) by length into groups of at most `micro_tokens`, padding counted.

    An example longer than that is alone in its group.
    """
    by_length = chosen[np.argsort(lengths[chosen], kind="stable")]
    if packed:
        return _even_groups(by_length, lengths[by_length], micro_tokens)
    groups, start = [], 0
    for end, index in enumerate(by_length):  # the last is the longest so far
        if end > start and (end - start + 1) * lengths[index] > micro_tokens:
            groups.append(by_length[start:end])
            start = end
    return [*groups, by_length[start:]] if len(by_length) else []


def _even_groups(chosen: np.ndarray, lengths: np.ndarray, micro_tokens: int) -> list[np.ndarray]:
    """Return the fewest groups of neighbours, about equally large, that keep to the budget."""
    count = max(1, math.ceil(lengths.sum() / micro_tokens))
    while True:
        groups = _cut_evenly(chosen, lengths, count)
        sizes = [(len(group), tokens) for group, tokens in groups]
        if all(tokens <= micro_tokens or size == 1 for size, tokens in sizes):
            return [group for group, _ in groups]
        count += 1


def _cut_evenly(chosen: np.ndarray, lengths: np.ndarray, count: int) -> list[tuple[np.ndarray, int]]:
    """Split into at most `count` groups of neighbours with about the same number of tokens; (group, tokens) each."""
    if not len(chosen):
        return []
    group_of = (np.cumsum(lengths) - lengths) * count // lengths.sum()
    cuts = np.flatnonzero(np.diff(group_of)) + 1
    return [(g, int(n.sum())) for g, n in zip(np.split(chosen, cuts), np.split(lengths, cuts), strict=True)]


@dataclass(frozen=True)
class Plan:
    """The order of training. `step` counts optimiser steps from 0 over all epochs."""

    lengths: tuple[int, ...]
    seed: int
    epochs: float
    max_steps: int | None
    tokens_per_step: int
    packed: bool = False

    @cached_property
    def total_steps(self) -> int:
        if self.max_steps is not None:
            return self.max_steps
        whole, part = divmod(self.epochs, 1)
        steps = sum(len(self.epoch(epoch)) for epoch in range(int(whole)))
        return steps + (math.ceil(part * len(self.epoch(int(whole)))) if part else 0)

    def epoch(self, epoch: int) -> list[np.ndarray]:
        """Return the steps of an epoch: indices of examples, each example once."""
        return _epoch(self.lengths, self.seed, epoch, self.tokens_per_step)

    def visited(self) -> np.ndarray:
        """Return which examples the run trains on at all: sorted indices. A short run ends within its first epoch."""
        return np.sort(np.concatenate(self.epoch(0)[: self.total_steps]))

    def split(self, chosen: np.ndarray, micro_tokens: int) -> list[np.ndarray]:
        """Split a step's examples into forward passes of at most `micro_tokens` tokens each."""
        return micro_batches(self._lengths, chosen, micro_tokens, self.packed)

    def tokens_of(self, chosen: np.ndarray) -> int:
        """Count the tokens of a forward pass, padding included."""
        lengths = self._lengths[chosen]
        return int(lengths.sum() if self.packed else lengths.max() * len(lengths))

    @cached_property
    def _lengths(self) -> np.ndarray:
        return np.asarray(self.lengths)

    def steps(self, start: int) -> Iterator[tuple[float, np.ndarray]]:
        """Yield from step `start` on: (epochs done after the step, indices of its examples)."""
        step, epoch, total = 0, 0, self.total_steps
        while step < total:
            groups = self.epoch(epoch)
            for place, chosen in enumerate(groups[: total - step]):
                if step + place >= start:
                    done = epoch + (place + 1) / len(groups)
                    yield done, chosen
            step, epoch = step + len(groups), epoch + 1


@lru_cache(maxsize=1)
def _epoch(lengths: tuple[int, ...], seed: int, epoch: int, tokens_per_step: int) -> list[np.ndarray]:
    order = np.random.default_rng([seed, epoch]).permutation(len(lengths))
    tokens = np.asarray(lengths, dtype=np.int64)[order]
    # Steps of equal size, rather than full ones and a small last one that would count as much as they do.
    return [group for group, _ in _cut_evenly(order, tokens, math.ceil(tokens.sum() / tokens_per_step))]
