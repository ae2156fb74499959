"""From a recipe to everything that a run reads: split, tokenised for its task and cut."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any

import numpy as np

from engine.basics.errors import DataError
from engine.data import masks
from engine.data.chat import Example, auto_length, ensure_template, tokenize, truncate
from engine.data.formats import Document
from engine.data.gather import Gathered, Overlap, Scored, gather, overlaps, shared
from engine.data.labels import labels_of
from engine.data.split import first, replayed
from engine.models.source import locate
from engine.recipe.sections import Recipe
from engine.recipe.tasks import Classification, Completion, Dpo, Task
from engine.tasks.items import Item, Labelled, Pair, labelled, pair, text, windows

SEEN_LIMIT = 100  # training examples scored like held-out ones
LONGEST_TEXT = 1024  # tokens of a general passage

Make = Callable[[Document, Any], Item]  # from a document and the tokenizer
AS_TEXT: Make = tokenize  # conversations and plain text, whatever the task


@dataclass(frozen=True)
class Suite:
    """Examples that are scored together; `documents`, `examples` and, in a divided suite, `slices` correspond."""

    name: str
    documents: list[Document]
    examples: list[Item]
    slices: tuple[str, ...] = ()


@dataclass(frozen=True)
class Prepared:
    """Everything that a run reads, tokenised."""

    train: list[Item]  # replayed examples at the end
    suites: list[Suite]
    max_length: int
    longest: int  # tokens that the model can take
    notes: list[str]  # what the user should know: rows cut, dropped, doubled
    labels: list[str]  # the classes, of a classification
    overlaps: list[Overlap]

    @cached_property
    def digest(self) -> str:
        """Of the tokens to train on, in their order."""
        digest = hashlib.sha256()
        for example in self.train:
            digest.update(example.content)
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
    if not isinstance(recipe.task, Classification) and ensure_template(tokenizer):
        notes.append("the tokenizer has no chat template: a plain one (User: …, Assistant: …) is used")
    labels = labels_of(recipe.task, gathered) if isinstance(recipe.task, Classification) else []
    make = maker(recipe.task, labels)
    train = _examined(recipe, gathered, make, tokenizer, notes)
    max_length = length_limit(recipe, train, longest)
    if isinstance(recipe.task, Completion):
        train = _in_windows(train, max_length, recipe.data.train, notes)
    train = _cut(train, max_length, recipe.data.train, notes)

    heldout = _suite(gathered.heldout, make, tokenizer, max_length, notes)
    seen_documents = first(gathered.train, min(SEEN_LIMIT, recipe.evals.limit), "eval")
    seen = Scored("seen", "", gathered.source("train"), len(gathered.train), [], seen_documents, [])
    suites = [heldout, _suite(seen, make, tokenizer, max_length, [])]
    if gathered.general:
        suites.append(_general(gathered.general, tokenizer, min(longest, LONGEST_TEXT)))
    elif recipe.evals.general:
        notes.append(
            "a classifier has no language-model head to score general text with: forgetting is not measured"
        )
    train += _replay(recipe, gathered, train, tokenizer, max_length, notes)
    found = [] if recipe.flags.leak == "off" else overlaps(gathered.suites, shared(gathered))
    return Prepared(train, suites, max_length, longest, notes, labels, found)


def maker(task: Task, labels: list[str]) -> Make:
    """From a document and the tokenizer to what the task learns from it."""
    match task:
        case Completion():
            return text
        case Classification():
            return partial(labelled, labels=labels)
        case Dpo():
            return pair
        case _:
            return AS_TEXT


def _examined(recipe: Recipe, gathered: Gathered, make: Make, tokenizer: Any, notes: list[str]) -> list[Item]:
    """What is trained on, if a model would learn from it what is meant."""
    source = gathered.source("train")
    items, left_out = masks.tokenized(gathered.train, tokenizer, source, make)
    notes += left_out
    stops = masks.stops(locate(recipe.model.path), tokenizer)
    refusals, warnings = masks.examine(gathered.train, chosen_texts(items), tokenizer, stops, source)
    if refusals:
        raise DataError(str(refusals[0]))
    notes += map(str, warnings)
    return items


def chosen_texts(items: Sequence[Item]) -> list[Example]:
    """What a model learns to write, of items that say so: of a pair the better answer."""
    return [side for item in items for side in texts(item)[:1] if isinstance(side, Example)]


def texts(item: Item) -> list[Example | Labelled]:
    """What stands in the context of a model at once."""
    return [item.chosen, item.rejected] if isinstance(item, Pair) else [item]


def length_limit(recipe: Recipe, train: Sequence[Item], longest: int) -> int:
    """The longest text in tokens, of a model that takes `longest`."""
    asked = recipe.train.max_length
    return auto_limit(recipe, train, longest) if asked == "auto" else min(asked, longest)


def auto_limit(recipe: Recipe, train: Sequence[Item], longest: int) -> int:
    """What `max_length: auto` means."""
    if isinstance(recipe.task, Completion):  # a text may be a book, and nothing is lost where it is split
        longest = min(longest, max(2, recipe.train.micro_tokens))
    return auto_length([side for item in train for side in texts(item)], longest)


def _in_windows(train: Sequence[Item], max_length: int, source: str, notes: list[str]) -> list[Item]:
    pieces = [windows(text, max_length) for text in train if isinstance(text, Example)]
    if long := sum(len(of_text) > 1 for of_text in pieces):
        total = sum(map(len, pieces))
        notes.append(
            f"{source}: {long} rows are longer than {max_length} tokens and are split: {total} pieces in all"
        )
    return [piece for of_text in pieces for piece in of_text]


def _cut(examples: list[Item], max_length: int, source: str, notes: list[str]) -> list[Item]:
    kept, cut, dropped = truncate(examples, max_length)
    if cut:
        lost = f"; {dropped} lost their whole answer and are skipped" if dropped else ""
        notes.append(
            f"{source}: {cut} of {len(examples)} rows are longer than {max_length} tokens and are cut{lost}"
        )
    if not kept:
        raise DataError(f"{source}: no row has an answer within {max_length} tokens; raise train.max_length")
    return kept


def _suite(scored: Scored, make: Make, tokenizer: Any, max_length: int, notes: list[str]) -> Suite:
    examples, left_out = masks.tokenized(scored.documents, tokenizer, scored.source, make)
    notes += left_out
    examples = _cut(examples, max_length, scored.name, notes)
    kept = {example.id: example for example in examples}  # equal rows would count twice as evidence
    documents = {document.id: document for document in scored.documents if document.id in kept}
    return Suite(scored.name, list(documents.values()), list(kept.values()))


def _general(slices: Sequence[Scored], tokenizer: Any, max_length: int) -> Suite:
    parts = [_suite(scored, AS_TEXT, tokenizer, max_length, []) for scored in slices]
    names = [scored.slice for scored, part in zip(slices, parts, strict=True) for _ in part.examples]
    return Suite(
        "general",
        [document for part in parts for document in part.documents],
        [example for part in parts for example in part.examples],
        tuple(names) if all(names) else (),
    )


def _replay(
    recipe: Recipe,
    gathered: Gathered,
    train: list[Item],
    tokenizer: Any,
    max_length: int,
    notes: list[str],
) -> list[Item]:
    """General examples to mix in."""
    if recipe.data.replay is None:
        return []
    source, ratio = recipe.data.replay.source, recipe.data.replay.ratio
    candidates, left_out = masks.tokenized(gathered.replay, tokenizer, gathered.source("replay"), AS_TEXT)
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


def _tokens(examples: Sequence[Item]) -> int:
    return int(np.sum([len(example.tokens) for example in examples], initial=0))
