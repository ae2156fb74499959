"""Scoring a suite: the loss of each example, nothing averaged away."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from engine.evals.intervals import Estimate, Measure, ratio
from engine.tasks.prepare import Suite
from engine.training.batches import micro_batches
from engine.training.loss import TargetLoss


@dataclass(frozen=True)
class Scores:
    """Per example of a suite, in its order; arrays [examples]."""

    ids: list[str]
    nll: np.ndarray  # float64, nats, summed over the example's targets
    tokens: np.ndarray  # int64, targets
    right: np.ndarray  # int64, targets that were the likeliest token

    @property
    def loss(self) -> Estimate:
        return ratio(self.nll, self.tokens)

    @property
    def token_accuracy(self) -> Estimate:
        return ratio(self.right, self.tokens)

    @property
    def measures(self) -> dict[str, Measure]:
        return {"loss": self.loss.measure, "token_accuracy": self.token_accuracy.measure}


def score(
    loss: TargetLoss,
    suite: Suite,
    tokens_at_once: int,
    device: torch.device,
    check: Callable[[], None],
) -> Scores:
    """Score every example; `check` is called between forward passes and may raise to give up."""
    examples = suite.examples
    lengths = np.array([len(example.tokens) for example in examples])
    nll, right = np.zeros(len(examples)), np.zeros(len(examples), dtype=np.int64)
    for group in micro_batches(lengths, np.arange(len(examples)), tokens_at_once, loss.packed):
        check()
        batch = loss.collate([examples[i] for i in group], device)
        scores = loss.scores(batch)
        rows = batch.rows.cpu().numpy()
        nll[group] = np.bincount(rows, scores.nll.double().cpu().numpy(), len(group))
        right[group] = np.bincount(rows, scores.right.cpu().numpy(), len(group))
    tokens = np.array([example.targets for example in examples])
    return Scores([example.id for example in examples], nll, tokens, right)
