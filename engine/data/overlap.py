"""Held-out rows that training data give away: exactly, nearly, by their answer, or in a stretch of 13 words.

Exactly or nearly equal rows are what a run leaves out of its suites (`leaks`). Pure functions. Torch-free.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from engine.data.shingles import (
    BOILERPLATE_ROWS,
    NEAR,
    Entry,
    boilerplate,
    is_among,
    sampled,
    shingles,
    without,
)
from engine.data.sources import RowNumber
from engine.data.stretches import Stretches, common_in, stretches

# Training rows and their characters that are looked through for near ones and for words: a few seconds of work.
NEAR_ROWS, NEAR_CHARACTERS = 20_000, 20_000_000

# In a shorter conversation a word is too much of it, and a shorter answer is anybody's.
ONE_WORD_FROM = 8  # words
ANSWER_WORDS, ANSWER_CHARACTERS = 4, 20

Kind = Literal["exact", "near", "answer", "13-gram"]


@dataclass(frozen=True)
class Leak:
    """A held-out row and the training row most like it."""

    kind: Kind
    suite: str
    id: str  # content id of the held-out row
    rows: tuple[RowNumber, ...]  # of the held-out row, from 1
    train_source: str
    train_rows: tuple[RowNumber, ...]
    # exact, answer: 1; near: Jaccard, or share of equal words; 13-gram: share of the row's stretches seen in training
    similarity: float
    preview: str
    train_preview: str

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def leaks(
    train: Sequence[Entry], heldout: Sequence[Entry], suite: str, sets: Sequence[np.ndarray] | None = None
) -> list[Leak]:
    """The held-out rows that equal a training row or nearly do, each once; nearly, among `comparable` ones.

    `sets`: `shingle_sets` of the training rows, where the caller has them.
    """
    exact = exact_overlap(train, heldout, suite)
    seen = {leak.id for leak in exact}
    sets = shingle_sets(train) if sets is None else sets
    rest = [entry for entry in heldout if entry.id not in seen]
    near = near_overlap(train, rest, suite, sets)
    seen = {leak.id for leak in near}
    return exact + near + one_word_overlap(comparable(train), [e for e in rest if e.id not in seen], suite)


def shingle_sets(train: Sequence[Entry]) -> list[np.ndarray]:
    """The shingles of the training rows that are looked through for near ones."""
    return [shingles(entry.text) for entry in comparable(train)]


def comparable(entries: Sequence[Entry]) -> Sequence[Entry]:
    """The first of the larger side of a comparison, as many as may be; none where there are too few to show what is
    template, and so what is near.
    """
    kept = bounded(entries)
    return kept if len(kept) > BOILERPLATE_ROWS else []


def bounded(entries: Sequence[Entry]) -> Sequence[Entry]:
    """The first ones, as many as `NEAR_ROWS` and `NEAR_CHARACTERS` allow."""
    characters = np.cumsum([len(entry.text) for entry in entries[:NEAR_ROWS]])
    return entries[: int(np.searchsorted(characters, NEAR_CHARACTERS, "right"))]


def exact_overlap(train: Sequence[Entry], heldout: Sequence[Entry], suite: str) -> list[Leak]:
    """Held-out rows whose normalised content is a training row's."""
    by_text = {entry.text: entry for entry in reversed(train)}
    return [_leak("exact", suite, e, by_text[e.text], 1.0) for e in heldout if e.text in by_text]


def near_overlap(
    train: Sequence[Entry], heldout: Sequence[Entry], suite: str, sets: Sequence[np.ndarray] | None = None
) -> list[Leak]:
    """Held-out rows nearly equal to a training row, and the most similar one.

    `sets`: the shingles of the first training rows, or of all if not given.
    """
    best: dict[int, tuple[float, int]] = {}
    sets = [shingles(entry.text) for entry in train] if sets is None else sets
    for place, other, similarity in near_pairs(sets, [shingles(entry.text) for entry in heldout]):
        if similarity > best.get(other, (0.0, 0))[0]:
            best[other] = similarity, place
    return [
        _leak("near", suite, heldout[other], train[place], similarity)
        for other, (similarity, place) in sorted(best.items())
    ]


def one_word_overlap(train: Sequence[Entry], heldout: Sequence[Entry], suite: str) -> list[Leak]:
    """Held-out conversations that are a training row but for one word, changed, added or gone.

    In a short row this may be far from 80% of the shingles. A question about another thing differs in the answer as
    well, so in two words; where one word alone tells many training rows apart, it is the slot of a template.
    """
    rows = {place: entry.text.split() for place, entry in enumerate(heldout) if entry.answer}
    # A row of n words that differs in one keeps its first n // 2 words or its last.
    halves: dict[tuple[int, bool, tuple[str, ...]], list[int]] = defaultdict(list)
    for place, words in rows.items():
        if len(words) >= ONE_WORD_FROM:
            half = len(words) // 2
            halves[len(words), True, tuple(words[:half])].append(place)
            halves[len(words), False, tuple(words[-half:])].append(place)
    sizes = {size for size, _, _ in halves}
    # Held-out row to training texts, each with its place.
    found: dict[int, dict[str, int]] = defaultdict(dict)
    for place, entry in enumerate(train if halves else ()):
        words = entry.text.split() if entry.answer else []
        for size in sizes & {len(words) - 1, len(words), len(words) + 1}:
            half = size // 2
            first, last = (size, True, tuple(words[:half])), (size, False, tuple(words[-half:]))
            for other in {*halves.get(first, ()), *halves.get(last, ())}:
                if _differ_in_one(words, rows[other]):
                    found[other].setdefault(entry.text, place)
    return [
        _leak("near", suite, heldout[other], train[min(places.values())], 1 - 1 / len(rows[other]))
        for other, places in sorted(found.items())
        if len(places) <= common_in(len(train))
    ]


def _differ_in_one(a: Sequence[str], b: Sequence[str]) -> bool:
    """Whether words become others by changing, adding or removing at most one."""
    short, long = sorted((a, b), key=len)
    same = list(map(str.__eq__, a, b))
    start = same.index(False) if False in same else len(same)
    same = list(map(str.__eq__, a[::-1], b[::-1]))
    end = same.index(False) if False in same else len(same)
    return len(long) - len(short) <= 1 and start + end >= len(long) - 1


def answer_overlap(train: Sequence[Entry], heldout: Sequence[Entry], suite: str) -> list[Leak]:
    """Held-out rows whose answer, or whole text, is the answer to another question in training: one that is long
    enough to be nobody else's, and stands in few rows.
    """
    wanted = {said for entry in heldout if _is_distinctive(said := entry.answer or entry.text)}
    where: dict[str, list[int]] = defaultdict(list)
    for place, entry in enumerate(train):
        if entry.answer in wanted:
            where[entry.answer].append(place)
    found = [(entry, where.get(entry.answer or entry.text, [])) for entry in heldout]
    return [
        _leak("answer", suite, entry, train[places[0]], 1.0)
        for entry, places in found
        if 0 < len(places) <= common_in(len(train))
    ]


def _is_distinctive(answer: str) -> bool:
    return len(answer) >= ANSWER_CHARACTERS and len(answer.split()) >= ANSWER_WORDS


def near_pairs(
    many: Sequence[np.ndarray], few: Sequence[np.ndarray], threshold: float = NEAR
) -> Iterator[tuple[int, int, float]]:
    """(place among the many, place among the few, Jaccard similarity) of shingle sets from `threshold` on, template
    left out.

    No sketch is needed, since one side is small: a row can only be so similar to some of the few if this share
    of its shingles stands in any of them.
    """
    if not many or not few:
        return
    template = boilerplate(sampled(many))
    theirs = [without(own, template) for own in few]
    sizes = np.array([len(own) for own in theirs])
    values = np.concatenate(theirs)
    order = np.argsort(values, kind="stable")
    values, owners = values[order], np.repeat(np.arange(len(theirs)), sizes)[order]
    for place, own in enumerate(many):
        mine = without(own, template)
        mine_there = mine[is_among(mine, values)]
        if len(mine_there) < threshold * len(mine):
            continue
        start = np.searchsorted(values, mine_there, "left")
        end = np.searchsorted(values, mine_there, "right")
        hits = np.concatenate([owners[a:b] for a, b in zip(start.tolist(), end.tolist(), strict=True)])
        common = np.bincount(hits, minlength=len(theirs))
        similarity = common / (len(mine) + sizes - common)
        for other in np.flatnonzero(similarity >= threshold).tolist():
            yield place, other, float(similarity[other])


def ngram_overlap(
    train: Sequence[Entry], heldout: Sequence[Entry], suite: str, known: Stretches | None = None
) -> list[Leak]:
    """Held-out rows with a stretch of 13 words that also stands in a training row.

    `known`: the stretches of the training rows, where the caller has them.
    """
    known = train_stretches(train) if known is None else known
    own = stretches([entry.text for entry in heldout], known.template)
    there = is_among(known.hashes, np.unique(own.hashes))
    where: dict[int, list[int]] = defaultdict(list)  # stretch to training rows
    for stretch, place in zip(known.hashes[there].tolist(), known.places[there].tolist(), strict=True):
        where[stretch].append(place)
    hits: dict[int, list[list[int]]] = defaultdict(list)  # held-out row to the training rows of its stretches
    for stretch, other in zip(own.hashes.tolist(), own.places.tolist(), strict=True):
        if 0 < len(where.get(stretch, ())) <= known.common:
            hits[other].append(where[stretch])
    sizes = np.bincount(own.places, minlength=len(heldout))
    leaks = []
    for other, places in sorted(hits.items()):
        counts = Counter(place for found in places for place in found)
        place = min(counts, key=lambda place: (-counts[place], place))
        leaks.append(_leak("13-gram", suite, heldout[other], train[place], len(places) / int(sizes[other])))
    return leaks


def train_stretches(train: Sequence[Entry]) -> Stretches:
    """Of each training text the first time that it stands there."""
    first = {entry.text: place for place, entry in reversed(list(enumerate(train)))}
    return stretches([entry.text if first[entry.text] == place else "" for place, entry in enumerate(train)])


def _leak(kind: Kind, suite: str, heldout: Entry, train: Entry, similarity: float) -> Leak:
    return Leak(
        kind=kind,
        suite=suite,
        id=heldout.id,
        rows=heldout.rows,
        train_source=train.source,
        train_rows=train.rows,
        similarity=similarity,
        preview=heldout.preview,
        train_preview=train.preview,
    )
