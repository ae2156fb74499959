"""Everything about the data of a recipe, before it runs: `finetui data`.

Reads the same rows, splits and tokenises them as a run does, but tells all that is wrong instead of the first
thing. Torch-free.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.data import chat, split
from engine.data.chat import Example
from engine.data.formats import Document, form_of
from engine.data.report import findings, tokens
from engine.data.report.duplicates import Duplicates, Entry, Sketches, exact_duplicates, near_duplicates
from engine.data.report.findings import Detectable, Finding
from engine.data.report.overlap import Leak, overlap, separate
from engine.data.report.rows import Source, read
from engine.data.report.tokens import Lengths, Rendered, Truncation
from engine.model_source import ModelFiles, resolve_model
from engine.preflight import absolute
from engine.recipe import Recipe

MEASURED = 5000  # training rows that are tokenised; a larger set is measured on those that come first by hash
EXAMPLES = 3  # rendered


@dataclass(frozen=True)
class Suite:
    """Rows kept from training, and those that training gives away."""

    name: str
    rows: int
    scored: int  # by the recipe's evals.limit
    detectable: Detectable  # from the scored rows that are clean
    leaks: list[Leak]
    overlapping: list[str]  # content ids to move to training (held-out rows) or to leave out

    def as_dict(self) -> dict[str, Any]:
        return {
            "name": self.name,
            "rows": self.rows,
            "scored": self.scored,
            "detectable": self.detectable.as_dict(),
            "leaks": [leak.as_dict() for leak in self.leaks],
            "overlapping": self.overlapping,
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
        from engine.data.report.page import lines

        return lines(self.as_dict())


def build(recipe: Recipe, base: Path) -> DataReport:
    """The report on a recipe; its paths are relative to `base`. Raises ModelError or DataError."""
    recipe = absolute(recipe, base)
    model = resolve_model(recipe.model.path)
    sources = read_sources(recipe)  # bad data are told before the tokenizer takes its seconds to load
    tokenizer = chat.load_tokenizer(recipe.model, model.path)
    chat.ensure_template(tokenizer)
    longest = _longest(recipe, model, tokenizer) - recipe.virtual_tokens
    return report(recipe, sources, tokenizer, longest, _stops(model, tokenizer))


def report(
    recipe: Recipe, sources: list[Source], tokenizer: Any, longest: int, stops: set[int]
) -> DataReport:
    """The report on the sources of a recipe, by a tokenizer with a chat template. Raises DataError.

    `longest`: tokens that the model takes; `stops`: ids at which its generation stops.
    """
    own = _of(sources, "heldout").documents if _has(sources, "heldout") else []
    train, heldout = split.split_task(recipe.data, _of(sources, "train").documents, own)
    scored = split.first(heldout, recipe.evals.limit, "eval")
    general: list[Document] = []
    if _has(sources, "general"):
        general = split.first(_of(sources, "general").documents, recipe.evals.limit, "eval")
    entries = _of(sources, "train").entries(train)
    training = entries + _replayed(sources, {d.id for d in [*scored, *general]})
    heldout_source = _of(sources, "heldout" if _has(sources, "heldout") else "train")
    sketches = Sketches([entry.text for entry in training])  # of `entries` first
    suites = [_heldout_suite(training, heldout_source.entries(heldout), len(scored), sketches)]
    if general:
        suites.append(_general_suite(training, _of(sources, "general"), general, sketches))

    source, numbers = recipe.data.train, _of(sources, "train").places()
    measured = train if len(train) <= MEASURED else split.first(train, MEASURED, "report")
    examples, refusals = tokens.tokenize_all(measured, tokenizer, numbers, source)
    refusals += tokens.tokenize_all(scored, tokenizer, heldout_source.places(), heldout_source.source)[1]
    refusals += tokens.mask_refusals(examples, tokenizer, numbers, source)
    cut = tokens.truncation(examples, recipe.train.max_length, longest) if examples else None
    if cut and cut.rows_without_target == len(examples):
        message = f"no row has a target within {cut.max_length} tokens; raise train.max_length"
        refusals.append(Finding("targets-lost", message, source))
    chats = {document.id for document in measured if document.messages}
    more, warnings = tokens.end_findings(
        [e for e in examples if e.id in chats], tokenizer, stops, numbers, source
    )
    refusals += more
    warnings += tokens.text_warnings(measured, examples, tokenizer, numbers, source)
    warnings += _warnings(recipe, sources, suites, measured, examples, cut, len(train))
    return DataReport(
        name=recipe.name or "",
        sources=sources,
        train_rows=len(train),
        suites=suites,
        lengths=tokens.lengths(examples) if examples else None,
        truncation=cut,
        examples=_rendered(examples, tokenizer, numbers, cut.max_length) if cut else [],
        exact_duplicates=exact_duplicates(entries),
        near_duplicates=near_duplicates(entries, sketches),
        refusals=refusals,
        warnings=warnings,
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


def _stops(model: ModelFiles, tokenizer: Any) -> set[int]:
    """Ids at which generation stops: the tokenizer's end of sequence and the model's own."""
    file = model.local / "generation_config.json" if model.local else None
    try:
        of_model = json.loads(file.read_text()).get("eos_token_id") if file and file.exists() else None
    except (OSError, ValueError, AttributeError):
        of_model = None
    ids = {*(of_model if isinstance(of_model, list) else [of_model]), tokenizer.eos_token_id}
    return {id for id in ids if isinstance(id, int)}


def read_sources(recipe: Recipe) -> list[Source]:
    """Everything that a recipe with absolute paths reads. Raises DataError."""
    found = [read("train", recipe.data.train, form_of(recipe.task))]
    if recipe.data.heldout_share is None:
        found.append(read("heldout", str(recipe.data.heldout), form_of(recipe.task)))
    if recipe.data.replay:
        found.append(read("replay", recipe.data.replay.source, "general"))
    if recipe.evals.general:
        found.append(read("general", recipe.evals.general, "general"))
    return found


def _of(sources: Sequence[Source], role: str) -> Source:
    return next(source for source in sources if source.role == role)


def _has(sources: Sequence[Source], role: str) -> bool:
    return any(source.role == role for source in sources)


def _replayed(sources: Sequence[Source], measured: set[str]) -> list[Entry]:
    """General rows that may be mixed into training: those that are in no suite."""
    if not _has(sources, "replay"):
        return []
    source = _of(sources, "replay")
    return source.entries([document for document in source.documents if document.id not in measured])


def _heldout_suite(
    training: Sequence[Entry], heldout: Sequence[Entry], scored: int, sketches: Sketches
) -> Suite:
    leaks, clean, moved = separate(training, heldout, "heldout", sketches)
    can = findings.detectable(min(scored, len(clean)))
    return Suite("heldout", len(heldout), scored, can, leaks, [entry.id for entry in moved])


def _general_suite(
    training: Sequence[Entry], source: Source, scored: list[Document], sketches: Sketches
) -> Suite:
    entries = source.entries(scored)
    leaks = overlap(training, entries, "general", sketches)
    leaked = list(dict.fromkeys(leak.id for leak in leaks))
    can = findings.detectable(len(entries) - len(leaked))
    return Suite("general", len(source.documents), len(entries), can, leaks, leaked)


def _warnings(
    recipe: Recipe,
    sources: Sequence[Source],
    suites: Sequence[Suite],
    documents: Sequence[Document],
    examples: Sequence[Example],
    cut: Truncation | None,
    train_rows: int,
) -> list[Finding]:
    train, source, numbers = recipe.train, recipe.data.train, _of(sources, "train").places()
    found = []
    for suite in suites:
        if suite.overlapping:
            message = f"{len(suite.overlapping)} of {suite.rows} {suite.name} rows overlap with training data"
            rows = dict.fromkeys(row for leak in suite.leaks for row in leak.rows)
            found.append(Finding("overlap", message, rows=tuple(rows)[:5]))
        found += findings.heldout_size(suite.detectable.n, suite.name)
    if cut:
        kept = sum(min(len(example.tokens), cut.max_length) for example in examples)
        scale = train_rows / len(documents)
        steps = train.max_steps or kept * scale * train.epochs / train.tokens_per_step
        found += findings.few_examples(recipe.method.name, train_rows, steps, train.epochs)
        if cut.rows_without_target:
            message = f"{cut.rows_without_target} rows are cut before their answer begins, and are left out"
            found.append(Finding("cut-before-answer", message, source))
    found += findings.answers(documents, numbers, source)
    ids = [example.id for example in examples]
    for side, sizes in (
        ("prompt", [len(example.tokens) - example.targets for example in examples]),
        ("answer", [example.targets for example in examples]),
    ):
        found += findings.length_outliers(sizes, ids, numbers, side, source)
    return found


def _rendered(
    examples: Sequence[Example], tokenizer: Any, numbers: Mapping[str, Sequence[int]], max_length: int
) -> list[Rendered]:
    """The first row, one of middle length and the longest."""
    by_length = sorted(examples, key=lambda example: (len(example.tokens), example.id))
    first = min(examples, key=lambda example: numbers[example.id][0])
    chosen = {e.id: e for e in [first, by_length[len(by_length) // 2], by_length[-1]]}
    return [tokens.render(e, numbers[e.id][0], tokenizer, max_length) for e in chosen.values()][:EXAMPLES]
