"""Held-out rows that leak into training data: exactly, nearly, by their answer, or by a 13-gram of words.

A run does not score rows that are exactly or nearly equal to a training row (`leaks`). Pure functions. Torch-free.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from engine.data.ngrams import Ngrams, collect_ngrams, max_texts_of
from engine.data.shingles import (
    BOILERPLATE_ROWS,
    NEAR,
    Entry,
    find_boilerplate,
    is_among,
    remove_boilerplate,
    sample_rows,
    shingles,
)
from engine.data.sources import RowNumber

# Training rows, and characters of them, that are searched for near rows and 13-grams: a few seconds of work.
NEAR_ROWS, NEAR_CHARACTERS = 20_000, 20_000_000

# In a shorter conversation one word is too large a part; a shorter answer is common to many questions.
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
    # exact, answer: 1; near: Jaccard, or share of equal words; 13-gram: share of the row's 13-grams seen in training
    similarity: float
    preview: str
    train_preview: str

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def leaks(
    train: Sequence[Entry], heldout: Sequence[Entry], suite: str, sets: Sequence[np.ndarray] | None = None
) -> list[Leak]:
    """Return the held-out rows equal or nearly equal to a training row, each once; nearly, among `comparable` ones.

    `sets`: `shingle_sets` of the training rows, if the caller has them.
    """
    exact = exact_overlap(train, heldout, suite)
    seen = {leak.id for leak in exact}
    sets = shingle_sets(train) if sets is None else sets
    rest = [entry for entry in heldout if entry.id not in seen]
    near = near_overlap(train, rest, suite, sets)
    seen = {leak.id for leak in near}
    return exact + near + one_word_overlap(comparable(train), [e for e in rest if e.id not in seen], suite)


def shingle_sets(train: Sequence[Entry]) -> list[np.ndarray]:
    """Return the shingles of the training rows that are searched for near ones."""
    return [shingles(entry.text) for entry in comparable(train)]


def comparable(entries: Sequence[Entry]) -> Sequence[Entry]:
    """Return the first rows of the larger side of a comparison, `bounded`; none if they are too few to show what is
    boilerplate, and so what is near.
    """
    kept = bounded(entries)
    return kept if len(kept) > BOILERPLATE_ROWS else []


def bounded(entries: Sequence[Entry]) -> Sequence[Entry]:
    """Return the first rows, as many as `NEAR_ROWS` and `NEAR_CHARACTERS` allow."""
    characters = np.cumsum([len(entry.text) for entry in entries[:NEAR_ROWS]])
    return entries[: int(np.searchsorted(characters, NEAR_CHARACTERS, "right"))]


def exact_overlap(train: Sequence[Entry], heldout: Sequence[Entry], suite: str) -> list[Leak]:
    """Return the held-out rows whose normalised content equals a training row's."""
    by_text = {entry.text: entry for entry in reversed(train)}
    return [_leak("exact", suite, e, by_text[e.text], 1.0) for e in heldout if e.text in by_text]


def near_overlap(
    train: Sequence[Entry], heldout: Sequence[Entry], suite: str, sets: Sequence[np.ndarray] | None = None
) -> list[Leak]:
    """Return the held-out rows nearly equal to a training row, with the most similar one.

    `sets`: the shingles of the first training rows; of all if None.
    """
    best: dict[int, tuple[float, int]] = {}
    sets = [shingles(entry.text) for entry in train] if sets is None else sets
    for train_position, position, similarity in near_pairs(sets, [shingles(entry.text) for entry in heldout]):
        if similarity > best.get(position, (0.0, 0))[0]:
            best[position] = similarity, train_position
    return [
        _leak("near", suite, heldout[position], train[train_position], similarity)
        for position, (similarity, train_position) in sorted(best.items())
    ]


def one_word_overlap(train: Sequence[Entry], heldout: Sequence[Entry], suite: str) -> list[Leak]:
    """Return the held-out conversations that differ from a training row in one word, changed, added or removed.

    In a short row this may be far from 80% of the shingles. A question about another thing differs in the answer as
    well, so in two words; if many training rows differ in one word alone, it is the slot of a template.
    """
    heldout_words = {position: entry.text.split() for position, entry in enumerate(heldout) if entry.answer}
    # A row of n words that differs in one keeps its first n // 2 words or its last.
    halves: dict[tuple[int, bool, tuple[str, ...]], list[int]] = defaultdict(list)
    for position, words in heldout_words.items():
        if len(words) >= ONE_WORD_FROM:
            half = len(words) // 2
            halves[len(words), True, tuple(words[:half])].append(position)
            halves[len(words), False, tuple(words[-half:])].append(position)
    sizes = {size for size, _, _ in halves}
    # Position of a held-out row to training texts, each with its own position.
    train_texts: dict[int, dict[str, int]] = defaultdict(dict)
    for train_position, entry in enumerate(train if halves else ()):
        words = entry.text.split() if entry.answer else []
        for size in sizes & {len(words) - 1, len(words), len(words) + 1}:
            half = size // 2
            first, last = (size, True, tuple(words[:half])), (size, False, tuple(words[-half:]))
            for position in {*halves.get(first, ()), *halves.get(last, ())}:
                if _differ_in_one(words, heldout_words[position]):
                    train_texts[position].setdefault(entry.text, train_position)
    return [
        _leak(
            "near", suite, heldout[position], train[min(texts.values())], 1 - 1 / len(heldout_words[position])
        )
        for position, texts in sorted(train_texts.items())
        if len(texts) <= max_texts_of(len(train))
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
    """Return the held-out rows whose answer, or whole text, is the answer to another question in training: one that
    is long enough to be distinctive, and that few rows have.
    """
    wanted = {answer for entry in heldout if _is_distinctive(answer := entry.answer or entry.text)}
    train_positions: dict[str, list[int]] = defaultdict(list)
    for position, entry in enumerate(train):
        if entry.answer in wanted:
            train_positions[entry.answer].append(position)
    candidates = [(entry, train_positions.get(entry.answer or entry.text, [])) for entry in heldout]
    return [
        _leak("answer", suite, entry, train[positions[0]], 1.0)
        for entry, positions in candidates
        if 0 < len(positions) <= max_texts_of(len(train))
    ]


def _is_distinctive(answer: str) -> bool:
    return len(answer) >= ANSWER_CHARACTERS and len(answer.split()) >= ANSWER_WORDS


def near_pairs(
    many: Sequence[np.ndarray], few: Sequence[np.ndarray], threshold: float = NEAR
) -> Iterator[tuple[int, int, float]]:
    """Yield (position in `many`, position in `few`, Jaccard similarity) of shingle sets at least `threshold` similar,
    without boilerplate.

    No sketch is needed, since one side is small: a row can only be so similar to one of the few if this share
    of its shingles is in any of them.
    """
    if not many or not few:
        return
    boilerplate = find_boilerplate(sample_rows(many))
    few_sets = [remove_boilerplate(unfiltered, boilerplate) for unfiltered in few]
    sizes = np.array([len(unfiltered) for unfiltered in few_sets])
    values = np.concatenate(few_sets)
    order = np.argsort(values, kind="stable")
    values, owners = values[order], np.repeat(np.arange(len(few_sets)), sizes)[order]
    for position, unfiltered in enumerate(many):
        shingle_set = remove_boilerplate(unfiltered, boilerplate)
        shared = shingle_set[is_among(shingle_set, values)]
        if len(shared) < threshold * len(shingle_set):
            continue
        start = np.searchsorted(values, shared, "left")
        end = np.searchsorted(values, shared, "right")
        matches = np.concatenate([owners[a:b] for a, b in zip(start.tolist(), end.tolist(), strict=True)])
        common = np.bincount(matches, minlength=len(few_sets))
        similarity = common / (len(shingle_set) + sizes - common)
        for other_position in np.flatnonzero(similarity >= threshold).tolist():
            yield position, other_position, float(similarity[other_position])


def ngram_overlap(
    train: Sequence[Entry], heldout: Sequence[Entry], suite: str, train_ngrams: Ngrams | None = None
) -> list[Leak]:
    """Return the held-out rows with a 13-gram of words that a training row has too.

    `train_ngrams`: those of the training rows, if the caller has them.
    """
    train_ngrams = collect_train_ngrams(train) if train_ngrams is None else train_ngrams
    heldout_ngrams = collect_ngrams([entry.text for entry in heldout], train_ngrams.boilerplate)
    is_shared = is_among(train_ngrams.hashes, np.unique(heldout_ngrams.hashes))
    train_positions: dict[int, list[int]] = defaultdict(list)  # of each n-gram
    owners = train_ngrams.text_positions[is_shared]
    for ngram, train_position in zip(train_ngrams.hashes[is_shared].tolist(), owners.tolist(), strict=True):
        train_positions[ngram].append(train_position)
    # Held-out row to the training rows of each of its n-grams.
    shared_ngrams: dict[int, list[list[int]]] = defaultdict(list)
    for ngram, position in zip(
        heldout_ngrams.hashes.tolist(), heldout_ngrams.text_positions.tolist(), strict=True
    ):
        if 0 < len(train_positions.get(ngram, ())) <= train_ngrams.max_texts:
            shared_ngrams[position].append(train_positions[ngram])
    sizes = np.bincount(heldout_ngrams.text_positions, minlength=len(heldout))
    leaks = []
    for position, rows_by_ngram in sorted(shared_ngrams.items()):
        counts = Counter(row for train_rows in rows_by_ngram for row in train_rows)
        most_shared = min(counts, key=lambda row: (-counts[row], row))
        share = len(rows_by_ngram) / int(sizes[position])
        leaks.append(_leak("13-gram", suite, heldout[position], train[most_shared], share))
    return leaks


def collect_train_ngrams(train: Sequence[Entry]) -> Ngrams:
    """Return the n-grams of the training rows, of equal rows those of the first alone."""
    first = {entry.text: i for i, entry in reversed(list(enumerate(train)))}
    return collect_ngrams([entry.text if first[entry.text] == i else "" for i, entry in enumerate(train)])


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
