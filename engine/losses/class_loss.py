"""Cross-entropy of the classes of whole texts, for encoders and decoders."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from engine.tasks.items import Labelled


@dataclass(frozen=True)
class ClassBatch:
    """Texts padded on the right. An encoder attends both ways, so it needs a mask for padding."""

    input_ids: torch.Tensor  # int64 [rows, longest]
    attention_mask: torch.Tensor  # int64 [rows, longest]: 1 for a token, 0 for padding
    labels: torch.Tensor  # int64 [rows]


class ClassLoss(nn.Module):
    """A sequence classifier as a function from a batch to the loss of its texts.

    A decoder's own forward pass takes the output of the last token that is no padding; `pad` must be the id that
    its configuration has for padding.
    """

    def __init__(self, model: Any, pad: int) -> None:
        super().__init__()
        self.model = model
        self.pad = pad

    @property
    def classes(self) -> int:
        return int(self.model.config.num_labels)

    def forward(self, batch: ClassBatch) -> torch.Tensor:
        """Return the sum of the negative log-likelihoods of the classes, in nats; float32 scalar."""
        return F.cross_entropy(self.logits(batch), batch.labels, reduction="sum")

    def logits(self, batch: ClassBatch) -> torch.Tensor:
        """Return the logits: float32 [rows, classes]."""
        return self.model(input_ids=batch.input_ids, attention_mask=batch.attention_mask).logits.float()

    def collate(self, examples: Sequence[Labelled], device: torch.device) -> ClassBatch:
        """Pad texts to the longest."""
        lengths = np.array([len(example.tokens) for example in examples])
        mask = np.arange(lengths.max()) < lengths[:, None]
        ids = np.full(mask.shape, self.pad, dtype=np.int64)
        ids[mask] = np.concatenate([example.tokens for example in examples])
        labels = np.array([example.label for example in examples], dtype=np.int64)
        return ClassBatch(
            *(torch.from_numpy(part).to(device) for part in (ids, mask.astype(np.int64), labels))
        )
