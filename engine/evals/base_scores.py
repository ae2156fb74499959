"""The model's predictions at step 0 for the tokens of a suite, and how far it has moved from them since.

The first look keeps, in memory and in a file, whether each target was the likeliest token, and for some targets the
`TOP` likeliest tokens with their log-probabilities. The divergence takes all other tokens as one. That makes it a
lower bound of the full divergence (data processing inequality), and a vocabulary of 150,000 as cheap as a small one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from engine.recipe.fields import SAMPLES
from engine.tasks.prepare import Suite

WATCHED_SUITES = ("heldout", "general", SAMPLES)
WATCHED_EXAMPLES, WATCHED_TARGETS = 50, 32  # at most, of a suite and of an example; evenly spread
TOP = 64  # tokens
MIN_PROBABILITY = 1e-7  # probability of all other tokens together


@dataclass(frozen=True)
class BasePredictions:
    """Predictions of the first look at a suite, token by token. For a suite that is not watched, only `right`."""

    right: np.ndarray  # bool [targets of all examples, in their order]
    top: np.ndarray  # int32 [watched targets, TOP]: the likeliest tokens
    log_p: np.ndarray  # float32 [watched targets, TOP], nats


def watched_targets(suite: Suite) -> np.ndarray:
    """Return the targets whose divergence is measured, as indices into all targets of a suite; int64, ascending."""
    if suite.name not in WATCHED_SUITES:
        return np.zeros(0, dtype=np.int64)
    counts = np.array([example.targets for example in suite.examples])
    starts = np.cumsum(counts) - counts
    chosen = _spread(len(counts), WATCHED_EXAMPLES)
    return np.concatenate([starts[i] + _spread(int(counts[i]), WATCHED_TARGETS) for i in chosen])


def _spread(count: int, limit: int) -> np.ndarray:
    """Return at most `limit` of the indices 0 to count - 1, evenly spread, the first among them."""
    return np.arange(min(count, limit)) * count // min(count, limit)


def top_tokens(logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the `TOP` likeliest tokens and their log-probabilities, from float32 [targets, vocabulary]."""
    highest, tokens = logits.topk(min(TOP, logits.shape[-1]), dim=-1)
    return tokens, highest - logits.logsumexp(-1, keepdim=True)


def divergence(log_p: torch.Tensor, tokens: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
    """Return KL(base || now) of each target, nats; float32 [targets]. `tokens`, `log_p`: `top_tokens` at step 0."""
    log_q = logits.gather(-1, tokens) - logits.logsumexp(-1, keepdim=True)
    p, q = log_p.exp(), log_q.exp()
    rest_p, rest_q = ((1 - part.sum(-1)).clamp_min(MIN_PROBABILITY) for part in (p, q))
    return (p * (log_p - log_q)).sum(-1) + rest_p * (rest_p / rest_q).log()
