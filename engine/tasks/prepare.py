"""Preparation of all data of a run: split, tokenised for its task and cut."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property, partial
from typing import Any

import numpy as np

from engine.basics.errors import DataError
from engine.data import masks
from engine.data.chat import Example, auto_length, tokenize, truncate
from engine.data.choices import ChoiceSet
from engine.data.formats import Document
from engine.data.gather import Overlap, RunData, SuiteData, gather, scored_overlaps, suite_overlaps
from engine.data.labels import labels_of
from engine.data.split import choose_replay, first_by_hash
from engine.data.template import ensure_template
from engine.models.source import locate
from engine.recipe.fields import SEEN_LIMIT
from engine.recipe.sections import Recipe
from engine.recipe.tasks import Classification, Completion, Dpo, Task
from engine.runs.home import RunDir
from engine.tasks.items import Item, Labelled, Pair, labelled_items, pair_items, text_items, windows

LONGEST_TEXT = 1024  # tokens of a general passage

# From a document and the tokenizer; several items where the answers of a conversation need a text each.
MakeItems = Callable[[Document, Any], Sequence[Item]]
AS_TEXT: MakeItems = tokenize  # conversations and plain text, whatever the task
REPLAYABLE = 20  # rows that a source has beside those that are scored, for which its replay is advised


@dataclass(frozen=True)
class Suite:
    """Examples that are scored together; `documents`, `examples` and, in a divided suite, `slices` correspond."""

    name: str
    documents: list[Document]
    examples: list[Item]
    slices: tuple[str, ...] = ()

    @cached_property
    def passages_of(self) -> tuple[str, ...]:
        """From which document each example is, its own id where that is not known; empty if it is known of none."""
        names = [document.passage_of for document in self.documents]
        slices = self.slices or [""] * len(names)
        return (
            tuple(
                f"{slice}/{name}" if name else document.id
                for slice, name, document in zip(slices, names, self.documents, strict=True)
            )
            if any(names)
            else ()
        )


@dataclass(frozen=True)
class Prepared:
    """Everything that a run reads, tokenised."""

    train: list[Item]  # replayed examples at the end
    suites: list[Suite]
    max_length: int
    longest: int  # tokens that the model can take
    notes: list[str]  # for the user: rows cut, skipped, repeated
    labels: list[str]  # the classes, of a classification
    overlaps: list[Overlap]
    fingerprints: dict[str, str] = field(default_factory=dict)  # of each source
    choices: list[ChoiceSet] = field(default_factory=list)  # multiple-choice questions, a slice each
    spare: list[Item] = field(default_factory=list)  # general texts that are not scored
    replayable: list[str] = field(default_factory=list)  # sources of general text with rows that no suite has

    @cached_property
    def digest(self) -> str:
        """A hash of the tokens to train on, in their order."""
        digest = hashlib.sha256()
        for example in self.train:
            digest.update(example.content)
        return digest.hexdigest()[:16]

    @cached_property
    def train_set(self) -> str:
        """A hash of the rows to train on: the same for every model, order and file."""
        return _hash_of_rows(self.train)

    @property
    def heldout_set(self) -> str:
        """The same of the rows held out and scored."""
        return _hash_of_rows(self.suite("heldout").examples)

    @property
    def largest_token(self) -> int:
        examples = [example for suite in self.suites for example in suite.examples]
        return max(int(example.tokens.max()) for example in [*self.train, *examples])

    def suite(self, name: str) -> Suite:
        return next(suite for suite in self.suites if suite.name == name)


def _hash_of_rows(items: Sequence[Item]) -> str:
    ids = sorted({item.id for item in items})
    return hashlib.sha256("\n".join(ids).encode()).hexdigest()[:16]


def prepare(recipe: Recipe, tokenizer: Any, longest: int, gathered: RunData | None = None) -> Prepared:
    """Read, split, tokenise and cut the data of a recipe; `longest`: tokens that the model can take; `gathered`: what
    is read already. Raises DataError.
    """
    run_data = (gathered or gather(recipe)).checked()
    notes = list(map(str, run_data.notes))
    if not isinstance(recipe.task, Classification) and ensure_template(tokenizer):
        notes.append("the tokenizer has no chat template: a plain one (User: …, Assistant: …) is used")
    labels = labels_of(recipe.task, run_data) if isinstance(recipe.task, Classification) else []
    make_items = items_maker(recipe.task, labels)
    train, max_length = _examined_items(recipe, run_data, make_items, tokenizer, longest, notes)
    if isinstance(recipe.task, Completion):
        train = _split_texts(train, max_length, recipe.data.train, notes)
    train = _cut_items(train, max_length, recipe.data.train, notes)

    heldout = _suite(run_data.heldout, make_items, tokenizer, max_length, notes)
    seen_documents = first_by_hash(run_data.train, min(SEEN_LIMIT, recipe.evals.limit), "eval")
    seen = SuiteData("seen", "", run_data.source("train"), len(run_data.train), [], seen_documents, [])
    suites = [heldout, _suite(seen, make_items, tokenizer, max_length, [])]
    if run_data.general:
        suites.append(_general_suite(run_data.general, tokenizer, min(longest, LONGEST_TEXT)))
    elif recipe.evals.general:
        notes.append(
            "a classifier has no language-model head to score general text with: forgetting is not measured"
        )
    train += _replay_items(recipe, run_data, train, tokenizer, max_length, notes)
    overlaps = (
        [] if recipe.flags.leak == "off" else suite_overlaps(run_data.suites, scored_overlaps(run_data))
    )
    fingerprints = {source.source: source.fingerprint.digest for source in run_data.sources}
    fingerprints |= {one.source: one.fingerprint.digest for one in run_data.choices}
    spare: list[Item] = []
    if run_data.spare:
        texts, _ = masks.tokenize_source(run_data.spare, tokenizer, run_data.general[0].source, AS_TEXT)
        spare = truncate(texts, min(longest, LONGEST_TEXT))[0]
    replayable = [suite.source.source for suite in run_data.general if _has_others(suite)]
    return Prepared(
        train,
        suites,
        max_length,
        longest,
        notes,
        labels,
        overlaps,
        fingerprints,
        run_data.choices,
        spare,
        replayable,
    )


def _has_others(suite: SuiteData) -> bool:
    """Whether a source of general text has rows enough beside those that are scored, to mix into training."""
    return len({document.id for document in suite.source.documents}) - len(suite.documents) >= REPLAYABLE


def changed_sources(run: RunDir, data: Prepared) -> list[str]:
    """Return a sentence on each source that is no longer what was checked when the run was queued."""
    checked = {d["source"]: d["fingerprint"] for d in json.loads(run.meta.read_text()).get("datasets") or []}
    return [
        f"{source}: the data have changed since the run was queued"
        for source, fingerprint in data.fingerprints.items()
        if checked.get(source, fingerprint) != fingerprint
    ]


def items_maker(task: Task, labels: list[str]) -> MakeItems:
    """Return the function that makes the task's items from a document and the tokenizer."""
    match task:
        case Completion():
            return text_items
        case Classification():
            return partial(labelled_items, labels=labels)
        case Dpo():
            return pair_items
        case _:
            return AS_TEXT


def _examined_items(
    recipe: Recipe,
    run_data: RunData,
    make_items: MakeItems,
    tokenizer: Any,
    longest: int,
    notes: list[str],
) -> tuple[list[Item], int]:
    """Return the items to train on and the length to cut them to.

    Raises DataError if a model would learn something else than meant.
    """
    source = run_data.source("train")
    items, skip_notes = masks.tokenize_source(run_data.train, tokenizer, source, make_items)
    notes += skip_notes
    stop_ids = masks.stop_ids(locate(recipe.model.path), tokenizer)
    max_length = length_limit(recipe, items, longest)
    refusals, warnings = masks.examine(
        run_data.train, chosen_texts(items), tokenizer, stop_ids, source, max_length
    )
    if refusals:
        raise DataError(str(refusals[0]))
    notes += map(str, warnings)
    return items, max_length


def chosen_texts(items: Sequence[Item]) -> list[Example]:
    """Return the examples that a model learns to write: of a pair the better answer, of a labelled text none."""
    return [side for item in items for side in item_texts(item)[:1] if isinstance(side, Example)]


def item_texts(item: Item) -> list[Example | Labelled]:
    """Return the texts of an item that are each in the context of a model at once."""
    return [item.chosen, item.rejected] if isinstance(item, Pair) else [item]


def length_limit(recipe: Recipe, train: Sequence[Item], longest: int) -> int:
    """Return the length in tokens that texts are cut to, for a model that takes `longest`."""
    setting = recipe.train.max_length
    return auto_limit(recipe, train, longest) if setting == "auto" else min(setting, longest)


def auto_limit(recipe: Recipe, train: Sequence[Item], longest: int) -> int:
    """Return the length that `max_length: auto` chooses."""
    if isinstance(recipe.task, Completion):  # a text may be a book, and nothing is lost where it is split
        longest = min(longest, max(2, recipe.train.micro_tokens))
    return auto_length([side for item in train for side in item_texts(item)], longest)


def _split_texts(train: Sequence[Item], max_length: int, source: str, notes: list[str]) -> list[Item]:
    pieces = [windows(text, max_length) for text in train if isinstance(text, Example)]
    if long_rows := sum(len(windows_of_text) > 1 for windows_of_text in pieces):
        total = sum(map(len, pieces))
        notes.append(
            f"{source}: {long_rows} rows are longer than {max_length} tokens and are split: {total} pieces in all"
        )
    return [piece for windows_of_text in pieces for piece in windows_of_text]


def _cut_items(examples: list[Item], max_length: int, source: str, notes: list[str]) -> list[Item]:
    kept, cut, dropped = truncate(examples, max_length)
    if cut:
        lost = f"; {dropped} lost their whole answer and are skipped" if dropped else ""
        notes.append(
            f"{source}: {cut} of {len(examples)} rows are longer than {max_length} tokens and are cut{lost}"
        )
    if not kept:
        raise DataError(f"{source}: no row has an answer within {max_length} tokens; raise train.max_length")
    return kept


def _suite(
    suite_data: SuiteData, make_items: MakeItems, tokenizer: Any, max_length: int, notes: list[str]
) -> Suite:
    examples, skip_notes = masks.tokenize_source(
        suite_data.documents, tokenizer, suite_data.source, make_items
    )
    notes += skip_notes
    examples = _cut_items(examples, max_length, suite_data.name, notes)
    kept = {example.id: example for example in examples}  # equal rows would count twice as evidence
    documents = {document.id: document for document in suite_data.documents if document.id in kept}
    return Suite(suite_data.name, list(documents.values()), list(kept.values()))


def _general_suite(slices: Sequence[SuiteData], tokenizer: Any, max_length: int) -> Suite:
    parts = [_suite(suite_data, AS_TEXT, tokenizer, max_length, []) for suite_data in slices]
    names = [suite_data.slice for suite_data, part in zip(slices, parts, strict=True) for _ in part.examples]
    return Suite(
        "general",
        [document for part in parts for document in part.documents],
        [example for part in parts for example in part.examples],
        tuple(names) if all(names) else (),
    )


def _replay_items(
    recipe: Recipe,
    run_data: RunData,
    train: list[Item],
    tokenizer: Any,
    max_length: int,
    notes: list[str],
) -> list[Item]:
    """Return the general examples to mix in."""
    if recipe.data.replay is None:
        return []
    source, ratio = recipe.data.replay.source, recipe.data.replay.ratio
    candidates, skip_notes = masks.tokenize_source(
        run_data.replay, tokenizer, run_data.source("replay"), AS_TEXT
    )
    notes += skip_notes
    candidates = _cut_items(candidates, max_length, source, notes)
    task_tokens = _count_tokens(train)
    chosen = choose_replay(candidates, lambda example: len(example.tokens), ratio, task_tokens)
    share = _count_tokens(chosen) / (task_tokens + _count_tokens(chosen))
    if share < 0.9 * ratio:
        notes.append(
            f"{source} is too small to replay {ratio:.1%}: it makes up {share:.1%} of the training tokens"
        )
    return chosen


def _count_tokens(examples: Sequence[Item]) -> int:
    return int(np.sum([len(example.tokens) for example in examples], initial=0))
