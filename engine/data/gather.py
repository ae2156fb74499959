"""What a run reads, read once and for all: training rows, suites without rows that training gives away, replay.

The worker, `finetui check` and `finetui data` all use this, so that what is shown is what is trained and scored.
Torch-free.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from engine.basics.errors import DataError
from engine.data import overlap, rows, split
from engine.data.findings import Finding
from engine.data.formats import Document, form_of
from engine.data.overlap import Leak
from engine.data.rows import Source
from engine.data.shingles import Entry, shingles
from engine.recipe.sections import Recipe

# Rows of a suite that are compared with training rows, as a multiple of those that are scored: enough to fill it
# unless half of them overlap.
CANDIDATES = 2
TOO_FEW = 2  # rows, below which no mean has an error


@dataclass(frozen=True)
class Scored:
    """A suite or a slice of it: the rows to score, and those left out because training has them."""

    name: str
    slice: str  # of the suite; empty: it is not divided by the recipe
    source: Source
    rows: int  # kept from training, before the recipe's limit
    compared: list[str]  # ids of the rows that were compared with training rows in every way
    documents: list[Document]  # to score, in the order of their hash
    leaks: list[Leak]  # left out; equal ones may be beyond those compared

    @property
    def label(self) -> str:
        return f"{self.name}.{self.slice}" if self.slice else self.name


@dataclass(frozen=True)
class Compare:
    """What suites are compared with."""

    training: list[Entry]
    sets: list[np.ndarray]  # shingles of as many of them as are looked through for near rows


@dataclass(frozen=True)
class Overlap:
    """Rows of a whole suite that training has too; `engine.flags.leak` says what it means."""

    suite: str
    ids: list[str]  # that were looked through
    hits: list[Leak]


@dataclass(frozen=True)
class Gathered:
    """The documents of a run. With `refusals` it must not start."""

    sources: list[Source]
    train: list[Document]
    training: list[Entry]  # the same, by their hash, as they are compared
    heldout: Scored
    general: list[Scored]  # a slice each
    replay: list[Document]  # general rows to mix in, in order, none of them in a suite
    refusals: list[Finding]
    notes: list[str]  # what was left out, one sentence each

    @property
    def suites(self) -> list[Scored]:
        return [self.heldout, *self.general]

    def source(self, role: str) -> Source:
        return next(source for source in self.sources if source.role == role)

    def checked(self) -> Gathered:
        """Itself. Raises DataError with the first refusal."""
        if self.refusals:
            raise DataError(str(self.refusals[0]))
        return self


def gather(recipe: Recipe) -> Gathered:
    """Read the sources of a recipe (paths from the working directory) and say who goes where.

    Raises DataError where nothing can be told apart yet: a source that cannot be read, or has one row.
    """
    sources = _read(recipe)
    by_role = {source.role: source for source in sources if source.role != "general"}
    train_source, own = by_role["train"], by_role.get("heldout")
    train, heldout = split.split_task(recipe.data, train_source.documents, own.documents if own else [])
    training = train_source.entries(split.first(train, None, "report"))
    limit = recipe.evals.limit
    sets = overlap.shingle_sets(training)
    compare = Compare(training, sets)
    held = _scored("heldout", "", own or train_source, heldout, limit, compare)
    general = _general(recipe, [source for source in sources if source.role == "general"], compare)
    suites = [held, *general]
    replay = _replayed(by_role["replay"], suites) if "replay" in by_role else []
    refusals = [finding for source in sources for finding in _bad(source)]
    refusals += [finding for suite in suites for finding in _emptied(suite, train_source)]
    if recipe.data.replay and not replay:
        source = recipe.data.replay.source
        do = "add rows, or lower evals.limit"
        refusals.append(
            Finding("replay", f"{source}: every row is in a suite, so none is left to replay; {do}")
        )
    if recipe.flags.leak == "stop":
        refusals += _leaking(suites)
    notes = [rows.left_out(s.source, s.dropped, s.rows) for s in sources if s.dropped]
    notes += [_left_out(suite, train_source) for suite in suites if suite.leaks]
    return Gathered(sources, train, training, held, general, replay, refusals, notes)


def _read(recipe: Recipe) -> list[Source]:
    data, form = recipe.data, form_of(recipe.task.name)
    found = [rows.read("train", data.train, form, data.columns)]
    if data.heldout_share is None:
        found.append(rows.read("heldout", str(data.heldout), form, data.columns))
    if data.replay:
        found.append(rows.read("replay", data.replay.source, "general"))
    found += [rows.read("general", source, "general") for source in recipe.general.values()]
    return found


def _general(recipe: Recipe, sources: Sequence[Source], compare: Compare) -> list[Scored]:
    """A slice each, which share the limit; a row of several is scored in the first of them."""
    limit = max(TOO_FEW, recipe.evals.limit // max(1, len(sources)))
    names = recipe.general if isinstance(recipe.evals.general, dict) else [""]
    found: list[Scored] = []
    for name, source in zip(names, sources, strict=False):
        taken = {document.id for suite in found for document in suite.documents}
        free = [document for document in source.documents if document.id not in taken]
        found.append(_scored("general", name, source, free, limit, compare))
    return found


def _scored(
    name: str, slice: str, source: Source, documents: Sequence[Document], limit: int, compare: Compare
) -> Scored:
    ordered = split.first(list({d.id: d for d in documents}.values()), None, "eval")
    entries = source.entries(ordered)
    exact = {leak.id for leak in overlap.exact_overlap(compare.training, entries, name)}
    # Equal rows are looked for among all, near ones among those that may be scored.
    few = [entry for entry in entries if entry.id not in exact][: CANDIDATES * limit]
    both = [entry for entry in entries if entry.id in exact] + few
    leaks = overlap.leaks(compare.training, both, name, compare.sets)
    clean = {entry.id for entry in few} - {leak.id for leak in leaks}
    ids = [entry.id for entry in entries]
    compared = ids[: ids.index(few[-1].id) + 1] if len(few) == CANDIDATES * limit else ids
    to_score = [document for document in ordered if document.id in clean][:limit]
    return Scored(name, slice, source, len(documents), compared, to_score, leaks)


def shared(gathered: Gathered) -> list[list[Leak]]:
    """Of each of the suites: the scored rows with the answer of a training row, or a stretch of words."""
    training = overlap.bounded(gathered.training)
    known = overlap.train_stretches(training)
    found = []
    for suite in gathered.suites:
        entries = suite.source.entries(suite.documents)
        answers = overlap.answer_overlap(training, entries, suite.name)
        told = {leak.id for leak in answers}
        rest = [entry for entry in entries if entry.id not in told]
        found.append([*answers, *overlap.ngram_overlap(training, rest, suite.name, known)])
    return found


def overlaps(suites: Sequence[Scored], more: Sequence[list[Leak]]) -> list[Overlap]:
    """By whole suite; `more`: hits among the scored rows of each."""
    found: dict[str, Overlap] = {}
    for suite, hits in zip(suites, more, strict=True):
        whole = found.setdefault(suite.name, Overlap(suite.name, [], []))
        whole.ids.extend(suite.compared)
        whole.hits.extend([*suite.leaks, *hits])
    return list(found.values())


def _replayed(source: Source, suites: Sequence[Scored]) -> list[Document]:
    """Here the training row gives way: there are more of them than are ever mixed in."""
    documents = split.first(list({d.id: d for d in source.documents}.values()), None, "replay")
    entries = source.entries(documents)
    scored = [entry for suite in suites for entry in suite.source.entries(suite.documents)]
    texts = {entry.text for entry in scored}
    taken = {entry.id for entry in entries if entry.text in texts}
    rest = [entry for entry in entries if entry.id not in taken]
    few = [shingles(entry.text) for entry in scored]
    taken |= {rest[place].id for place, _, _ in overlap.near_pairs(overlap.shingle_sets(rest), few)}
    taken |= {leak.id for leak in overlap.ngram_overlap(scored, overlap.bounded(rest), "replay")}
    return [document for document in documents if document.id not in taken]


def _bad(source: Source) -> list[Finding]:
    why = rows.too_many_bad(source.source, source.dropped, source.rows)
    return [Finding("bad-rows", why, source.source)] if why else []


def _emptied(suite: Scored, train: Source) -> list[Finding]:
    if len(suite.documents) >= TOO_FEW or not (suite.leaks or suite.slice):
        return []
    key = f"evals.general.{suite.slice}" if suite.slice else "evals.general"
    do = (
        "give other data as data.heldout, or a share of the training data such as 10%"
        if suite.name == "heldout"
        else f"give other text as {key}, or none" + ("" if suite.slice else " (null)")
    )
    left = f"{len(suite.documents)} to score"
    if not suite.leaks:
        return [Finding("overlap", f"{key}: {_short(suite.source.source)} has only {left}; {do}")]
    return [Finding("overlap", f"{_overlapping(suite, train)}, which leaves {left}; {do}")]


def _leaking(suites: Sequence[Scored]) -> list[Finding]:
    from engine.flags.leak import leak  # brings SciPy, which no command waits for without need

    found = overlaps(suites, [[] for _ in suites])
    flags = [flag for o in found if (flag := leak(o.suite, o.ids, o.hits, scored=()))]
    return [
        Finding(
            "leak",
            f"{flag.message.partition('. ')[0]}, and flags.leak is stop: remove them from the training data "
            "(finetui data lists them), or set flags.leak=warn to run without scoring them",
        )
        for flag in flags
        if flag.level != "info"
    ]


def _left_out(suite: Scored, train: Source) -> str:
    return f"{_overlapping(suite, train)} and {'is' if len(suite.leaks) == 1 else 'are'} not scored"


def _overlapping(suite: Scored, train: Source) -> str:
    near = sum(leak.kind == "near" for leak in suite.leaks)
    count, same = len(suite.leaks), suite.source is train
    one = count == 1
    rows = f"{count} {'held-out ' if same else ''}row{'' if one else 's'} of {_short(suite.source.source)}"
    there = "the training data" if same else _short(train.source)
    if near == count:
        return f"{rows} {'is' if one else 'are'} nearly the same as rows of {there}"
    return f"{rows} {'is' if one else 'are'} also in {there}" + (f" ({near} of them nearly)" if near else "")


def _short(source: str) -> str:
    return Path(source).name if source.startswith(("/", "~")) else source
