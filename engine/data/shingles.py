"""Normalised text and its character 5-grams, by which rows are compared. Pure functions. Torch-free."""

from __future__ import annotations

import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from engine.data.sources import RowNumber

NEAR = 0.8  # Jaccard similarity from which two rows are near duplicates
SHINGLE = 5  # characters
# A shingle in more rows than both is boilerplate and does not distinguish a row.
BOILERPLATE_SHARE, BOILERPLATE_ROWS = 0.1, 20
BOILERPLATE_SAMPLE = 2000


@dataclass(frozen=True)
class Entry:
    """A distinct row of a source: its content id, its text for comparing, and its row numbers."""

    id: str
    source: str
    rows: tuple[RowNumber, ...]  # several if the content is repeated
    text: str  # normalised
    preview: str
    answer: str = ""  # normalised: the last one of a conversation; empty for plain text


def normalise(text: str) -> str:
    """Return the text in lower case, with composed characters (NFC), every run of white space as one space.

    Punctuation stays: in code and sums it is the content.
    """
    return " ".join(unicodedata.normalize("NFC", text).casefold().split())


def rolling_hashes(symbols: np.ndarray, length: int) -> np.ndarray:
    """Return a hash of every window of `length` symbols; uint64 [n] to uint64 [n - length + 1], empty if shorter."""
    windows = max(0, len(symbols) - length + 1)
    hashes = np.zeros(windows, dtype=np.uint64)
    for offset in range(length):  # wraps modulo 2^64, as intended
        hashes = hashes * np.uint64(0x9E3779B97F4A7C15) + symbols[offset : offset + windows]
    # The finaliser of MurmurHash3: without it the last symbols would hardly reach the upper bits.
    for factor in (0xFF51AFD7ED558CCD, 0xC4CEB9FE1A85EC53):
        hashes = (hashes ^ (hashes >> np.uint64(33))) * np.uint64(factor)
    return hashes ^ (hashes >> np.uint64(33))


def shingles(text: str) -> np.ndarray:
    """Return hashes of the distinct character 5-grams; uint32, sorted. A shorter text is one shingle."""
    symbols = np.frombuffer(text.encode("utf-32-le", "surrogatepass"), dtype=np.uint32).astype(np.uint64)
    hashes = rolling_hashes(symbols, min(SHINGLE, max(1, len(symbols))))
    return np.unique((hashes >> np.uint64(32)).astype(np.uint32))


def sample_rows(sets: Sequence[np.ndarray]) -> Sequence[np.ndarray]:
    """Return the shingle sets of enough rows to find boilerplate."""
    return sets[:: max(1, len(sets) // BOILERPLATE_SAMPLE)]


def find_boilerplate(sets: Sequence[np.ndarray]) -> np.ndarray:
    """Return the shingles that many rows share, from the sets of some rows; uint32, sorted."""
    if len(sets) <= BOILERPLATE_ROWS:
        return np.zeros(0, dtype=np.uint32)
    values, counts = np.unique(np.concatenate(sets), return_counts=True)
    return values[counts > max(BOILERPLATE_ROWS, BOILERPLATE_SHARE * len(sets))]


def remove_boilerplate(shingles: np.ndarray, boilerplate: np.ndarray) -> np.ndarray:
    """Return the shingles without boilerplate; all of them if nothing else is left to compare."""
    kept = shingles[~is_among(shingles, boilerplate)]
    return kept if len(kept) else shingles


def is_among(values: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Return which values are in `wanted`, a sorted array; np.isin would sort it every time."""
    if not len(wanted):
        return np.zeros(len(values), dtype=bool)
    return wanted[np.minimum(np.searchsorted(wanted, values), len(wanted) - 1)] == values
