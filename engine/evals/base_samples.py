"""Texts sampled from the base model, as a suite of their own: they show how far a model is from it.

Under the base model such texts have the least loss that any model can give them in expectation, so that the rise of
their loss since step 0 estimates KL(base || now), nats per token, which is never below 0. It is a distance and no harm:
a model that learns anything moves. The end of a text is not scored: after fine-tuning, texts end with another token
than pretraining texts, which says nothing of what is in them. Without it the estimate may fall below 0 by the
probability that the base model gives to an end, about one in the length of a text.

Drawn from its beginning-of-sequence token at temperature 1, with a seed of their own, so that runs on one base share
them (as Bansal and Sanghavi do for replay, arXiv:2505.13811). They need no outside data. They are kept in the run's
directory, since a resumed attempt must score the same texts.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch

from engine.basics.errors import DataError
from engine.basics.statistics import Measure
from engine.data.chat import Example
from engine.data.formats import Document, to_document
from engine.evals.generate import continuations, end_token_ids
from engine.flags.forgetting import distance, divergence
from engine.flags.history import History
from engine.models.random_states import random_states, set_random_states
from engine.recipe.fields import SAMPLE_TOKENS, SAMPLES
from engine.tasks.prepare import Prepared, Suite

BATCH_SIZE = 50
AS_IT_IS = {"do_sample": True, "temperature": 1.0, "top_k": 0, "top_p": 1.0}  # drawn from all that it says
SEED = 0


@torch.no_grad()
def draw(
    model: Any, tokenizer: Any, count: int, device: torch.device, check: Callable[[], None]
) -> list[list[int]]:
    """Sample `count` texts as tokens, each with its beginning and, where it has one, its end. Keeps random states."""
    states, samples, ends = random_states(), list[list[int]](), end_token_ids(model, tokenizer)
    torch.manual_seed(SEED)
    try:
        while len(samples) < count:
            check()
            begin = [tokenizer.bos_token_id]
            begins = [begin] * min(BATCH_SIZE, count - len(samples))
            written = continuations(model, tokenizer, begins, SAMPLE_TOKENS, device, **AS_IT_IS)
            samples += [_cut_at_end(begin + tokens, ends or []) for tokens in written]
    finally:
        set_random_states(states)
    return samples


def _cut_at_end(tokens: list[int], ends: Sequence[int]) -> list[int]:
    """Cut a text after its first end token; the beginning may be an end token too."""
    stop = next((place for place, token in enumerate(tokens[1:], 2) if token in ends), len(tokens))
    return tokens[:stop]


def with_samples(
    data: Prepared, samples: Sequence[Sequence[int]], tokenizer: Any, ends: Sequence[int]
) -> Prepared:
    """Return the data with one suite more; duplicate and empty texts are skipped, and so are all if none is left."""
    documents, examples = list[Document](), list[Example]()
    ids = {example.id for example in data.suite("general").examples}
    for tokens in samples:
        text = tokenizer.decode(tokens, skip_special_tokens=True)
        try:
            document = to_document({"text": text}, "text")
        except DataError:  # nothing but white space
            continue
        if document.id not in ids:
            ids.add(document.id)
            documents.append(document)
            mask = (np.arange(len(tokens)) > 0) & ~np.isin(tokens, ends)
            examples.append(Example(document.id, np.array(tokens, dtype=np.int32), mask))
    if not examples:
        return data
    return replace(data, suites=[*data.suites, Suite(SAMPLES, documents, list(examples))])


def measures(history: History) -> dict[str, Measure]:
    """Return how far the model is from the base model at the last look, nats per token: by how much less likely the
    samples are, and the divergence of its predictions in them, a lower bound, where it was measured.
    """
    kl = divergence(history)
    found = {"distance": distance(history).measure}
    return found | ({"kl": kl.measure} if kl else {})
