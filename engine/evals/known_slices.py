"""Which slices of the general text that comes along the base model knows: what it never knew it cannot forget.

A model that predicts a text hardly better than the frequencies of the text's bytes do knows nothing of it, and its
loss there moves at random: a small English model on Chinese, say. Such slices are not watched, unless a recipe names
them. Decided once, by a few passages of each, and kept in the run's directory, since a resumed attempt must score the
same. The bundled model needs 35% of those nats for prose of the kind that it has learned, and 92% for code.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np

from engine.evals.once import read_or_make
from engine.evals.score import Scores
from engine.runs.home import RunDir
from engine.tasks.prepare import Prepared, Suite

FILE, KEY = "unknown-slices.json", "unknown"  # in the directory of a run
PROBES = 8  # passages of each slice
HARDLY = 0.85  # of the nats per byte that a code by the frequencies of bytes needs


def probes(general: Suite) -> Suite:
    """Return the first few passages of each slice."""
    seen = Counter[str]()
    places = []
    for place, name in enumerate(general.slices):
        seen[name] += 1
        if seen[name] <= PROBES:
            places.append(place)
    return _only("probes", general, places)


def unknown_slices(general: Suite, probed: Suite, scores: Scores) -> list[str]:
    """Return the slices in which the base model needs hardly fewer nats per byte than a code by the frequencies of
    bytes; none if that is so in all of them: then there is nothing better to watch. `scores`: of `probed`.
    """
    unknown = []
    for name in dict.fromkeys(general.slices):
        chosen = np.array([slice == name for slice in probed.slices])
        length = sum(len(text.encode()) for text in _texts(probed, name))
        by_bytes = byte_entropy("".join(_texts(general, name)).encode())
        if scores.nll[chosen].sum() / length >= HARDLY * by_bytes:
            unknown.append(name)
    return unknown if len(unknown) < len(set(general.slices)) else []


def byte_entropy(text: bytes) -> float:
    """Return the entropy of the bytes of a text, each taken by itself; nats per byte."""
    counts = np.array(list(Counter(text).values()), dtype=float)
    shares = counts / counts.sum()
    return float(-(shares * np.log(shares)).sum())


def left_out(run: RunDir) -> list[str]:
    """Return the slices that a run has left out so far."""
    return read_or_make(run.path / FILE, KEY, str, list, may_make=False)


def without(data: Prepared, slices: Sequence[str]) -> Prepared:
    """Return the data without some slices of the general suite."""
    general = data.suite("general")
    kept = [place for place, name in enumerate(general.slices) if name not in slices]
    suites = [_only(suite.name, suite, kept) if suite is general else suite for suite in data.suites]
    return replace(data, suites=suites)


def _only(name: str, suite: Suite, places: Sequence[int]) -> Suite:
    return Suite(
        name,
        [suite.documents[i] for i in places],
        [suite.examples[i] for i in places],
        tuple(suite.slices[i] for i in places),
    )


def _texts(suite: Suite, slice: str) -> list[str]:
    pairs = zip(suite.documents, suite.slices, strict=True)
    return [document.target for document, name in pairs if name == slice]
