"""Everything about the data of a recipe, before it runs: `finetui data`.

What is read, left out, tokenised and refused is what a run reads, leaves out, tokenises and refuses
(`engine.data.gather`, `engine.data.masks`); here all of it is told. Torch-free.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.client.preflight import absolute
from engine.data import chat, findings, masks, split
from engine.data.chat import Example
from engine.data.duplicates import Duplicates, exact_duplicates, near_duplicates
from engine.data.findings import Detectable, Finding
from engine.data.formats import Document
from engine.data.gather import Gathered, Scored, gather, shared
from engine.data.labels import labels_of
from engine.data.overlap import Leak
from engine.data.rows import Dropped, Source, left_out, too_many_bad
from engine.data.sources import number_order
from engine.models.source import ModelFiles, resolve_model
from engine.models.tokenizer import load_tokenizer
from engine.recipe.sections import Recipe
from engine.recipe.tasks import Classification, Completion
from engine.report import tokens
from engine.report.tokens import Lengths, Rendered, Truncation
from engine.tasks.items import Item
from engine.tasks.prepare import AS_TEXT, Make, auto_limit, chosen_texts, length_limit, maker, texts

EXAMPLES = 24  # rendered
BRIEF = 500  # training rows that `brief_report` looks at


@dataclass(frozen=True)
class Suite:
    """Rows kept from training, without those that training gives away."""

    name: str  # and of its slice, if it is one
    rows: int  # kept from training
    scored: int
    detectable: Detectable  # from the scored rows
    left_out: list[Leak]  # rows that equal a training row or nearly do
    shared: list[Leak]  # scored rows that share the answer or a stretch of words with a training row

    def as_dict(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "rows": self.rows,
            "scored": self.scored,
            "detectable": self.detectable.as_dict(),
            "left_out": [leak.as_dict() for leak in self.left_out],
            "shared": [leak.as_dict() for leak in self.shared],
        }


@dataclass(frozen=True)
class DataReport:
    """What `finetui data` shows. A run with `refusals` must not start."""

    name: str
    sources: list[Source]
    train_rows: int
    suites: list[Suite]
    lengths: Lengths | None  # None where no row has a target
    truncation: Truncation | None
    examples: list[Rendered]
    exact_duplicates: list[Duplicates]
    near_duplicates: list[Duplicates]
    refusals: list[Finding]
    warnings: list[Finding]

    def as_dict(self) -> dict[str, Any]:
        """Plain values, for JSON."""
        return {
            "name": self.name,
            "sources": [source.as_dict() for source in self.sources],
            "train_rows": self.train_rows,
            "suites": [suite.as_dict() for suite in self.suites],
            "lengths": self.lengths and self.lengths.as_dict(),
            "truncation": self.truncation and self.truncation.as_dict(),
            "examples": [example.as_dict() for example in self.examples],
            "exact_duplicates": [group.as_dict() for group in self.exact_duplicates],
            "near_duplicates": [group.as_dict() for group in self.near_duplicates],
            "refusals": [finding.as_dict() for finding in self.refusals],
            "warnings": [finding.as_dict() for finding in self.warnings],
        }

    def lines(self) -> list[str]:
        """One page for people, without colour."""
        from engine.report.page import lines

        return lines(self.as_dict())


def build(recipe: Recipe, base: Path) -> DataReport:
    """The report on a recipe; its paths are relative to `base`. Raises ModelError or DataError."""
    recipe = absolute(recipe, base)
    model = resolve_model(recipe.model.path, recipe.task.name)
    gathered = gather(recipe)  # bad data are told before the tokenizer takes its seconds to load
    tokenizer = load_tokenizer(recipe.model)
    chat.ensure_template(tokenizer)
    longest = _longest(recipe, model, tokenizer) - recipe.virtual_tokens
    return report(recipe, gathered, tokenizer, longest, masks.stops(model.local, tokenizer))


@dataclass(frozen=True)
class Brief:
    """What the tokenizer says of some training rows."""

    refusals: list[Finding]
    warnings: list[Finding]

    def as_dict(self) -> dict[str, Any]:
        return {name: [str(finding) for finding in found] for name, found in vars(self).items()}


def brief_report(recipe: Recipe, base: Path) -> Brief:
    """What would refuse a run once its tokenizer is loaded. Raises ModelError or DataError."""
    recipe = absolute(recipe, base)
    model = resolve_model(recipe.model.path, recipe.task.name)
    gathered = gather(recipe).checked()
    tokenizer = load_tokenizer(recipe.model)
    chat.ensure_template(tokenizer)
    source = gathered.source("train")
    some = split.first(gathered.train, BRIEF, "report")
    items, unmasked = masks.tokenize_all(some, tokenizer, source, _make(recipe, gathered))
    stops = masks.stops(model.local, tokenizer)
    refusals, warnings = masks.examine(some, chosen_texts(items), tokenizer, stops, source)
    if why := too_many_bad(source.source, unmasked, len(some)):
        refusals.insert(0, Finding("no-targets", why, source.source))
    elif unmasked:
        warnings.append(Finding("no-targets", left_out(source.source, unmasked, len(some))))
    longest = _longest(recipe, model, tokenizer) - recipe.virtual_tokens
    lost = _all_lost(_truncation(recipe, items, longest), items, source)
    (refusals if len(some) == len(gathered.train) else warnings).extend(lost)
    return Brief(refusals, warnings)


def report(recipe: Recipe, gathered: Gathered, tokenizer: Any, longest: int, stops: set[int]) -> DataReport:
    """The report on what a recipe reads, by a tokenizer with a chat template.

    `longest`: tokens that the model takes; `stops`: ids at which its generation stops.
    """
    source = gathered.source("train")
    entries = source.entries(gathered.train)
    measured = gathered.train
    if len(measured) > masks.MEASURED:
        measured = split.first(measured, masks.MEASURED, "report")
    make = _make(recipe, gathered)
    items, unmasked = masks.tokenize_all(measured, tokenizer, source, make)
    refusals = list(gathered.refusals)
    warnings = []
    for of, documents, dropped in [
        (source, measured, unmasked),
        *_without_targets(gathered, tokenizer, make),
    ]:
        if why := too_many_bad(of.source, dropped, len(documents)):
            refusals.append(Finding("no-targets", why, of.source))
        elif dropped:
            warnings.append(Finding("no-targets", left_out(of.source, dropped, len(documents))))
    cut = _truncation(recipe, items, longest)
    refusals += _all_lost(cut, items, source)
    more, found = masks.examine(measured, chosen_texts(items), tokenizer, stops, source)
    refusals += more
    warnings += found
    suites = [_suite(suite, words) for suite, words in zip(gathered.suites, shared(gathered), strict=True)]
    examples = [tokens.as_example(text) for item in items for text in texts(item)]
    warnings += _warnings(recipe, gathered, suites, measured, examples, cut)
    firsts = [tokens.as_example(texts(item)[0]) for item in items]
    warnings += _outliers(firsts, source)
    return DataReport(
        name=recipe.name or "",
        sources=gathered.sources,
        train_rows=len(gathered.train),
        suites=suites,
        lengths=tokens.lengths(examples, len(items)) if examples else None,
        truncation=cut,
        examples=_rendered(items, tokenizer, source, cut.max_length, gathered) if cut else [],
        exact_duplicates=exact_duplicates(entries),
        near_duplicates=near_duplicates(entries),
        refusals=refusals,
        warnings=warnings,
    )


def _make(recipe: Recipe, gathered: Gathered) -> Make:
    labels = labels_of(recipe.task, gathered) if isinstance(recipe.task, Classification) else []
    return maker(recipe.task, labels)


def _truncation(recipe: Recipe, items: Sequence[Item], longest: int) -> Truncation | None:
    """What `train.max_length` cuts; None where there is nothing to cut."""
    if not items:
        return None
    limit = length_limit(recipe, items, longest)
    auto = auto_limit(recipe, items, longest)
    split_up = isinstance(recipe.task, Completion)
    return tokens.truncation(items, recipe.train.max_length, limit, auto, longest, split_up=split_up)


def _all_lost(cut: Truncation | None, items: Sequence[Item], source: Source) -> list[Finding]:
    if cut is None or cut.rows_without_target < len(items):
        return []
    message = f"no row has a target within {cut.max_length} tokens; raise train.max_length"
    return [Finding("targets-lost", message, source.source)]


def _without_targets(
    gathered: Gathered, tokenizer: Any, make: Make
) -> Iterator[tuple[Source, list[Document], list[Dropped]]]:
    for suite in gathered.suites:
        as_what = make if suite is gathered.heldout else AS_TEXT
        yield (
            suite.source,
            suite.documents,
            masks.tokenize_all(suite.documents, tokenizer, suite.source, as_what)[1],
        )


def _longest(recipe: Recipe, model: ModelFiles, tokenizer: Any) -> int:
    if model.max_positions:
        return model.max_positions
    from transformers import AutoConfig

    try:
        config = AutoConfig.from_pretrained(model.path, trust_remote_code=recipe.model.trust_remote_code)
    except (OSError, ValueError, KeyError):
        return int(tokenizer.model_max_length)
    positions = getattr(config.get_text_config(), "max_position_embeddings", None)
    return int(positions or tokenizer.model_max_length)


def _suite(suite: Scored, shared: list[Leak]) -> Suite:
    can = findings.detectable(len(suite.documents))
    return Suite(suite.label, suite.rows, len(suite.documents), can, suite.leaks, shared)


def _warnings(
    recipe: Recipe,
    gathered: Gathered,
    suites: Sequence[Suite],
    documents: Sequence[Document],
    examples: Sequence[Example],
    cut: Truncation | None,
) -> list[Finding]:
    source, numbers = recipe.data.train, gathered.source("train").places()
    found = [Finding("left-out", note) for note in gathered.notes]
    for suite in suites:
        if suite.shared:
            of = f"{len(suite.shared)} of {suite.scored} scored {suite.name} rows"
            rows = dict.fromkeys(row for leak in suite.shared for row in leak.rows)
            found.append(
                Finding("overlap", f"{of} share {_what(suite)} with training data", rows=tuple(rows)[:5])
            )
        found += findings.heldout_size(suite.scored, suite.name)
    if cut:
        kept = sum(min(len(example.tokens), cut.max_length) for example in examples)
        train_rows = len(gathered.train)
        tokens_in_all = kept * train_rows / max(1, len(documents))
        found += findings.few_examples(recipe.method.name, recipe.train, train_rows, tokens_in_all)
        if cut.rows_without_target:
            message = f"{cut.rows_without_target} rows are cut before their answer begins, and are skipped"
            found.append(Finding("cut-before-answer", message, source))
    if labels := [document.label for document in gathered.train if document.label]:
        found += findings.label_balance(labels)
        found += findings.contradictions(gathered.train, numbers, source)
    found += findings.answers(documents, numbers, source)
    return found


def _what(suite: Suite) -> str:
    names = {"answer": "the answer", "13-gram": "13 words"}
    kinds = {leak.kind for leak in suite.shared}
    return " or ".join(name for kind, name in names.items() if kind in kinds)


def _outliers(examples: Sequence[Example], source: Source) -> list[Finding]:
    ids, places = [example.id for example in examples], source.places()
    found = []
    for side, sizes in (
        ("prompt", [len(example.tokens) - example.targets for example in examples]),
        ("answer", [example.targets for example in examples]),
    ):
        found += findings.length_outliers(sizes, ids, places, side, source.source)
    return found


def _rendered(
    items: Sequence[Item], tokenizer: Any, source: Source, max_length: int, gathered: Gathered
) -> list[Rendered]:
    """The first row, one of middle length and the longest; then others, evenly from the file."""
    places = source.places()
    labels = {document.id: document.label for document in gathered.train}
    by_length = sorted(items, key=lambda item: (len(item.tokens), item.id))
    by_place = sorted(items, key=lambda item: number_order(places[item.id][0]))
    others = by_place[:: max(1, len(by_place) // EXAMPLES)]
    chosen = {e.id: e for e in [by_place[0], by_length[len(by_length) // 2], by_length[-1], *others]}
    return [
        tokens.render(item, places[item.id][0], tokenizer, max_length, labels[item.id])
        for item in list(chosen.values())[:EXAMPLES]
    ]
