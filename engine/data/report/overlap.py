"""Held-out rows that training data give away: exactly, in a stretch of 13 words, or nearly.

The 13-gram rule is that of T. Brown et al., "Language models are few-shot learners", 2020, appendix C, with one
change: words that stand in many training rows are template, and a stretch of mostly template is no leak.
Pure functions. Torch-free.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from engine.data.report.duplicates import NEAR, Entry, Index, Sketches, rolling_hashes

WORDS = 13
# What stands in more training rows than both is template: a stretch, or words of it (by runs of five).
COMMON_ROWS, COMMON_SHARE = 5, 0.005
TEMPLATE_WORDS, TEMPLATE_SAMPLE = 5, 5000

Kind = Literal["exact", "near", "13-gram"]


@dataclass(frozen=True)
class Leak:
    """A held-out row and the training row most like it."""

    kind: Kind
    suite: str
    id: str  # content id of the held-out row
    rows: tuple[int, ...]  # of the held-out row, from 1
    train_source: str
    train_rows: tuple[int, ...]
    similarity: float  # exact: 1; near: Jaccard; 13-gram: share of the row's stretches seen in training
    preview: str
    train_preview: str

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def overlap(
    train: Sequence[Entry], heldout: Sequence[Entry], suite: str, sketches: Sketches | None = None
) -> list[Leak]:
    """Every held-out row that overlaps with training data, at most once per kind; exact ones only as such.

    `sketches`: those of `train`, in its order, where they are known already.
    """
    exact = exact_overlap(train, heldout, suite)
    seen = {leak.id for leak in exact}
    rest = [entry for entry in heldout if entry.id not in seen]
    return exact + near_overlap(train, rest, suite, sketches) + ngram_overlap(train, rest, suite)


def separate(
    train: Sequence[Entry], heldout: Sequence[Entry], suite: str, sketches: Sketches | None = None
) -> tuple[list[Leak], list[Entry], list[Entry]]:
    """(leaks, clean held-out rows, rows to move to training or to refuse).

    Once moved, a row is training data itself, so the clean ones are compared with the moved ones again.
    """
    sketches = sketches or Sketches([entry.text for entry in train])
    leaks: list[Leak] = []
    clean, moved = list(heldout), list[Entry]()
    found = overlap(train, clean, suite, sketches)
    while found:
        leaked = {leak.id for leak in found}
        leaks += found
        last = [entry for entry in clean if entry.id in leaked]
        moved += last
        clean = [entry for entry in clean if entry.id not in leaked]
        # What is template is decided by all training data, not by the few rows that moved.
        of_last = Sketches([entry.text for entry in last], sketches.boilerplate)
        found = near_overlap(last, clean, suite, of_last) + ngram_overlap([*train, *moved], clean, suite)
    return leaks, clean, moved


def exact_overlap(train: Sequence[Entry], heldout: Sequence[Entry], suite: str) -> list[Leak]:
    """Held-out rows whose normalised content is a training row's."""
    by_text = {entry.text: entry for entry in reversed(train)}
    return [_leak("exact", suite, e, by_text[e.text], 1.0) for e in heldout if e.text in by_text]


def near_overlap(
    train: Sequence[Entry],
    heldout: Sequence[Entry],
    suite: str,
    sketches: Sketches | None = None,
    threshold: float = NEAR,
) -> list[Leak]:
    """Held-out rows at least `threshold` similar to a training row."""
    if not train or not heldout:
        return []
    mine = sketches or Sketches([entry.text for entry in train])
    theirs = Sketches([entry.text for entry in heldout], mine.boilerplate)
    # The smaller side is indexed; the larger one asks.
    index = Index(theirs)
    for place in range(len(heldout)):
        index.add(place)
    best: dict[int, tuple[float, int]] = {}
    for place in range(len(train)):
        for other, similarity in index.similar(mine, place, threshold):
            if similarity > best.get(other, (0.0, 0))[0]:
                best[other] = similarity, place
    return [
        _leak("near", suite, heldout[other], train[place], similarity)
        for other, (similarity, place) in sorted(best.items())
    ]


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
        for stretch in found[_is_among(found, wanted)].tolist():
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
    shared = _is_among(rolling_hashes(words, TEMPLATE_WORDS), template)
    # A word is template if any of the runs of five that hold it is.
    is_template = np.convolve(shared, np.ones(TEMPLATE_WORDS, dtype=np.int64)) > 0
    own_words = np.convolve(~is_template, np.ones(WORDS, dtype=np.int64), mode="valid")
    return np.unique(rolling_hashes(words, WORDS)[own_words > WORDS // 2])


def _words(text: str) -> np.ndarray:
    # Python's own hash has 64 bits and differs between processes, which nothing here sees.
    return np.array([hash(word) & 0xFFFFFFFFFFFFFFFF for word in re.findall(r"\w+", text)], dtype=np.uint64)


def _is_among(values: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Which values are wanted, a sorted array; np.isin would sort it every time."""
    if not len(wanted):
        return np.zeros(len(values), dtype=bool)
    return wanted[np.minimum(np.searchsorted(wanted, values), len(wanted) - 1)] == values


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
