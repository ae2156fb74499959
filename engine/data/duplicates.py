"""Duplicate rows: equal after normalising, or nearly equal (MinHash and locality-sensitive hashing).

A. Broder, "On the resemblance and containment of documents", 1997; candidates from `datasketch`, then the
exact Jaccard similarity of the sets of character 5-grams, so that the sketch causes no false match.
Pure functions over entries. Torch-free.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from datasketch import MinHash, MinHashLSH

from engine.data.shingles import NEAR, Entry, find_boilerplate, remove_boilerplate, sample_rows, shingles
from engine.data.sources import RowNumber, number_order

PERMUTATIONS = 128
# 21 bands of 6 rows: a pair at 0.8 becomes a candidate with 1 - (1 - 0.8^6)^21 = 0.998, one at 0.4 with 0.08.
BANDS, ROWS_PER_BAND = 21, 6
_CHUNK = 20_000  # shingles sketched at once: 10 MB
_ESTIMATE_SLACK = 0.15  # of the estimate from 128 permutations: about four standard errors at 0.8


@dataclass(frozen=True)
class Duplicates:
    """Rows with the same content, or nearly. Deduplication would keep the first of `rows`."""

    similarity: float  # 1 for exact ones, else the least Jaccard similarity to the first row
    rows: tuple[RowNumber, ...]
    preview: str

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def exact_duplicates(entries: Sequence[Entry]) -> list[Duplicates]:
    """Return groups of two or more rows whose normalised content is equal, the largest first."""
    groups: dict[str, list[Entry]] = defaultdict(list)
    for entry in entries:
        groups[entry.text].append(entry)
    duplicates = [
        Duplicates(
            1.0,
            tuple(sorted((row for entry in group for row in entry.rows), key=number_order)),
            group[0].preview,
        )
        for group in groups.values()
        if sum(len(entry.rows) for entry in group) > 1
    ]
    return sorted(duplicates, key=lambda group: (-len(group.rows), number_order(group.rows[0])))


def near_duplicates(
    entries: Sequence[Entry], sketches: Sketches | None = None, threshold: float = NEAR
) -> list[Duplicates]:
    """Return groups of rows at least `threshold` similar to the first of the group, without exact duplicates.

    `sketches`: those of the entries, in their order, if the caller has them.
    """
    sketches = sketches or Sketches([entry.text for entry in entries])
    index = Index(sketches)
    seen: set[str] = set()
    members: dict[int, list[tuple[int, float]]] = defaultdict(list)
    for position, entry in enumerate(entries):
        if entry.text in seen:
            continue
        seen.add(entry.text)
        if matches := index.similar(sketches, position, threshold):
            leader, similarity = matches[0]
            members[leader].append((position, similarity))
        else:  # only the first of a group is in the index, so that groups stay around their first row
            index.add(position)
    duplicates = [
        Duplicates(
            min(similarity for _, similarity in group),
            tuple(entries[i].rows[0] for i in [leader, *(position for position, _ in group)]),
            entries[leader].preview,
        )
        for leader, group in members.items()
    ]
    return sorted(duplicates, key=lambda group: (-len(group.rows), number_order(group.rows[0])))


class Sketches:
    """Shingle sets of texts and their MinHashes, without boilerplate."""

    def __init__(self, texts: Sequence[str]) -> None:
        sets = [shingles(text) for text in texts]
        boilerplate = find_boilerplate(sample_rows(sets))
        self.sets = [remove_boilerplate(shingle_set, boilerplate) for shingle_set in sets]
        base = MinHash(PERMUTATIONS, hashfunc=int)
        self.hashes = [_minhash(base, shingle_set) for shingle_set in self.sets]

    def jaccard(self, position: int, other: Sketches, other_position: int) -> float:
        """Return the exact similarity of two shingle sets, 0 to 1."""
        a, b = self.sets[position], other.sets[other_position]
        common = len(np.intersect1d(a, b, assume_unique=True))
        return common / (len(a) + len(b) - common)


class Index:
    """Index of sketches to look up those similar to another one."""

    def __init__(self, sketches: Sketches) -> None:
        self._sketches = sketches
        self._lsh = MinHashLSH(num_perm=PERMUTATIONS, params=(BANDS, ROWS_PER_BAND))

    def add(self, position: int) -> None:
        self._lsh.insert(position, self._sketches.hashes[position], check_duplication=False)

    def similar(self, others: Sketches, position: int, threshold: float) -> list[tuple[int, float]]:
        """Return (position, exact similarity) of all indexed sketches at least `threshold` similar, best first."""
        sketch = others.hashes[position]
        candidates = sorted(self._lsh.query(sketch))
        if not candidates:
            return []
        signatures = np.stack([self._sketches.hashes[i].hashvalues for i in candidates])
        estimates = (signatures == sketch.hashvalues).mean(axis=1)
        likely = [candidates[i] for i in np.flatnonzero(estimates >= threshold - _ESTIMATE_SLACK)]
        scored = [(i, others.jaccard(position, self._sketches, i)) for i in likely]
        return sorted((pair for pair in scored if pair[1] >= threshold), key=lambda p: (-p[1], p[0]))


def _minhash(base: MinHash, shingles: np.ndarray) -> MinHash:
    sketch = base.copy()
    for start in range(0, len(shingles), _CHUNK):
        sketch.update_batch(shingles[start : start + _CHUNK].tolist())
    return sketch
