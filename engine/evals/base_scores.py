"""What the model said at step 0 to the tokens of a suite, and how far it has moved away since.

Kept of the first look, in memory and in a file: whether each target was the likeliest token, and of some targets the
`TOP` likeliest tokens with their log-probabilities. The divergence takes all other tokens as one, which makes it a
lower bound of the whole one (data processing inequality), and a vocabulary of 150,000 no dearer than a small one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from engine.tasks.prepare import Suite

WATCHED_SUITES = ("heldout", "general")
WATCHED_EXAMPLES, WATCHED_TARGETS = 50, 32  # most of a suite, and of an example; evenly spread
TOP = 64  # tokens
LEAST = 1e-7  # probability of all other tokens together


@dataclass(frozen=True)
class Base:
    """The first look at a suite, token by token. Of a suite that is not watched, the last two are empty."""

    right: np.ndarray  # bool [targets of all examples, in their order]
    top: np.ndarray  # int32 [watched targets, TOP]: the likeliest tokens
    log_p: np.ndarray  # float32 [watched targets, TOP], nats


def watched(suite: Suite) -> np.ndarray:
    """The targets whose divergence is measured, as places among all targets of a suite; int64, ascending."""
    if suite.name not in WATCHED_SUITES:
        return np.zeros(0, dtype=np.int64)
    counts = np.array([example.targets for example in suite.examples])
    starts = np.cumsum(counts) - counts
    chosen = _spread(len(counts), WATCHED_EXAMPLES)
    return np.concatenate([starts[i] + _spread(int(counts[i]), WATCHED_TARGETS) for i in chosen])


def _spread(count: int, most: int) -> np.ndarray:
    """At most so many of the places 0 to count - 1, evenly spread, the first among them."""
    return np.arange(min(count, most)) * count // min(count, most)


def likeliest(logits: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Of float32 [targets, vocabulary]: the `TOP` likeliest tokens and their log-probabilities."""
    highest, tokens = logits.topk(min(TOP, logits.shape[-1]), dim=-1)
    return tokens, highest - logits.logsumexp(-1, keepdim=True)


def divergence(log_p: torch.Tensor, tokens: torch.Tensor, logits: torch.Tensor) -> torch.Tensor:
    """KL(base || now) of each target, nats; float32 [targets]. `tokens`, `log_p`: what `likeliest` gave at step 0."""
    log_q = logits.gather(-1, tokens) - logits.logsumexp(-1, keepdim=True)
    p, q = log_p.exp(), log_q.exp()
    rest_p, rest_q = ((1 - part.sum(-1)).clamp_min(LEAST) for part in (p, q))
    return (p * (log_p - log_q)).sum(-1) + rest_p * (rest_p / rest_q).log()
