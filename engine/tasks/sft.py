"""Supervised fine-tuning: learn to write the answers of conversations."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from engine.data import masks
from engine.data.chat import Example, auto_length, ensure_template, truncate
from engine.data.formats import Document
from engine.data.gather import Gathered, Scored, gather
from engine.data.sources import DataError
from engine.data.split import first, replayed
from engine.model_source import locate
from engine.recipe import Recipe

SEEN_LIMIT = 100  # training examples scored like held-out ones
LONGEST_TEXT = 1024  # tokens of a general passage


@dataclass(frozen=True)
class Suite:
    """Examples that are scored together; `documents` and `examples` correspond."""

    name: str
    documents: list[Document]
    examples: list[Example]


@dataclass(frozen=True)
class Prepared:
    """Everything that a run reads, tokenised."""

    train: list[Example]  # replayed examples at the end
    suites: list[Suite]
    max_length: int
    notes: list[str]  # what the user should know: rows cut, dropped, doubled

    @property
    def digest(self) -> str:
        """Of the tokens to train on, in their order."""
        digest = hashlib.sha256()
        for example in self.train:
            digest.update(example.tokens.tobytes() + example.mask.tobytes())
        return digest.hexdigest()[:16]

    @property
    def largest_token(self) -> int:
        examples = [example for suite in self.suites for example in suite.examples]
        return max(int(example.tokens.max()) for example in [*self.train, *examples])

    def suite(self, name: str) -> Suite:
        return next(suite for suite in self.suites if suite.name == name)


def prepare(recipe: Recipe, tokenizer: Any, longest: int) -> Prepared:
    """Read, split, tokenise and cut the data of a recipe; `longest` is what the model can take.

    Raises DataError.
    """
    gathered = gather(recipe).checked()
    notes = list(gathered.notes)
    if ensure_template(tokenizer):
        notes.append("the tokenizer has no chat template: a plain one (User: …, Assistant: …) is used")
    train = _examined(recipe, gathered, tokenizer, notes)
    asked = recipe.train.max_length
    max_length = auto_length(train, longest) if asked == "auto" else min(asked, longest)
    train = _cut(train, max_length, recipe.data.train, notes)

    heldout = _suite(gathered.heldout, tokenizer, max_length, notes)
    seen_documents = first(gathered.train, min(SEEN_LIMIT, recipe.evals.limit), "eval")
    seen = Scored("seen", gathered.source("train"), len(gathered.train), seen_documents, [])
    suites = [heldout, _suite(seen, tokenizer, max_length, [])]
    if gathered.general:
        suites.append(_suite(gathered.general, tokenizer, min(longest, LONGEST_TEXT), []))
    train += _replay(recipe, gathered, train, tokenizer, max_length, notes)
    return Prepared(train, suites, max_length, notes)


def _examined(recipe: Recipe, gathered: Gathered, tokenizer: Any, notes: list[str]) -> list[Example]:
    """The training examples, if a model would learn from them what is meant."""
    source = gathered.source("train")
    examples, left_out = masks.tokenized(gathered.train, tokenizer, source)
    stops = masks.stops(locate(recipe.model.path), tokenizer)
    refusals, warnings = masks.examine(gathered.train, examples, tokenizer, stops, source)
    if refusals:
        raise DataError(str(refusals[0]))
    notes += [*left_out, *map(str, warnings)]
    return examples


def _cut(examples: list[Example], max_length: int, source: str, notes: list[str]) -> list[Example]:
    kept, cut, dropped = truncate(examples, max_length)
    if cut:
        lost = f"; {dropped} lost their whole answer and are left out" if dropped else ""
        notes.append(
            f"{source}: {cut} of {len(examples)} rows are longer than {max_length} tokens and are cut{lost}"
        )
    if not kept:
        raise DataError(f"{source}: no row has an answer within {max_length} tokens; raise train.max_length")
    return kept


def _suite(scored: Scored, tokenizer: Any, max_length: int, notes: list[str]) -> Suite:
    examples, left_out = masks.tokenized(scored.documents, tokenizer, scored.source)
    notes += left_out
    examples = _cut(examples, max_length, scored.name, notes)
    kept = {example.id: example for example in examples}  # equal rows would count twice as evidence
    documents = {document.id: document for document in scored.documents if document.id in kept}
    return Suite(scored.name, list(documents.values()), list(kept.values()))


def _replay(
    recipe: Recipe,
    gathered: Gathered,
    train: list[Example],
    tokenizer: Any,
    max_length: int,
    notes: list[str],
) -> list[Example]:
    """General examples to mix in."""
    if recipe.data.replay is None:
        return []
    source, ratio = recipe.data.replay.source, recipe.data.replay.ratio
    if not gathered.replay:
        raise DataError(f"{source}: every row is in a suite already, so none is left to replay; add rows")
    candidates, left_out = masks.tokenized(gathered.replay, tokenizer, gathered.source("replay"))
    notes += left_out
    candidates = _cut(candidates, max_length, source, notes)
    task_tokens = _tokens(train)
    chosen = replayed(candidates, lambda example: len(example.tokens), ratio, task_tokens)
    share = _tokens(chosen) / (task_tokens + _tokens(chosen))
    if share < 0.9 * ratio:
        notes.append(
            f"{source} is too small to replay {ratio:.1%}: it makes up {share:.1%} of the training tokens"
        )
    return chosen


def _tokens(examples: Sequence[Example]) -> int:
    return int(np.sum([len(example.tokens) for example in examples], initial=0))
