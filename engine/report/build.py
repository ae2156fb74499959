"""Report on the data of a recipe, before it runs: `finetui data`.

The rows that are read, skipped, tokenised and refused are those of a run, by the same code (`engine.data.gather`,
`engine.data.masks`); here all of them are reported. Torch-free.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.client.preflight import absolute
from engine.data import findings, masks, split
from engine.data.chat import Example
from engine.data.data_cache import gather_once
from engine.data.duplicates import Duplicates, exact_duplicates, near_duplicates
from engine.data.findings import Detectable, Finding
from engine.data.formats import Document
from engine.data.gather import RunData, SuiteData, scored_overlaps
from engine.data.labels import labels_of
from engine.data.overlap import Leak
from engine.data.rows import DroppedRow, Source, refusal_reason, skip_note
from engine.data.sources import number_order
from engine.data.template import ensure_template
from engine.models.source import ModelFiles, resolve_model
from engine.models.tokenizer import load_tokenizer
from engine.recipe.sections import Recipe
from engine.recipe.tasks import Classification, Completion
from engine.report import tokens
from engine.report.tokens import Lengths, RenderedRow, Truncation
from engine.tasks.items import Item
from engine.tasks.prepare import (
    AS_TEXT,
    MakeItems,
    auto_limit,
    chosen_texts,
    item_texts,
    items_maker,
    length_limit,
)
from finetui.home import home

EXAMPLES = 24  # rendered
BRIEF = 500  # training rows that `brief_report` examines; rows to replay that both reports do


@dataclass(frozen=True)
class SuiteReport:
    """Rows kept from training, and which of them leak into it."""

    name: str  # and of its slice, if it is one
    rows: int  # kept from training
    scored: int
    detectable: Detectable  # from the scored rows
    left_out: list[Leak]  # rows that are equal or nearly equal to a training row
    shared: list[Leak]  # scored rows that share the answer or a 13-gram with a training row

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
    """The report of `finetui data`. A run with `refusals` must not start."""

    name: str
    sources: list[Source]
    train_rows: int
    suites: list[SuiteReport]
    lengths: Lengths | None  # None where no row has a target
    truncation: Truncation | None
    examples: list[RenderedRow]
    exact_duplicates: list[Duplicates]
    near_duplicates: list[Duplicates]
    refusals: list[Finding]
    warnings: list[Finding]

    def as_dict(self) -> dict[str, Any]:
        """Return plain values, for JSON."""
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
        """Return one page for people, without colour."""
        from engine.report.page import lines

        return lines(self.as_dict())


def build(recipe: Recipe, base: Path) -> DataReport:
    """Return the report on a recipe; its paths are relative to `base`. Raises ModelError or DataError."""
    recipe = absolute(recipe, base)
    model = resolve_model(recipe.model.path, recipe.task.name)
    run_data = gather_once(recipe, home().cache / "data")  # before the tokenizer, which takes seconds to load
    tokenizer = load_tokenizer(recipe.model)
    ensure_template(tokenizer)
    longest = _longest_of_model(recipe, model, tokenizer) - recipe.virtual_tokens
    return report(recipe, run_data, tokenizer, longest, masks.stop_ids(model.local, tokenizer))


@dataclass(frozen=True)
class BriefReport:
    """Findings about some training rows once they are tokenised."""

    refusals: list[Finding]
    warnings: list[Finding]

    def as_dict(self) -> dict[str, Any]:
        return {name: [str(finding) for finding in values] for name, values in vars(self).items()}


def brief_report(recipe: Recipe, base: Path) -> BriefReport:
    """Return what would refuse a run once its tokenizer is loaded. Raises ModelError or DataError."""
    recipe = absolute(recipe, base)
    model = resolve_model(recipe.model.path, recipe.task.name)
    run_data = gather_once(recipe, home().cache / "data").checked()
    tokenizer = load_tokenizer(recipe.model)
    ensure_template(tokenizer)
    sample = split.first_by_hash(run_data.train, BRIEF, "report")
    longest = _longest_of_model(recipe, model, tokenizer) - recipe.virtual_tokens
    seen = _examine(recipe, run_data, sample, tokenizer, longest, masks.stop_ids(model.local, tokenizer))
    refusals = seen.untargeted[0] + seen.learned[0]
    warnings = seen.untargeted[1] + seen.learned[1]
    (refusals if len(sample) == len(run_data.train) else warnings).extend(seen.lost_targets)
    return BriefReport(refusals, warnings + seen.cut)


def report(recipe: Recipe, run_data: RunData, tokenizer: Any, longest: int, stop_ids: set[int]) -> DataReport:
    """Return the report on the data of a recipe, by a tokenizer with a chat template.

    `longest`: tokens that the model takes; `stop_ids`: ids at which its generation stops.
    """
    source = run_data.source("train")
    entries = source.entries(run_data.train)
    examined = run_data.train
    if len(examined) > masks.EXAMINED_ROWS:
        examined = split.first_by_hash(examined, masks.EXAMINED_ROWS, "report")
    seen = _examine(recipe, run_data, examined, tokenizer, longest, stop_ids)
    items, truncation = seen.items, seen.truncation
    refusals = [*run_data.refusals, *seen.untargeted[0], *seen.lost_targets, *seen.learned[0]]
    warnings = seen.untargeted[1] + seen.learned[1]
    suites = [
        _suite_report(suite, leaks)
        for suite, leaks in zip(run_data.suites, scored_overlaps(run_data), strict=True)
    ]
    examples = [tokens.as_example(text) for item in items for text in item_texts(item)]
    warnings += _warnings(recipe, run_data, suites, examined, examples, truncation)
    first_texts = [tokens.as_example(item_texts(item)[0]) for item in items]
    warnings += _length_warnings(first_texts, source) + seen.cut
    return DataReport(
        name=recipe.name or "",
        sources=run_data.sources,
        train_rows=len(run_data.train),
        suites=suites,
        lengths=tokens.lengths_of(examples, len(items)) if examples else None,
        truncation=truncation,
        examples=_render_examples(items, tokenizer, source, truncation.max_length, run_data)
        if truncation
        else [],
        exact_duplicates=exact_duplicates(entries),
        near_duplicates=near_duplicates(entries),
        refusals=refusals,
        warnings=warnings,
    )


@dataclass(frozen=True)
class _Examined:
    """What a model would learn of some training rows, and what is wrong with it."""

    items: list[Item]
    truncation: Truncation | None
    untargeted: tuple[list[Finding], list[Finding]]  # (refusals, warnings) about rows without a target
    learned: tuple[list[Finding], list[Finding]]  # (refusals, warnings) about tokens, masks and ends
    lost_targets: list[Finding]  # where all targets are cut off
    cut: list[Finding]  # warnings about rows that lose their answer


def _examine(
    recipe: Recipe,
    run_data: RunData,
    documents: Sequence[Document],
    tokenizer: Any,
    longest: int,
    stop_ids: set[int],
) -> _Examined:
    """Examine training rows as the worker would; `longest` and `stop_ids` as in `report`."""
    source = run_data.source("train")
    make_items = _items_maker(recipe, run_data)
    items, without_targets = masks.tokenize_documents(documents, tokenizer, source, make_items)
    parts = [
        (source, documents, without_targets),
        *_others_without_targets(run_data, tokenizer, make_items),
    ]
    truncation = _truncation(recipe, items, longest)
    max_length = truncation.max_length if truncation else longest
    return _Examined(
        items,
        truncation,
        _no_target_findings(parts),
        masks.examine(documents, chosen_texts(items), tokenizer, stop_ids, source, max_length),
        _lost_targets_refusals(truncation, items, source),
        _cut_warnings(truncation, items, source),
    )


def _items_maker(recipe: Recipe, run_data: RunData) -> MakeItems:
    labels = labels_of(recipe.task, run_data) if isinstance(recipe.task, Classification) else []
    return items_maker(recipe.task, labels)


def _truncation(recipe: Recipe, items: Sequence[Item], longest: int) -> Truncation | None:
    """Return what `train.max_length` cuts; None without items."""
    if not items:
        return None
    limit = length_limit(recipe, items, longest)
    auto = auto_limit(recipe, items, longest)
    split_up = isinstance(recipe.task, Completion)
    return tokens.truncation_of(items, recipe.train.max_length, limit, auto, longest, split_up=split_up)


def _lost_targets_refusals(
    truncation: Truncation | None, items: Sequence[Item], source: Source
) -> list[Finding]:
    if truncation is None or truncation.rows_without_target < len(items):
        return []
    message = f"no row has a target within {truncation.max_length} tokens; raise train.max_length"
    return [Finding("targets-lost", message, source.source)]


def _cut_warnings(truncation: Truncation | None, items: Sequence[Item], source: Source) -> list[Finding]:
    """Return a warning about rows that lose their whole answer; none if all do, which is refused."""
    if truncation is None:
        return []
    kept = {item.id for item in items if item.cut(truncation.max_length)}
    lost = list(dict.fromkeys(item.id for item in items if item.id not in kept))
    if truncation.split_up or not lost or not kept:
        return []
    message = (
        f"{len(lost)} of {len(kept) + len(lost)} rows are cut to {truncation.max_length} tokens before their answer "
        "begins, and are skipped; raise train.max_length or shorten them"
    )
    row_numbers = source.row_numbers()
    rows = sorted((row for id in lost for row in row_numbers[id]), key=number_order)
    return [Finding("cut-before-answer", message, source.source, tuple(rows[:5]))]


# A source, documents of it that were tokenised, and those of its rows that have no target.
_Part = tuple[Source, Sequence[Document], list[DroppedRow]]


def _no_target_findings(parts: Sequence[_Part]) -> tuple[list[Finding], list[Finding]]:
    """Return (refusals, warnings) about rows that have no target, or that the chat template refuses."""
    refusals, warnings = list[Finding](), list[Finding]()
    for source, documents, dropped in parts:
        if reason := refusal_reason(source.source, dropped, len(documents)):
            refusals.append(Finding("no-targets", reason, source.source))
        elif dropped:
            warnings.append(Finding("no-targets", skip_note(source.source, dropped, len(documents))))
    return refusals, warnings


def _others_without_targets(run_data: RunData, tokenizer: Any, make_items: MakeItems) -> Iterator[_Part]:
    """Yield the suites and the first rows to replay."""
    for suite in run_data.suites:
        make_suite_items = make_items if suite is run_data.heldout else AS_TEXT
        _, dropped = masks.tokenize_documents(suite.documents, tokenizer, suite.source, make_suite_items)
        yield suite.source, suite.documents, dropped
    if replay := run_data.replay[:BRIEF]:
        source = run_data.source("replay")
        yield source, replay, masks.tokenize_documents(replay, tokenizer, source, AS_TEXT)[1]


def _longest_of_model(recipe: Recipe, model: ModelFiles, tokenizer: Any) -> int:
    if model.max_positions:
        return model.max_positions
    from transformers import AutoConfig

    try:
        config = AutoConfig.from_pretrained(model.path, trust_remote_code=recipe.model.trust_remote_code)
    except (OSError, ValueError, KeyError):
        return int(tokenizer.model_max_length)
    positions = getattr(config.get_text_config(), "max_position_embeddings", None)
    return int(positions or tokenizer.model_max_length)


def _suite_report(suite: SuiteData, shared: list[Leak]) -> SuiteReport:
    detectable = findings.detectable(len(suite.documents), suite.name)
    return SuiteReport(suite.label, suite.rows, len(suite.documents), detectable, suite.leaks, shared)


def _warnings(
    recipe: Recipe,
    run_data: RunData,
    suites: Sequence[SuiteReport],
    documents: Sequence[Document],
    examples: Sequence[Example],
    truncation: Truncation | None,
) -> list[Finding]:
    source, numbers = recipe.data.train, run_data.source("train").row_numbers()
    warnings = list(run_data.notes)
    for suite in suites:
        if suite.shared:
            which = f"{len(suite.shared)} of {suite.scored} scored {suite.name} rows"
            rows = dict.fromkeys(row for leak in suite.shared for row in leak.rows)
            warnings.append(
                Finding(
                    "overlap",
                    f"{which} share {_shared_kinds(suite)} with training data",
                    rows=tuple(rows)[:5],
                )
            )
        warnings += findings.heldout_size_warnings(suite.scored, suite.name)
    if truncation:
        kept = sum(min(len(example.tokens), truncation.max_length) for example in examples)
        train_rows = len(run_data.train)
        total_tokens = kept * train_rows / max(1, len(documents))
        warnings += findings.train_size_warnings(recipe.method.name, recipe.train, train_rows, total_tokens)
    if labels := [document.label for document in run_data.train if document.label]:
        warnings += findings.label_balance_warnings(labels)
        warnings += findings.contradiction_warnings(run_data.train, numbers, source)
    warnings += findings.answer_warnings(documents, numbers, source)
    return warnings


def _shared_kinds(suite: SuiteReport) -> str:
    names = {"answer": "the answer", "13-gram": "13 words"}
    kinds = {leak.kind for leak in suite.shared}
    return " or ".join(name for kind, name in names.items() if kind in kinds)


def _length_warnings(examples: Sequence[Example], source: Source) -> list[Finding]:
    ids, row_numbers = [example.id for example in examples], source.row_numbers()
    warnings = []
    for side, sizes in (
        ("prompt", [len(example.tokens) - example.targets for example in examples]),
        ("answer", [example.targets for example in examples]),
    ):
        warnings += findings.length_warnings(sizes, ids, row_numbers, side, source.source)
    return warnings


def _render_examples(
    items: Sequence[Item], tokenizer: Any, source: Source, max_length: int, run_data: RunData
) -> list[RenderedRow]:
    """Render the first row, one of middle length and the longest; then others, evenly from the file."""
    row_numbers = source.row_numbers()
    labels = {document.id: document.label for document in run_data.train}
    by_length = [item.id for item in sorted(items, key=lambda item: (len(item.tokens), item.id))]
    by_row = sorted({item.id for item in items}, key=lambda id: number_order(row_numbers[id][0]))
    others = by_row[:: max(1, len(by_row) // EXAMPLES)]
    chosen = dict.fromkeys([by_row[0], by_length[len(by_length) // 2], by_length[-1], *others])
    of_row: dict[str, dict[bytes, Item]] = defaultdict(dict)  # several where answers need a text of their own
    for item in items:
        of_row[item.id][item.content] = item
    return [
        tokens.render(item, row_numbers[id][0], tokenizer, max_length, labels[id])
        for id in chosen
        for item in of_row[id].values()
    ][:EXAMPLES]
