"""Direct preference optimisation (Rafailov et al. 2023, arXiv:2305.18290, equation 7).

With log p the log-probability of a whole answer, under the model that is trained and under the base model:

    margin = beta ((log p(chosen) - log p_base(chosen)) - (log p(rejected) - log p_base(rejected)))
    loss = -log sigmoid(margin)

With label smoothing e, pairs are taken to be the wrong way round in a share e of cases (Mitchell 2023, "A note on
DPO with noisy preferences"): loss = -(1 - e) log sigmoid(margin) - e log sigmoid(-margin).
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from engine.losses.batches import Batch
from engine.losses.loss import TargetLoss
from engine.recipe.methods import WHOLE_MODEL, Adapter, Lora, Method
from engine.recipe.tasks import Dpo
from engine.tasks.items import Pair
from finetui import bottleneck


@dataclass(frozen=True)
class PairBatch:
    """One forward pass of n pairs: the n chosen conversations, then the n rejected ones."""

    tokens: Batch
    n: int
    # float32 [2, n], nats: log-probabilities under the base model, where known.
    reference: torch.Tensor | None


class PairLoss(nn.Module):
    """A causal language model as a function from a batch of pairs to their loss."""

    def __init__(self, model: Any, method: Method, task: Dpo, packed: bool = False) -> None:
        super().__init__()
        self.token_loss = TargetLoss(model, packed)
        self.method, self.task = method, task
        # Log-probabilities of (chosen, rejected) answers under the base model, where they are not computed each time:
        # of the pairs to train on, by content, and of suites by name, float64 [2, pairs].
        self.references: dict[bytes, tuple[float, float]] | None = None
        self.suite_references: dict[str, np.ndarray] = {}

    def forward(self, batch: PairBatch) -> torch.Tensor:
        """Return the sum of the losses of the pairs; float32 scalar."""
        reference = self.reference(batch)
        losses = preference_loss(self.margins(self.answers(batch), reference), self.task.label_smoothing)
        return self.token_loss.with_routers(losses.sum(), batch.n)

    def margins(self, answers: torch.Tensor, reference: torch.Tensor) -> torch.Tensor:
        """Return the margins [n] from log-probabilities float32 [2, n]: gained preference for chosen, times beta."""
        gains = answers - reference
        return self.task.beta * (gains[0] - gains[1])

    def answers(self, batch: PairBatch) -> torch.Tensor:
        """Return the log-probabilities of the chosen and the rejected answers; float32 [2, n], nats."""
        nll = self.token_loss.nll(batch.tokens)
        return -nll.new_zeros(2 * batch.n).index_add(0, batch.tokens.rows, nll).view(2, batch.n)

    def reference(self, batch: PairBatch) -> torch.Tensor:
        """Return the same under the base model."""
        if batch.reference is not None:
            return batch.reference
        with torch.no_grad(), as_base(self.token_loss.model, self.method):
            return self.answers(batch)

    def collate(self, examples: Sequence[Pair], device: torch.device) -> PairBatch:
        """Collate chosen and rejected in one pass, with the references where they are known beforehand."""
        reference = None
        if self.references is not None:
            values = [self.references[_key(pair)] for pair in examples]
            reference = torch.tensor(values, dtype=torch.float32, device=device).T
        return PairBatch(self.both(examples, device), len(examples), reference)

    def both(self, pairs: Sequence[Pair], device: torch.device) -> Batch:
        """Collate the chosen conversations, then the rejected ones."""
        return self.token_loss.collate(
            [pair.chosen for pair in pairs] + [pair.rejected for pair in pairs], device
        )

    def set_references(self, pairs: Sequence[Pair], answers: np.ndarray) -> None:
        """Keep the base model's log-probabilities of the pairs to train on, float64 [2, pairs]."""
        values = answers.T.tolist()
        self.references = {
            _key(pair): (value[0], value[1]) for pair, value in zip(pairs, values, strict=True)
        }


def _key(pair: Pair) -> bytes:
    return hashlib.sha256(pair.content).digest()[:16]


def preference_loss(margins: torch.Tensor, label_smoothing: float) -> torch.Tensor:
    """Return the loss of each pair from its margin; both [n]."""
    right, wrong = F.logsigmoid(margins), F.logsigmoid(-margins)
    return -(1 - label_smoothing) * right - label_smoothing * wrong


def keeps_base(method: Method) -> bool:
    """Whether the base is unchanged beneath the trained weights. PiSSA and CorDA move part of it into the adapter."""
    return method.name not in WHOLE_MODEL and not (isinstance(method, Lora) and method.rewrites_base)


@contextmanager
def as_base(model: Any, method: Method) -> Iterator[None]:
    """Run as the base model, without dropout, inside this context. With a method that changes the base itself, the
    model stays as it is: that is the base only before the first step.
    """
    was_training = model.training
    model.eval()
    off: AbstractContextManager[None] = nullcontext()
    if keeps_base(method):
        off = bottleneck.disabled(model) if isinstance(method, Adapter) else model.disable_adapter()
    try:
        with off:
            yield
    finally:
        model.train(was_training)
