"""13-grams of words that rows share, whatever the punctuation between the words. Pure functions. Torch-free.

The length of 13 words is that of T. Brown et al., "Language models are few-shot learners", 2020, appendix C, with one
change: words that many training rows have are boilerplate, and a 13-gram of mostly boilerplate does not count.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from engine.data.shingles import is_among, rolling_hashes

WORDS = 13
# A 13-gram, or a run of five of its words, in more training rows than both is boilerplate.
BOILERPLATE_ROWS, BOILERPLATE_SHARE = 5, 0.005
BOILERPLATE_WORDS, BOILERPLATE_SAMPLE = 5, 5000
_BLOCK = 1000  # texts at once


@dataclass(frozen=True)
class Ngrams:
    """The 13-grams of some texts, each once a text."""

    hashes: np.ndarray  # uint64 [n-grams]
    text_positions: np.ndarray  # int64 [n-grams], which text
    boilerplate: np.ndarray  # hashes of the runs of five words that many of the texts share; uint64, sorted
    texts: int

    @property
    def max_texts(self) -> float:
        """The most texts that may have an n-gram; in more of them it is boilerplate."""
        return max_texts_of(self.texts)


def max_texts_of(texts: int) -> float:
    """Return `Ngrams.max_texts` of so many texts."""
    return max(BOILERPLATE_ROWS, BOILERPLATE_SHARE * texts)


def collect_ngrams(texts: Sequence[str], boilerplate: np.ndarray | None = None) -> Ngrams:
    """Return the n-grams of texts, without the given boilerplate, or else without their own."""
    boilerplate = _find_boilerplate(texts) if boilerplate is None else boilerplate
    blocks = [_distinct(*_own_ngrams(words, rows, boilerplate)) for words, rows in _words(texts)]
    hashes, text_positions = (
        (np.concatenate(parts) for parts in zip(*blocks, strict=True)) if blocks else _NOTHING
    )
    return Ngrams(hashes, text_positions, boilerplate, len(texts))


_NOTHING = np.zeros(0, dtype=np.uint64), np.zeros(0, dtype=np.int64)


def _find_boilerplate(texts: Sequence[str]) -> np.ndarray:
    sample = texts[:: max(1, len(texts) // BOILERPLATE_SAMPLE)]
    runs = [_distinct(*_runs(words, rows, BOILERPLATE_WORDS))[0] for words, rows in _words(sample)]
    values, counts = np.unique(np.concatenate([*runs, _NOTHING[0]]), return_counts=True)
    return values[counts > max_texts_of(len(sample))]


def _own_ngrams(
    words: np.ndarray, rows: np.ndarray, boilerplate: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the 13-grams of which most words are no boilerplate, and the row of each."""
    if len(words) < WORDS:
        return _NOTHING
    runs = rolling_hashes(words, BOILERPLATE_WORDS)
    is_boilerplate = is_among(runs, boilerplate) & _inside(rows, BOILERPLATE_WORDS)
    # A word is boilerplate if any of the runs of five that hold it is.
    boilerplate_runs = np.convolve(is_boilerplate, np.ones(BOILERPLATE_WORDS, dtype=np.int64))
    own_words = np.convolve(boilerplate_runs == 0, np.ones(WORDS, dtype=np.int64), mode="valid")
    kept = (own_words > WORDS // 2) & _inside(rows, WORDS)
    return rolling_hashes(words, WORDS)[kept], rows[: len(kept)][kept]


def _runs(words: np.ndarray, rows: np.ndarray, length: int) -> tuple[np.ndarray, np.ndarray]:
    inside = _inside(rows, length)
    return rolling_hashes(words, length)[inside], rows[: len(inside)][inside]


def _inside(rows: np.ndarray, length: int) -> np.ndarray:
    """Return which windows of `length` words lie in one row; bool [windows]."""
    return rows[length - 1 :] == rows[: max(0, len(rows) - length + 1)]


def _distinct(hashes: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return hashes and rows without those that a row has twice."""
    _, first = np.unique(hashes + rows.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15), return_index=True)
    return hashes[first], rows[first]


def _words(texts: Sequence[str]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield (hash of each word, position of its text) for one block of texts after the other; uint64 and int64."""
    for start in range(0, len(texts), _BLOCK):
        words = [re.findall(r"\w+", text) for text in texts[start : start + _BLOCK]]
        # Python's own hash has 64 bits and differs between processes, but these hashes never leave this one.
        hashes = [hash(word) & 0xFFFFFFFFFFFFFFFF for text_words in words for word in text_words]
        counts = [len(text_words) for text_words in words]
        yield np.array(hashes, dtype=np.uint64), np.repeat(np.arange(start, start + len(words)), counts)
