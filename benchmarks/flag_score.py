"""The oracle's scorer: what a model says of each example of a suite, from the checkpoint of a look.

What a method has trained is merged into plain weights, so that one compiled model serves all runs of a process: a look
of 4,000 examples then takes a third of the time. Products of matrices are in bfloat16 where the CPU is made for it, all
else is float32.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from bitsandbytes.functional import dequantize_4bit
from torch import nn
from transformers import AttentionInterface

from engine.basics.cpu import cpu_has_bf16
from engine.data.chat import Example
from engine.evals import score
from engine.losses.batches import Batch, collate, micro_batches
from engine.models import load
from engine.recipe.methods import Lora, QLora
from engine.recipe.sections import Recipe
from engine.tasks.prepare import Suite
from engine.training.checkpoint import load_weights, put_weights, trained_weights

TEMPERATURES = tuple(sorted((1.0, *score.TEMPERATURES)))
KL_EXAMPLES = 100
TOKENS_AT_ONCE = 1024  # of a forward pass, and rows of logits: what stays in the cache of a core
ATTENTION = "flags_exact"


def _attention(
    module: Any,
    query: torch.Tensor,
    key: torch.Tensor,
    value: torch.Tensor,
    attention_mask: torch.Tensor | None,
    scaling: float | None = None,
    **others: Any,
) -> tuple[torch.Tensor, None]:
    """Causal attention in float32, [rows, heads, longest, width] → [rows, longest, heads, width]. Padding stands on
    the right, where it is never looked at.
    """
    with torch.autocast("cpu", enabled=False):
        q, k, v = (states.float() for states in (query, key, value))
        grouped = query.shape[1] != key.shape[1]
        out = F.scaled_dot_product_attention(q, k, v, is_causal=True, scale=scaling, enable_gqa=grouped)
    return out.to(query.dtype).transpose(1, 2).contiguous(), None


AttentionInterface.register(ATTENTION, _attention)


@dataclass(frozen=True)
class Found:
    """A suite under one model."""

    nll: np.ndarray  # float64 [examples]
    right: np.ndarray  # bool [targets], in the order of the examples: was the target the likeliest token?
    tempered: np.ndarray  # float64 [temperatures, examples]
    # Of the first KL_EXAMPLES, if asked for: float16 [targets, vocabulary], by batch.
    log_p: list[torch.Tensor]
    kl: np.ndarray | None  # float64 [examples], nats per token from the base; NaN: not measured


class Scorer:
    """A model of a recipe's method, whose trained weights are put in look by look."""

    def __init__(self, recipe: Recipe) -> None:
        self._model = _float_model(recipe)
        self._start = {name: weight.clone() for name, weight in trained_weights(self._model).items()}
        self._merges = recipe.method.name != "adapter"  # its layers cannot be merged into others
        if self._merges:
            self._plain = plain_model(recipe.model.path)
        else:
            self._plain = Plain(load.without_adapters(self._model))

    def load(self, checkpoint: Path | None) -> None:
        """Put in the weights of a checkpoint, or those of the start: the base model's."""
        if checkpoint:
            load_weights(checkpoint, self._model)
        else:
            put_weights(self._start, self._model)
        if self._merges:
            self._plain.load(_merged(self._model))

    def score(self, *args: Any, **options: Any) -> Found:
        """As `Plain.score`."""
        return self._plain.score(*args, **options)


def _float_model(recipe: Recipe) -> Any:
    """The model in float32, one of 4 bits as LoRA on the same weights."""
    method = recipe.method
    if not isinstance(method, QLora):
        return load.load_model(recipe.model, method, torch.float32).eval()
    shared = {name: value for name, value in method.model_dump().items() if name in Lora.model_fields}
    model = load.load_model(recipe.model, Lora(**shared | {"name": "lora"}), torch.float32).eval()
    quantised = dict(load.load_model(recipe.model, method, torch.float32).named_parameters())
    with torch.no_grad():
        for name, weight in model.named_parameters():
            if state := getattr(quantised[name], "quant_state", None):
                weight.copy_(dequantize_4bit(quantised[name].data, state).view_as(weight))
    return model


def _merged(model: Any) -> dict[str, torch.Tensor]:
    """Plain weights, with what was trained in them."""
    if not hasattr(model, "peft_config"):
        return dict(model.state_dict())
    return dict(copy.deepcopy(model).merge_and_unload().state_dict())


@cache
def plain_model(path: str) -> Plain:
    recipe = Recipe.model_validate({"model": path, "method": "full", "data": {"train": "-"}})
    return Plain(load.load_model(recipe.model, recipe.method, torch.float32).eval())


class Plain:
    """A transformers model, compiled when it is first called."""

    def __init__(self, model: Any) -> None:
        model.set_attn_implementation(ATTENTION)
        self._model: nn.Module = model
        self._head = model.get_output_embeddings()
        self._decoder = torch.compile(model.get_decoder(), dynamic=True)
        self._scores = torch.compile(_scores, dynamic=True)

    def load(self, weights: dict[str, torch.Tensor]) -> None:
        """Weights by name. Matrices are rounded to bfloat16 up or down by chance, as far as they are off: rounding to
        the nearest would drop the small changes that adapters make.
        """
        generator = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for name, weight in self._model.state_dict().items():
                rounds = cpu_has_bf16() and weight.ndim == 2
                weight.copy_(_rounded(weights[name], generator) if rounds else weights[name])

    @torch.no_grad()
    @torch.autocast("cpu", torch.bfloat16, enabled=cpu_has_bf16())
    def score(
        self,
        suite: Suite,
        temperatures: Sequence[float] = (1.0,),
        keep: bool = False,
        base: Found | None = None,
    ) -> Found:
        """`keep`: the distributions of the first examples; `base`: that which kept them, to be compared with."""
        examples = [example for example in suite.examples if isinstance(example, Example)]
        tempered = np.zeros((len(temperatures), len(examples)))
        right: list[np.ndarray] = [np.zeros(0, dtype=bool)] * len(examples)
        for group, batch, hidden in self._passes(examples):
            rows = batch.rows.numpy()
            chunks = zip(hidden.split(TOKENS_AT_ONCE), batch.targets.split(TOKENS_AT_ONCE), strict=True)
            parts = [self._scores(h, self._head.weight, t, tuple(temperatures)) for h, t in chunks]
            nll = torch.cat([nll for nll, _ in parts], 1).double().numpy()
            hit = torch.cat([right for _, right in parts]).numpy()
            for place, example in enumerate(group):
                right[example] = hit[rows == place]
            for at in range(len(temperatures)):
                tempered[at, group] = np.bincount(rows, nll[at], len(group))
        log_p = [log_p.half() for _, _, log_p in self._log_p(examples)] if keep else []
        kl = self._divergence(examples, base.log_p) if base and base.log_p else None
        own = tempered[list(temperatures).index(1.0)].copy()
        return Found(own, np.concatenate(right), tempered, log_p, kl)

    def _passes(self, examples: Sequence[Example]) -> Iterator[tuple[np.ndarray, Batch, torch.Tensor]]:
        """(which examples, their batch, hidden states of its targets), in the same groups every time."""
        lengths = np.array([len(example.tokens) for example in examples])
        for group in micro_batches(lengths, np.arange(len(examples)), TOKENS_AT_ONCE):
            batch = collate([examples[i] for i in group], torch.device("cpu"))
            states = self._decoder(input_ids=batch.input_ids, use_cache=False).last_hidden_state
            yield group, batch, states.flatten(0, 1).index_select(0, batch.positions)

    def _log_p(self, examples: Sequence[Example]) -> Iterator[tuple[np.ndarray, Batch, torch.Tensor]]:
        for group, batch, hidden in self._passes(examples[:KL_EXAMPLES]):
            yield group, batch, F.linear(hidden, self._head.weight).float().log_softmax(-1)

    def _divergence(self, examples: Sequence[Example], base: Sequence[torch.Tensor]) -> np.ndarray:
        """KL(base || now)."""
        found = np.full(len(examples), np.nan)
        for before, (group, batch, now) in zip(base, self._log_p(examples), strict=True):
            p = before.float()
            each = (p.exp() * (p - now)).sum(-1).double().numpy()
            rows = batch.rows.numpy()
            found[group] = np.bincount(rows, each, len(group)) / np.bincount(rows, minlength=len(group))
        return found


def _rounded(weight: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
    """float32 numbers that are bfloat16 ones: the last 16 bits dropped after chance was added to them."""
    bits = weight.float().contiguous().view(torch.int32)
    chance = torch.randint(0, 1 << 16, bits.shape, dtype=torch.int32, generator=generator)
    return ((bits + chance) & ~0xFFFF).view(torch.float32)


def _scores(
    hidden: torch.Tensor, head: torch.Tensor, targets: torch.Tensor, temperatures: tuple[float, ...]
) -> tuple[torch.Tensor, torch.Tensor]:
    """(negative log-likelihood at each temperature [temperatures, targets], was the target the likeliest [targets])."""
    logits = F.linear(hidden, head).float()
    below = logits - logits.amax(-1, keepdim=True)
    target = below.gather(-1, targets[:, None])[:, 0]
    nll = [(below / t).exp().sum(-1).log() - target / t for t in temperatures]
    return torch.stack(nll), target >= 0
