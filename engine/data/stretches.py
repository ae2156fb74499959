"""Runs of words that rows share, whatever the punctuation between them. Pure functions. Torch-free.

The stretch of 13 words is that of T. Brown et al., "Language models are few-shot learners", 2020, appendix C, with one
change: words that stand in many training rows are template, and a stretch of mostly template is none.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from engine.data.shingles import is_among, rolling_hashes

WORDS = 13
# What stands in more training rows than both is template: a stretch, or words of it (by runs of five).
COMMON_ROWS, COMMON_SHARE = 5, 0.005
TEMPLATE_WORDS, TEMPLATE_SAMPLE = 5, 5000
_BLOCK = 1000  # texts at once


@dataclass(frozen=True)
class Stretches:
    """The stretches of some texts, each once a text."""

    hashes: np.ndarray  # uint64 [stretches]
    places: np.ndarray  # int64 [stretches], which text
    template: np.ndarray  # hashes of the runs of five words that many of the texts share; uint64, sorted
    texts: int

    @property
    def common(self) -> float:
        """How many texts a stretch stands in, at most, unless it is template."""
        return common_in(self.texts)


def common_in(texts: int) -> float:
    return max(COMMON_ROWS, COMMON_SHARE * texts)


def stretches(texts: Sequence[str], template: np.ndarray | None = None) -> Stretches:
    """Of texts, with the template of their own or of others."""
    template = _template(texts) if template is None else template
    found = [_distinct(*_own_stretches(words, rows, template)) for words, rows in _words(texts)]
    hashes, places = (np.concatenate(parts) for parts in zip(*found, strict=True)) if found else _NOTHING
    return Stretches(hashes, places, template, len(texts))


_NOTHING = np.zeros(0, dtype=np.uint64), np.zeros(0, dtype=np.int64)


def _template(texts: Sequence[str]) -> np.ndarray:
    sample = texts[:: max(1, len(texts) // TEMPLATE_SAMPLE)]
    runs = [_distinct(*_runs(words, rows, TEMPLATE_WORDS))[0] for words, rows in _words(sample)]
    values, counts = np.unique(np.concatenate([*runs, _NOTHING[0]]), return_counts=True)
    return values[counts > common_in(len(sample))]


def _own_stretches(
    words: np.ndarray, rows: np.ndarray, template: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """The runs of 13 words of which most are no template, and the rows that they are of."""
    if len(words) < WORDS:
        return _NOTHING
    runs = rolling_hashes(words, TEMPLATE_WORDS)
    shared = is_among(runs, template) & _inside(rows, TEMPLATE_WORDS)
    # A word is template if any of the runs of five that hold it is.
    held = np.convolve(shared, np.ones(TEMPLATE_WORDS, dtype=np.int64))
    own_words = np.convolve(held == 0, np.ones(WORDS, dtype=np.int64), mode="valid")
    kept = (own_words > WORDS // 2) & _inside(rows, WORDS)
    return rolling_hashes(words, WORDS)[kept], rows[: len(kept)][kept]


def _runs(words: np.ndarray, rows: np.ndarray, length: int) -> tuple[np.ndarray, np.ndarray]:
    inside = _inside(rows, length)
    return rolling_hashes(words, length)[inside], rows[: len(inside)][inside]


def _inside(rows: np.ndarray, length: int) -> np.ndarray:
    """Which windows of so many words lie in one row; bool, as many as there are windows."""
    return rows[length - 1 :] == rows[: max(0, len(rows) - length + 1)]


def _distinct(hashes: np.ndarray, rows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The same without what a row says twice."""
    _, first = np.unique(hashes + rows.astype(np.uint64) * np.uint64(0x9E3779B97F4A7C15), return_index=True)
    return hashes[first], rows[first]


def _words(texts: Sequence[str]) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """(hash of each word, place of its text) of some texts after the other; uint64 and int64."""
    for start in range(0, len(texts), _BLOCK):
        words = [re.findall(r"\w+", text) for text in texts[start : start + _BLOCK]]
        # Python's own hash has 64 bits and differs between processes, which nothing here sees.
        hashes = [hash(word) & 0xFFFFFFFFFFFFFFFF for of_text in words for word in of_text]
        counts = [len(of_text) for of_text in words]
        yield np.array(hashes, dtype=np.uint64), np.repeat(np.arange(start, start + len(words)), counts)
