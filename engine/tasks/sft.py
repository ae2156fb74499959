"""Supervised fine-tuning: learn to write the answers of conversations."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from engine.data.chat import Example, auto_length, ensure_template, tokenize, truncate
from engine.data.formats import Document, to_documents
from engine.data.sources import DataError, read_rows
from engine.data.split import first, replayed, split_task
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
    notes: list[str] = []
    if ensure_template(tokenizer):
        notes.append("the tokenizer has no chat template: a plain one (User: …, Assistant: …) is used")
    train_documents, heldout_documents = _documents(recipe, notes)
    train = _tokenize_all(train_documents, tokenizer, recipe.data.train)
    asked = recipe.train.max_length
    max_length = auto_length(train, longest) if asked == "auto" else min(asked, longest)
    train = _cut(train, max_length, recipe.data.train, notes)

    heldout = _suite(
        "heldout", first(heldout_documents, recipe.evals.limit, "eval"), tokenizer, max_length, notes
    )
    seen_documents = first(train_documents, min(SEEN_LIMIT, recipe.evals.limit), "eval")
    seen = _suite("seen", seen_documents, tokenizer, max_length, [])
    suites = [heldout, seen]
    if recipe.evals.general:
        suites.append(_general(recipe, recipe.evals.general, tokenizer, min(longest, LONGEST_TEXT)))
    train += _replay(recipe, suites, train, tokenizer, max_length, notes)
    return Prepared(train, suites, max_length, notes)


def _documents(recipe: Recipe, notes: list[str]) -> tuple[list[Document], list[Document]]:
    """Training and held-out documents, the limit applied."""
    source, other = recipe.data.train, str(recipe.data.heldout)
    own = to_documents(read_rows(other), other) if recipe.data.heldout_share is None else []
    documents, heldout = split_task(recipe.data, to_documents(read_rows(source), source), own)
    if leaked := {d.id for d in documents} & {d.id for d in own}:
        notes.append(f"{len(leaked)} rows of {other} are in {source} too: held-out loss will look too good")
    return documents, heldout


def _tokenize_all(documents: Sequence[Document], tokenizer: Any, source: str) -> list[Example]:
    try:
        return [tokenize(document, tokenizer) for document in documents]
    except DataError as error:
        raise DataError(f"{source}: {error}") from None


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


def _suite(name: str, documents: list[Document], tokenizer: Any, max_length: int, notes: list[str]) -> Suite:
    examples = _cut(_tokenize_all(documents, tokenizer, name), max_length, name, notes)
    kept = {example.id: example for example in examples}  # equal rows would count twice as evidence
    return Suite(name, list({d.id: d for d in documents if d.id in kept}.values()), list(kept.values()))


def _general(recipe: Recipe, source: str, tokenizer: Any, max_length: int) -> Suite:
    documents = first(to_documents(read_rows(source), source, form="general"), recipe.evals.limit, "eval")
    return _suite("general", documents, tokenizer, max_length, [])


def _replay(
    recipe: Recipe,
    suites: list[Suite],
    train: list[Example],
    tokenizer: Any,
    max_length: int,
    notes: list[str],
) -> list[Example]:
    """General examples to mix in, none of which is in a suite."""
    if recipe.data.replay is None:
        return []
    source, ratio = recipe.data.replay.source, recipe.data.replay.ratio
    measured = {example.id for suite in suites for example in suite.examples}
    documents = first(to_documents(read_rows(source), source, form="general"), None, "replay")
    candidates = _tokenize_all([d for d in documents if d.id not in measured], tokenizer, source)
    if not candidates:
        raise DataError(f"{source}: every row is in a suite already, so none is left to replay; add rows")
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
