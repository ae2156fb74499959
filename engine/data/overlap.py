"""Held-out rows that training data give away: exactly, in a stretch of 13 words, or nearly.

The 13-gram rule is that of T. Brown et al., "Language models are few-shot learners", 2020, appendix C, with one
change: words that stand in many training rows are template, and a stretch of mostly template is no leak.
Exactly or nearly equal rows are what a run leaves out of its suites (`leaks`). Pure functions. Torch-free.
"""

from __future__ import annotations

import re
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
    rolling_hashes,
    sampled,
    shingles,
    without,
)
from engine.data.sources import RowNumber

WORDS = 13
# What stands in more training rows than both is template: a stretch, or words of it (by runs of five).
COMMON_ROWS, COMMON_SHARE = 5, 0.005
TEMPLATE_WORDS, TEMPLATE_SAMPLE = 5, 5000
# Training rows and their characters that are looked through for near ones: a few seconds of work.
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
    """The first of the larger side of a comparison, as many as `NEAR_ROWS` and `NEAR_CHARACTERS` allow; none
    where there are too few to show what is template, and so what is near.
    """
    characters = np.cumsum([len(entry.text) for entry in entries[:NEAR_ROWS]])
    kept = int(np.searchsorted(characters, NEAR_CHARACTERS, "right"))
    return entries[:kept] if kept > BOILERPLATE_ROWS else []


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


def ngram_overlap(train: Sequence[Entry], heldout: Sequence[Entry], suite: str) -> list[Leak]:
    """Held-out rows with a stretch of 13 words that also stands in a training row."""
    template = _template(train)
    stretches = [_stretches(entry.text, template) for entry in heldout]
    wanted = np.unique(np.concatenate([*stretches, np.zeros(0, dtype=np.uint64)]))
    if not len(wanted):
        return []
    where: dict[int, list[int]] = defaultdict(list)  # stretch to training rows
    first_place = {entry.text: place for place, entry in reversed(list(enumerate(train)))}
    for text, place in first_place.items():
        found = _stretches(text, template)
        for stretch in found[is_among(found, wanted)].tolist():
            where[stretch].append(place)
    common = max(COMMON_ROWS, COMMON_SHARE * len(train))
    rare = {stretch: places for stretch, places in where.items() if len(places) <= common}
    leaks = []
    for entry, own in zip(heldout, stretches, strict=True):
        hits = [rare[stretch] for stretch in own.tolist() if stretch in rare]
        if hits:
            place, _ = Counter(place for places in hits for place in places).most_common(1)[0]
            leaks.append(_leak("13-gram", suite, entry, train[place], len(hits) / len(own)))
    return leaks


def _template(train: Sequence[Entry]) -> np.ndarray:
    """Hashes of the runs of five words that many rows share; uint64, sorted."""
    sample = train[:: max(1, len(train) // TEMPLATE_SAMPLE)]
    runs = [np.unique(rolling_hashes(_words(entry.text), TEMPLATE_WORDS)) for entry in sample]
    values, counts = np.unique(np.concatenate([*runs, np.zeros(0, dtype=np.uint64)]), return_counts=True)
    return values[counts > max(COMMON_ROWS, COMMON_SHARE * len(sample))]


def _stretches(text: str, template: np.ndarray) -> np.ndarray:
    """Hashes of the distinct runs of 13 words, whatever the punctuation, of which most are no template; uint64."""
    words = _words(text)
    if len(words) < WORDS:
        return np.zeros(0, dtype=np.uint64)
    shared = is_among(rolling_hashes(words, TEMPLATE_WORDS), template)
    # A word is template if any of the runs of five that hold it is.
    is_template = np.convolve(shared, np.ones(TEMPLATE_WORDS, dtype=np.int64)) > 0
    own_words = np.convolve(~is_template, np.ones(WORDS, dtype=np.int64), mode="valid")
    return np.unique(rolling_hashes(words, WORDS)[own_words > WORDS // 2])


def _words(text: str) -> np.ndarray:
    # Python's own hash has 64 bits and differs between processes, which nothing here sees.
    return np.array([hash(word) & 0xFFFFFFFFFFFFFFFF for word in re.findall(r"\w+", text)], dtype=np.uint64)


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
