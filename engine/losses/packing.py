"""Packed sequences: examples follow each other in one row, without padding, and none attends to another.

Everything that treats each token by itself (embeddings, linear layers, norms, the loss) works on the packed row.
Attention alone needs to know where an example ends: `packed_attention` cuts the row into buckets of examples of
similar length, lays each out as a small padded grid and calls PyTorch's causal attention on it, which needs no
mask, since padding on the right is never looked at. On CUDA in 16 bits it calls the kernel for sequences of varying
length instead.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn
from transformers import AttentionInterface
from transformers.integrations.sdpa_attention import sdpa_attention_forward

from engine.models.load import without_adapters
from engine.models.source import setting

NAME = "finetui_packed"
# A bucket is closed where another example would make its grid this much larger than its tokens.
PADDING = 1.25
# On a CPU, attention over fewer tokens than this is several times faster in float32 than in bfloat16.
CPU_EXACT = 512
TESTED_LENGTHS = (3, 5, 7, 7)
# How far apart hidden states may be, as a part of their norm. Rounding makes 1e-6 of it, in 16 bits 0.01 (ten layers
# of random weights); examples that see each other, about 1.
TOLERANCE, TOLERANCE_16_BITS = 1e-3, 0.05


@dataclass(frozen=True)
class Bucket:
    """Neighbouring examples of a packed row, as a grid [rows, longest] for attention."""

    start: int  # first token of the bucket in the packed row
    end: int
    rows: int
    longest: int
    # None where all rows are equally long: the tokens are the grid.
    # int64 [rows · longest]: the token (from `start`) in each place; padding repeats one.
    grid: torch.Tensor | None
    places: torch.Tensor | None  # int64 [end - start]: the place of each token in the grid


@dataclass(frozen=True)
class Layout:
    """The layout of a packed row: where its examples begin and end."""

    position_ids: torch.Tensor  # int64 [1, tokens]: each example counts from 0
    ends: torch.Tensor  # int32 [examples + 1]: 0, then the end of each example
    longest: int
    buckets: tuple[Bucket, ...]

    def to(self, device: torch.device) -> Layout:
        buckets = (
            replace(
                bucket,
                grid=None if bucket.grid is None else bucket.grid.to(device),
                places=None if bucket.places is None else bucket.places.to(device),
            )
            for bucket in self.buckets
        )
        return Layout(self.position_ids.to(device), self.ends.to(device), self.longest, tuple(buckets))


def layout(lengths: Sequence[int]) -> Layout:
    """Lay out examples of these lengths, in this order; fewest buckets where they are sorted."""
    ends = np.concatenate([[0], np.cumsum(lengths)])
    positions = np.arange(ends[-1]) - np.repeat(ends[:-1], lengths)
    buckets = tuple(_bucket(np.asarray(lengths), ends, a, b) for a, b in _cuts(lengths))
    return Layout(
        torch.from_numpy(positions)[None], torch.from_numpy(ends.astype(np.int32)), max(lengths), buckets
    )


def _cuts(lengths: Sequence[int]) -> Iterator[tuple[int, int]]:
    """Yield ranges of examples whose grid holds little padding."""
    start, longest, tokens = 0, 0, 0
    for index, length in enumerate(lengths):
        longest, tokens = max(longest, length), tokens + length
        if (index + 1 - start) * longest > PADDING * tokens:
            yield start, index
            start, longest, tokens = index, length, length
    yield start, len(lengths)


def _bucket(lengths: np.ndarray, ends: np.ndarray, first: int, last: int) -> Bucket:
    own, start, end = lengths[first:last], int(ends[first]), int(ends[last])
    rows, longest = len(own), int(own.max())
    if rows * longest == end - start:
        return Bucket(start, end, rows, longest, None, None)
    offsets = (ends[first:last] - start)[:, None]
    column = np.arange(longest)[None]
    real = column < own[:, None]
    grid = np.where(real, offsets + column, offsets)
    places = np.flatnonzero(real)
    return Bucket(start, end, rows, longest, torch.from_numpy(grid.ravel()), torch.from_numpy(places))


def packed_attention(
    module: nn.Module,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    dropout: float = 0.0,
    layout: Layout | None = None,
    sliding_window: int | None = None,
    **others: Any,
) -> tuple[torch.Tensor, None]:
    """Compute causal attention within each example of a packed row; plain SDPA for a batch without `layout`.

    query [1, heads, tokens, width], key and value [1, key heads, tokens, width] → [1, tokens, heads, width].
    """
    if layout is None:
        options = {"scaling": scaling, "dropout": dropout, "sliding_window": sliding_window, **others}
        return sdpa_attention_forward(module, query, key, value, attention_mask, **options)
    if others.get("softcap") is not None:
        raise NotImplementedError("scores capped by a tanh")  # `can_pack` then says no
    q, k, v = (states.transpose(1, 2)[0] for states in (query, key, value))  # [tokens, heads, width]
    if q.is_cuda and q.dtype in (torch.float16, torch.bfloat16) and not dropout:
        from torch.nn.attention.varlen import varlen_attn  # brings the compiler with it, which takes seconds

        window = (-1 if sliding_window is None else sliding_window - 1, 0)
        ends, longest = layout.ends, layout.longest
        out: Any = varlen_attn(
            q, k, v, ends, ends, longest, longest, scale=scaling, window_size=window, enable_gqa=True
        )
        return out[None], None
    parts = [_attend(q, k, v, bucket, scaling, dropout, sliding_window) for bucket in layout.buckets]
    return torch.cat(parts)[None], None


def _attend(
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    bucket: Bucket,
    scaling: float | None,
    dropout: float,
    window: int | None,
) -> torch.Tensor:
    """Compute the attention of one bucket; all [tokens, heads, width]."""
    q, k, v = (_to_grid(states, bucket) for states in (query, key, value))
    mask = None
    if window is not None and bucket.longest > window:
        seen = torch.ones(bucket.longest, bucket.longest, dtype=torch.bool, device=q.device)
        mask = seen.tril().triu(1 - window)
    exact = q.device.type == "cpu" and bucket.longest < CPU_EXACT
    with torch.autocast("cpu", enabled=False) if exact else nullcontext():
        out = F.scaled_dot_product_attention(
            *((q.float(), k.float(), v.float()) if exact else (q, k, v)),
            attn_mask=mask,
            dropout_p=dropout,
            is_causal=mask is None,
            scale=scaling,
            enable_gqa=q.shape[1] != k.shape[1],
        )
    flat = out.to(query.dtype).transpose(1, 2).flatten(0, 1)
    return flat if bucket.places is None else flat.index_select(0, bucket.places)


def _to_grid(states: torch.Tensor, bucket: Bucket) -> torch.Tensor:
    """Return [rows, heads, longest, width] from [tokens, heads, width]."""
    own = states[bucket.start : bucket.end]
    # index_select has a deterministic backward pass; and what padding repeats gets no gradient.
    own = own if bucket.grid is None else own.index_select(0, bucket.grid)
    return own.unflatten(0, (bucket.rows, bucket.longest)).transpose(1, 2)


AttentionInterface.register(NAME, packed_attention)


def keep_from_compiler() -> None:
    """Let a compiled model call packed attention as it is: its buckets differ from batch to batch."""
    AttentionInterface.register(NAME, torch.compiler.disable(packed_attention))


def pack(model: Any, known: bool | None = None) -> bool:
    """Make a model understand packed rows, if it can; return whether packed examples give the results they give alone.

    Not with virtual tokens before every text, nor with state that runs on from one example to the next. `model`
    is a transformers model, perhaps with adapters; a few tokens are tried, its mode stays as it is. `known`: what was
    found out for the same model before, so that nothing is tried.
    """
    base = without_adapters(model)
    config = getattr(model, "active_peft_config", None)
    if (config is not None and config.is_prompt_learning) or base.config._attn_implementation != "sdpa":
        return False
    if getattr(base.config.get_text_config(), "attention_chunk_size", None):  # longer than what is tried here
        return False
    if known is not None:
        base.set_attn_implementation(NAME if known else "sdpa")
        return known
    alone = _hidden_alone(base)
    base.set_attn_implementation(NAME)
    if base.config._attn_implementation == NAME and _packed_equals(base, alone):
        return True
    base.set_attn_implementation("sdpa")
    return False


def rotary_switch(config: Any) -> int | None:
    """Return the number of tokens above which a text has other rotary embeddings in all of its places; None if its
    length makes no difference.

    So it is with `longrope` (Phi-3.5, Phi-4-mini): the longest text in a forward pass decides for all of it. With
    `dynamic` it is the length that the model can take, which no example exceeds.
    """
    settings = setting(config, "rope_parameters") or {}
    kinds = settings.values() if all(isinstance(value, dict) for value in settings.values()) else [settings]
    if not any((kind.get("rope_type") or kind.get("type")) == "longrope" for kind in kinds):
        return None
    limits = [kind.get("original_max_position_embeddings") for kind in kinds]
    limits.append(setting(config, "original_max_position_embeddings"))
    return next((int(limit) for limit in limits if limit), None)


@contextmanager
def unpacked(model: Any) -> Iterator[None]:
    """Let the model build its own masks inside this context, as generation with its padding needs."""
    base = without_adapters(model)
    implementation = base.config._attn_implementation
    if implementation == NAME:
        base.set_attn_implementation("sdpa")
    try:
        yield
    finally:
        if implementation == NAME:
            base.set_attn_implementation(NAME)


def _test_tokens(base: Any) -> torch.Tensor:
    device = base.get_input_embeddings().weight.device
    return torch.arange(1, 1 + sum(TESTED_LENGTHS), device=device)[None]


@torch.no_grad()
def _hidden_alone(base: Any) -> torch.Tensor:
    parts = _test_tokens(base).split(TESTED_LENGTHS, dim=1)
    decoder = base.get_decoder()
    return torch.cat([decoder(input_ids=ids, use_cache=False).last_hidden_state for ids in parts], 1)


@torch.no_grad()
def _packed_equals(base: Any, alone: torch.Tensor) -> bool:
    ids = _test_tokens(base)
    packed_layout = layout(TESTED_LENGTHS).to(ids.device)
    try:
        packed = base.get_decoder()(
            input_ids=ids, position_ids=packed_layout.position_ids, layout=packed_layout, use_cache=False
        ).last_hidden_state
    except Exception:  # models take arguments and call attention in many ways; whatever it is, they cannot
        return False
    if packed.shape != alone.shape:
        return False
    difference = (packed.float() - alone.float()).norm() / alone.float().norm()
    exact = not torch.is_autocast_enabled(ids.device.type) and _all_float32(base)
    return bool(difference < (TOLERANCE if exact else TOLERANCE_16_BITS))


def _all_float32(base: Any) -> bool:
    return all(parameter.dtype == torch.float32 for parameter in base.parameters())
