"""Held-out rows that training data give away: exactly, in a stretch of 13 words, or nearly.

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
from engine.data.stretches import Stretches, stretches

# Training rows and their characters that are looked through for near ones and for words: a few seconds of work.
NEAR_ROWS, NEAR_CHARACTERS = 20_000, 20_000_000

Kind = Literal["exact", "near", "13-gram"]


@dataclass(frozen=True)
class Leak:
    """A held-out row and the training row most like it."""

    kind: Kind
    suite: str
    id: str  # content id of the held-out row
    rows: tuple[RowNumber, ...]  # of the held-out row, from 1
    train_source: str
    train_rows: tuple[RowNumber, ...]
    similarity: float  # exact: 1; near: Jaccard; 13-gram: share of the row's stretches seen in training
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
    return exact + near_overlap(train, rest, suite, sets)


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
