"""Texts that the base model writes by itself, as a slice of the general suite: what it could do is what it would say.

Drawn from its beginning-of-sequence token at temperature 1, with a seed of their own, so that runs on one base share
them (as Bansal and Sanghavi do for replay, arXiv:2505.13811). They need no outside data. Kept in the run, since what an
attempt that goes on scores must be the same.
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
from engine.evals.generate import ends_of
from engine.models.random_states import random_states, set_random_states
from engine.recipe.fields import SAMPLES, TEXT
from engine.tasks.prepare import Prepared, Suite
from finetui.files import write_json

LENGTH = 64  # tokens of a sample, at most
AT_ONCE = 50
SEED = 0


def in_run(path: Path, draw: Callable[[], list[list[int]]], may_draw: bool) -> list[list[int]]:
    """The samples of a run, from its file, else drawn and written there; none where they may not be drawn."""
    try:
        return [[int(token) for token in tokens] for tokens in json.loads(path.read_bytes())["samples"]]
    except (OSError, KeyError, TypeError, ValueError):
        pass
    if not may_draw:
        return []
    drawn = draw()
    write_json(path, {"samples": drawn})
    return drawn


@torch.no_grad()
def draw(
    model: Any, tokenizer: Any, count: int, device: torch.device, check: Callable[[], None]
) -> list[list[int]]:
    """`count` texts as tokens, each with its beginning and, where it came to one, its end. Changes no random state."""
    states, found, ends = random_states(), list[list[int]](), ends_of(model, tokenizer)
    torch.manual_seed(SEED)
    try:
        while len(found) < count:
            check()
            begin = torch.full((min(AT_ONCE, count - len(found)), 1), tokenizer.bos_token_id, device=device)
            written = model.generate(
                input_ids=begin,
                attention_mask=torch.ones_like(begin),
                do_sample=True,
                temperature=1.0,
                top_k=0,
                top_p=1.0,
                max_new_tokens=LENGTH,
                pad_token_id=padding(tokenizer),
                eos_token_id=ends,
                use_cache=True,
            )
            found += [_until_end(tokens, ends or []) for tokens in written.tolist()]
    finally:
        set_random_states(states)
    return found


def _until_end(tokens: list[int], ends: Sequence[int]) -> list[int]:
    """Up to the first end after the beginning, which may be an end itself."""
    stop = next((place for place, token in enumerate(tokens[1:], 2) if token in ends), len(tokens))
    return tokens[:stop]


def with_samples(data: Prepared, drawn: Sequence[Sequence[int]], tokenizer: Any) -> Prepared:
    """The same with one slice more in the general suite; equal texts and empty ones left out."""
    general = data.suite("general")
    documents, examples = list(general.documents), list(general.examples)
    known = {example.id for example in examples}
    for tokens in drawn:
        text = tokenizer.decode(tokens, skip_special_tokens=True)
        try:
            document = to_document({"text": text}, "text")
        except DataError:  # nothing but white space
            continue
        if document.id not in known:
            known.add(document.id)
            documents.append(document)
            mask = np.arange(len(tokens)) > 0
            examples.append(Example(document.id, np.array(tokens, dtype=np.int32), mask))
    slices = general.slices or (TEXT,) * len(general.examples)
    slices += (SAMPLES,) * (len(examples) - len(general.examples))
    suite = Suite("general", documents, examples, slices)
    return replace(data, suites=[suite if old.name == "general" else old for old in data.suites])
