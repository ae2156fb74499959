"""Everything that a run reads: training rows, suites without rows that leak into training, replay.

The worker, `finetui check` and `finetui data` all use this, so that what is shown is what is trained and scored.
Torch-free.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from engine.basics.errors import DataError
from engine.data import choices, overlap, rows, split
from engine.data.choices import ChoiceSet
from engine.data.findings import Finding, label_set_warnings
from engine.data.formats import Document, form_of
from engine.data.overlap import Leak
from engine.data.rows import Source
from engine.data.shingles import Entry, shingles
from engine.recipe.methods import Lora, Method
from engine.recipe.sections import Recipe
from engine.recipe.tasks import Classification

# Rows of a suite that are compared with training rows, as a multiple of those that are scored: enough to fill it
# unless half of them overlap.
CANDIDATES = 2
SPARE = 256  # general rows to begin from, as many of each slice
TOO_FEW = 2  # rows, below which no mean has an error


@dataclass(frozen=True)
class SuiteData:
    """A suite or a slice of it: the rows to score, and those not scored because training has them."""

    name: str
    slice: str  # of the suite; empty: it is not divided by the recipe
    source: Source
    rows: int  # kept from training, before the recipe's limit
    compared: list[str]  # ids of the rows that were compared with training rows in every way
    documents: list[Document]  # to score, in the order of their hash
    leaks: list[Leak]  # not scored; equal ones may be beyond those compared

    @property
    def label(self) -> str:
        return f"{self.name}.{self.slice}" if self.slice else self.name


@dataclass(frozen=True)
class TrainingRows:
    """The training rows that suites are compared with."""

    entries: list[Entry]
    shingle_sets: list[np.ndarray]  # of as many of them as are searched for near rows


@dataclass(frozen=True)
class Overlap:
    """Rows of a whole suite that training has too; `engine.flags.leak` judges them."""

    suite: str
    ids: list[str]  # that were compared
    hits: list[Leak]


@dataclass(frozen=True)
class RunData:
    """The documents of a run. If there are `refusals`, it must not start."""

    sources: list[Source]
    train: list[Document]
    training: list[Entry]  # the same, by their hash, as they are compared
    heldout: SuiteData
    general: list[SuiteData]  # a slice each
    replay: list[Document]  # general rows to mix in, in order, none of them in a suite
    refusals: list[Finding]
    notes: list[Finding]  # about keys and rows that are not read, not used or not scored
    choices: list[ChoiceSet] = field(default_factory=list)  # multiple-choice questions, a slice each
    spare: list[Document] = field(
        default_factory=list
    )  # general rows that are not scored, some of each slice

    @property
    def suites(self) -> list[SuiteData]:
        return [self.heldout, *self.general]

    def source(self, role: str) -> Source:
        return next(source for source in self.sources if source.role == role)

    def checked(self) -> RunData:
        """Return itself. Raises DataError with the first refusal."""
        if self.refusals:
            raise DataError(str(self.refusals[0]))
        return self


def gather(recipe: Recipe) -> RunData:
    """Read the sources of a recipe (paths from the working directory) and assign their rows.

    Raises DataError for a source that cannot be read or has one row; other problems are refusals in the result.
    """
    limit = recipe.evals.limit
    sources = _read_sources(recipe)
    questions = [choices.read(name, source, limit) for name, source in recipe.evals.choices.items()]
    by_role = {source.role: source for source in sources if source.role != "general"}
    train_source, heldout_source = by_role["train"], by_role.get("heldout")
    own_heldout = heldout_source.documents if heldout_source else []
    train, heldout = split.split_task(recipe.data, train_source.documents, own_heldout)
    training = train_source.entries(split.first_by_hash(train, None, "report"))
    training_rows = TrainingRows(training, overlap.shingle_sets(training))
    heldout_suite = _suite_data("heldout", "", heldout_source or train_source, heldout, limit, training_rows)
    general = _general_slices(
        recipe, [source for source in sources if source.role == "general"], training_rows
    )
    suites = [heldout_suite, *general]
    replay = _replay_documents(by_role["replay"], suites) if "replay" in by_role else []
    refusals = [finding for source in sources for finding in _bad_row_refusals(source)]
    refusals += [finding for suite in suites for finding in _empty_suite_refusals(suite, train_source)]
    if recipe.data.replay and not replay:
        source = recipe.data.replay.source
        advice = "add rows, or lower evals.limit"
        refusals.append(
            Finding("replay", f"{source}: every row is in a suite, so none is left to replay; {advice}")
        )
    if recipe.flags.leak == "stop":
        refusals += _leak_refusals(suites)
    notes = [finding for source in sources for finding in _source_notes(source)]
    if isinstance(recipe.task, Classification):
        train_labels, heldout_labels = ([document.label for document in side] for side in (train, heldout))
        notes += label_set_warnings(train_labels, heldout_labels, recipe.task.labels)
    notes += [Finding("left-out", _leak_note(suite, train_source)) for suite in suites if suite.leaks]
    notes += [Finding("left-out", note) for one in questions for note in one.notes]
    distinct_notes = list(dict.fromkeys(notes))  # one source may have several roles
    spare = _spare_documents(general)
    return RunData(
        sources, train, training, heldout_suite, general, replay, refusals, distinct_notes, questions, spare
    )


def _read_sources(recipe: Recipe) -> list[Source]:
    data, form = recipe.data, form_of(recipe.task.name)
    sources = [rows.read("train", data.train, form, data.columns)]
    if data.heldout_share is None:
        sources.append(rows.read("heldout", str(data.heldout), form, data.columns))
    if data.replay:
        sources.append(rows.read("replay", data.replay.source, "general"))
    sources += [rows.read("general", source, "general") for source in recipe.general.values()]
    return [source.for_learning(data) for source in sources]


def _general_slices(
    recipe: Recipe, sources: Sequence[Source], training_rows: TrainingRows
) -> list[SuiteData]:
    """Return a slice for each source; they share the limit. A row of several is scored in the first of them."""
    limit = max(TOO_FEW, recipe.evals.limit // max(1, len(sources)))
    names = recipe.general if isinstance(recipe.evals.general, dict) else [""]
    slices: list[SuiteData] = []
    for name, source in zip(names, sources, strict=False):
        used_ids = {document.id for suite in slices for document in suite.documents}
        unused = [document for document in source.documents if document.id not in used_ids]
        slices.append(_suite_data("general", name, source, unused, limit, training_rows))
    return slices


def _suite_data(
    name: str,
    slice: str,
    source: Source,
    documents: Sequence[Document],
    limit: int,
    training_rows: TrainingRows,
) -> SuiteData:
    ordered = split.first_by_hash(list({d.id: d for d in documents}.values()), None, "eval")
    entries = source.entries(ordered)
    exact_ids = {leak.id for leak in overlap.exact_overlap(training_rows.entries, entries, name)}
    # Equal rows are searched for among all, near ones among those that may be scored.
    candidates = [entry for entry in entries if entry.id not in exact_ids][: CANDIDATES * limit]
    entries_to_compare = [entry for entry in entries if entry.id in exact_ids] + candidates
    leaks = overlap.leaks(training_rows.entries, entries_to_compare, name, training_rows.shingle_sets)
    clean_ids = {entry.id for entry in candidates} - {leak.id for leak in leaks}
    ids = [entry.id for entry in entries]
    compared = ids[: ids.index(candidates[-1].id) + 1] if len(candidates) == CANDIDATES * limit else ids
    to_score = [document for document in ordered if document.id in clean_ids][:limit]
    return SuiteData(name, slice, source, len(documents), compared, to_score, leaks)


def scored_overlaps(run_data: RunData) -> list[list[Leak]]:
    """Return, for each suite, the scored rows with the answer of a training row, or a 13-gram of one."""
    training = overlap.bounded(run_data.training)
    train_ngrams = overlap.collect_train_ngrams(training)
    leaks = []
    for suite in run_data.suites:
        entries = suite.source.entries(suite.documents)
        answers = overlap.answer_overlap(training, entries, suite.name)
        answer_ids = {leak.id for leak in answers}
        others = [entry for entry in entries if entry.id not in answer_ids]
        leaks.append([*answers, *overlap.ngram_overlap(training, others, suite.name, train_ngrams)])
    return leaks


def suite_overlaps(suites: Sequence[SuiteData], scored_leaks: Sequence[list[Leak]]) -> list[Overlap]:
    """Return the overlaps by whole suite; `scored_leaks`: the leaks among the scored rows of each of `suites`."""
    by_name: dict[str, Overlap] = {}
    for suite, leaks in zip(suites, scored_leaks, strict=True):
        whole = by_name.setdefault(suite.name, Overlap(suite.name, [], []))
        whole.ids.extend(suite.compared)
        whole.hits.extend([*suite.leaks, *leaks])
    return list(by_name.values())


def _replay_documents(source: Source, suites: Sequence[SuiteData]) -> list[Document]:
    """Return the rows to replay. Those that a suite has are left out of them, not of the suite: of rows to replay
    there are more than are ever mixed in.
    """
    documents = split.first_by_hash(list({d.id: d for d in source.documents}.values()), None, "replay")
    entries = source.entries(documents)
    scored = [entry for suite in suites for entry in suite.source.entries(suite.documents)]
    texts = {entry.text for entry in scored}
    excluded = {entry.id for entry in entries if entry.text in texts}
    others = [entry for entry in entries if entry.id not in excluded]
    scored_sets = [shingles(entry.text) for entry in scored]
    pairs = overlap.near_pairs(overlap.shingle_sets(others), scored_sets)
    excluded |= {others[position].id for position, _, _ in pairs}
    excluded |= {leak.id for leak in overlap.ngram_overlap(scored, overlap.bounded(others), "replay")}
    return [document for document in documents if document.id not in excluded]


def check_spare(method: Method, spare: Sequence[Any]) -> None:
    """Raise DataError where a method begins from general text that is not scored, and there is none."""
    if isinstance(method, Lora) and method.begins_from_general and not spare:
        raise DataError(
            f"key method.init: {method.init} begins from general text that is not scored, and there is none; give "
            "evals.general more rows than evals.limit, or use init: corda"
        )


def _spare_documents(general: Sequence[SuiteData]) -> list[Document]:
    scored = {document.id for suite in general for document in suite.documents}
    return [
        document
        for suite in general
        for document in split.first_by_hash(
            [document for document in suite.source.documents if document.id not in scored],
            SPARE // len(general),
            "begin",
        )
    ]


def _source_notes(source: Source) -> list[Finding]:
    """Return what is not learned of a source: keys that nothing reads, rows that are skipped."""
    notes = [Finding("unread-keys", note) for note in (rows.unread_note(source), *source.notes) if note]
    for bad in (True, False):
        if dropped := [row for row in source.dropped if row.bad is bad]:
            notes.append(Finding("left-out", rows.skip_note(source.source, dropped, source.rows)))
    return notes


def _bad_row_refusals(source: Source) -> list[Finding]:
    reason = rows.refusal_reason(source.source, source.dropped, source.rows)
    return [Finding("bad-rows", reason, source.source)] if reason else []


def _empty_suite_refusals(suite: SuiteData, train: Source) -> list[Finding]:
    if len(suite.documents) >= TOO_FEW or not (suite.leaks or suite.slice):
        return []
    key = f"evals.general.{suite.slice}" if suite.slice else "evals.general"
    advice = (
        "give other data as data.heldout, or a share of the training data such as 10%"
        if suite.name == "heldout"
        else f"give other text as {key}, or none" + ("" if suite.slice else " (null)")
    )
    remainder = f"{len(suite.documents)} to score"
    if not suite.leaks:
        return [
            Finding("overlap", f"{key}: {_short_name(suite.source.source)} has only {remainder}; {advice}")
        ]
    return [Finding("overlap", f"{_overlapping(suite, train)}, which leaves {remainder}; {advice}")]


def _leak_refusals(suites: Sequence[SuiteData]) -> list[Finding]:
    from engine.flags.leak import leak  # imports SciPy, which is slow, so only where it is needed

    overlaps = suite_overlaps(suites, [[] for _ in suites])
    flags = [flag for o in overlaps if (flag := leak(o.suite, o.ids, o.hits, scored=()))]
    return [
        Finding(
            "leak",
            f"{flag.message.partition('. ')[0]}, and flags.leak is stop: remove them from the training data "
            "(finetui data lists them), or set flags.leak=warn to run without scoring them",
        )
        for flag in flags
        if flag.level != "info"
    ]


def _leak_note(suite: SuiteData, train: Source) -> str:
    return f"{_overlapping(suite, train)} and {'is' if len(suite.leaks) == 1 else 'are'} not scored"


def _overlapping(suite: SuiteData, train: Source) -> str:
    near_count = sum(leak.kind == "near" for leak in suite.leaks)
    count, same_source = len(suite.leaks), suite.source is train
    one = count == 1
    rows = f"{count} {'held-out ' if same_source else ''}row{'' if one else 's'} of {_short_name(suite.source.source)}"
    training_name = "the training data" if same_source else _short_name(train.source)
    if near_count == count:
        return f"{rows} {'is' if one else 'are'} nearly the same as rows of {training_name}"
    return f"{rows} {'is' if one else 'are'} also in {training_name}" + (
        f" ({near_count} of them nearly)" if near_count else ""
    )


def _short_name(source: str) -> str:
    return Path(source).name if source.startswith(("/", "~")) else source
