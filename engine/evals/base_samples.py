"""Texts sampled from the base model, as a slice of the general suite: they show what the base model could do.

Drawn from its beginning-of-sequence token at temperature 1, with a seed of their own, so that runs on one base share
them (as Bansal and Sanghavi do for replay, arXiv:2505.13811). They need no outside data. They are kept in the run's
directory, since a resumed attempt must score the same texts.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from engine.basics.errors import DataError
from engine.data.chat import Example, padding
from engine.data.formats import to_document
from engine.evals.generate import end_token_ids
from engine.models.random_states import random_states, set_random_states
from engine.recipe.fields import SAMPLES, TEXT
from engine.tasks.prepare import Prepared, Suite
from finetui.files import read_regular, write_json

MAX_TOKENS = 64  # tokens of a sample, at most
BATCH_SIZE = 50
SEED = 0


def read_or_draw(path: Path, draw: Callable[[], list[list[int]]], may_draw: bool) -> list[list[int]]:
    """Return the samples of a run from its file, or else draw them and write it; none where they may not be drawn."""
    try:
        return [[int(token) for token in tokens] for tokens in json.loads(read_regular(path))["samples"]]
    except (OSError, KeyError, TypeError, ValueError):
        pass
    if not may_draw:
        return []
    samples = draw()
    write_json(path, {"samples": samples})
    return samples


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
            begin = torch.full(
                (min(BATCH_SIZE, count - len(samples)), 1), tokenizer.bos_token_id, device=device
            )
            output = model.generate(
                input_ids=begin,
                attention_mask=torch.ones_like(begin),
                do_sample=True,
                temperature=1.0,
                top_k=0,
                top_p=1.0,
                max_new_tokens=MAX_TOKENS,
                pad_token_id=padding(tokenizer),
                eos_token_id=ends,
                use_cache=True,
            )
            samples += [_cut_at_end(tokens, ends or []) for tokens in output.tolist()]
    finally:
        set_random_states(states)
    return samples


def _cut_at_end(tokens: list[int], ends: Sequence[int]) -> list[int]:
    """Cut a text after its first end token; the beginning may be an end token too."""
    stop = next((place for place, token in enumerate(tokens[1:], 2) if token in ends), len(tokens))
    return tokens[:stop]


def with_samples(data: Prepared, samples: Sequence[Sequence[int]], tokenizer: Any) -> Prepared:
    """Return the data with one slice more in the general suite; duplicate and empty texts are skipped."""
    general = data.suite("general")
    documents, examples = list(general.documents), list(general.examples)
    ids = {example.id for example in examples}
    for tokens in samples:
        text = tokenizer.decode(tokens, skip_special_tokens=True)
        try:
            document = to_document({"text": text}, "text")
        except DataError:  # nothing but white space
            continue
        if document.id not in ids:
            ids.add(document.id)
            documents.append(document)
            mask = np.arange(len(tokens)) > 0
            examples.append(Example(document.id, np.array(tokens, dtype=np.int32), mask))
    slices = general.slices or (TEXT,) * len(general.examples)
    slices += (SAMPLES,) * (len(examples) - len(general.examples))
    suite = Suite("general", documents, examples, slices)
    return replace(data, suites=[suite if old.name == "general" else old for old in data.suites])
