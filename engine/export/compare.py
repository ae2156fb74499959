"""Measure what merging changed: a quantised base with its adapter against the merged model, on the same examples."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch

from engine.basics.statistics import change, ratio
from engine.data.chat import Example
from engine.export.result import Difference


@torch.no_grad()
def compare(
    trained: Any, merged: Any, examples: Sequence[Example], progress: Callable[[str], None]
) -> Difference:
    """Run both models over each example alone; at least one example."""
    logit, kl = 0.0, 0.0
    before, after = np.zeros(len(examples)), np.zeros(len(examples))
    tokens = np.array([example.targets for example in examples])
    for number, example in enumerate(examples):
        if number % 16 == 0:
            progress(f"comparing with the model as it was trained: example {number + 1} of {len(examples)}")
        ids = torch.from_numpy(example.tokens.astype(np.int64))
        places = torch.from_numpy(np.flatnonzero(example.mask))
        trained_logits, merged_logits = (_logits(model, ids, places) for model in (trained, merged))
        logit += float((trained_logits - merged_logits).abs().mean(-1).sum())
        p, q = trained_logits.log_softmax(-1), merged_logits.log_softmax(-1)
        kl += float((p.exp() * (p - q)).sum())
        targets = ids[places, None].to(p.device)
        before[number], after[number] = (-float(x.gather(1, targets).sum()) for x in (p, q))
    return Difference(
        examples=len(examples),
        tokens=int(tokens.sum()),
        logit=logit / int(tokens.sum()),
        kl=kl / int(tokens.sum()),
        trained_loss=ratio(before, tokens).value,
        merged_loss=ratio(after, tokens).value,
        change=change(before, after, tokens),
    )


def _logits(model: Any, ids: torch.Tensor, places: torch.Tensor) -> torch.Tensor:
    """Return the logits that predict the tokens at `places`: float32 [places, vocabulary], on the CPU."""
    logits = model(input_ids=ids[None].to(model.device)).logits[0]
    return logits[places.to(logits.device) - 1].float().cpu()
