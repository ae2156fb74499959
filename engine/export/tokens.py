"""The loss of each token of one example, under the base model and after training: two passes, and no training."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from engine.basics.errors import ExportError
from engine.data.chat import Example
from engine.export.factors import Scalable
from engine.export.run_data import data_of
from engine.export.source import Source
from engine.export.weights import finished_step, training_dtype
from engine.flags.actions import SCALED
from engine.models import load
from engine.models.tokenizer import load_tokenizer
from engine.runs import journal
from engine.tasks.prepare import Prepared


def score_tokens(source: Source, suite: str, id: str, progress: Callable[[str], None]) -> dict[str, Any]:
    """Return the step of the weights, and of each target its text and its losses in nats: `before` and `after`.

    Raises ExportError, ModelError and DataError.
    """
    _check(source)
    recipe = source.recipe
    tokenizer = load_tokenizer(recipe.model)
    progress("reading the data")
    data = data_of(source, tokenizer)
    example = _find(data, suite, id, source.number)
    progress(f"loading {recipe.model.path} and what run #{source.number} trained")
    dtype = training_dtype(source)
    scalable = Scalable(source, source.weights, dtype)
    losses = []
    for factor in (0.0, 1.0):
        scalable.set(factor)
        losses.append(_losses(scalable.model, example, dtype))
    tokens = [
        {"text": text, "before": before, "after": after}
        for text, before, after in zip(texts_of(example, tokenizer), *losses, strict=True)
    ]
    return {
        "run": source.number,
        "step": finished_step(source),
        "suite": suite,
        "example": id,
        "tokens": tokens,
    }


def _check(source: Source) -> None:
    """Raise ExportError for a run whose weights cannot be put beside those of its base model."""
    method = source.recipe.method.name
    if method not in SCALED:
        raise ExportError(
            f"run #{source.number} was trained with method {method}, whose virtual tokens cannot be taken out of the "
            f"model again; tokens are scored of runs with {', '.join(SCALED)}"
        )
    if not source.finished:
        state = journal.read(source.run).state
        raise ExportError(
            f"run #{source.number} is {state} and has no finished weights: its tokens cannot be scored"
        )


def _find(data: Prepared, suite: str, id: str, number: int) -> Example:
    items = (item for one in data.suites if one.name == suite for item in one.examples if item.id == id)
    item = next(items, None)
    if item is None:
        raise ExportError(
            f"example {id} is not in the {suite} data of run #{number}: its tokens cannot be scored"
        )
    if not isinstance(item, Example):
        raise ExportError(f"example {id} is judged as a whole, not by its tokens")
    return item


@torch.no_grad()
def _losses(model: Any, example: Example, dtype: torch.dtype) -> list[float]:
    """The negative log-likelihood of each target, nats, in the precision that the run computed in."""
    ids = torch.from_numpy(example.tokens.astype(np.int64)).to(load.device())
    places = torch.from_numpy(np.flatnonzero(example.mask)).to(ids.device)
    with torch.autocast(ids.device.type, dtype, enabled=dtype == torch.bfloat16):
        logits = model(input_ids=ids[None]).logits[0, places - 1].float()
    return torch.nn.functional.cross_entropy(logits, ids[places], reduction="none").tolist()


def texts_of(example: Example, tokenizer: Any) -> list[str]:
    """The text of each target. Of a character that several tokens make, the last one has it, and the others nothing."""
    tokens, texts, decoded = example.tokens.tolist(), list[str](), ""
    for end in range(1, len(tokens) + 1):
        # The difference of two decodings: some tokenizers write a token differently where a text begins.
        text = tokenizer.decode(tokens[:end], skip_special_tokens=False, clean_up_tokenization_spaces=False)
        whole = text.rstrip("�") if end < len(tokens) else text
        piece = (
            whole[len(decoded) :] if whole.startswith(decoded) else tokenizer.decode(tokens[end - 1 : end])
        )
        decoded = whole if whole.startswith(decoded) else text
        if example.mask[end - 1]:
            texts.append(piece)
    return texts
