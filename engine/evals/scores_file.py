"""The scores of a first look as a file: in a run, for resumed attempts, and in the base cache."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path
from typing import Any

import numpy as np

from engine.evals.base_scores import BasePredictions, watched_targets
from engine.evals.score import Scores
from engine.tasks.prepare import Suite
from finetui.files import read_regular, write_whole_file


def path_in(run: Path, suite: Suite) -> Path:
    """Return the file of a run that holds the first look's scores of these very examples."""
    digest = hashlib.sha256()
    for example in suite.examples:
        digest.update(example.content)
    return run / f"base-{suite.name}-{digest.hexdigest()[:16]}.npz"


def write(path: Path, scores: Scores) -> None:
    """Write the scores whole or not at all. Raises OSError."""
    write_whole_file(path, to_bytes(scores))


def read(path: Path, suite: Suite) -> BasePredictions | None:
    """Read the predictions that later looks are compared with; None where the file is missing or damaged."""
    try:
        return from_bytes(read_regular(path), suite).base
    except (OSError, ValueError):
        return None


def to_bytes(scores: Scores) -> bytes:
    """Return the scores of a first look as the bytes of a file."""
    assert scores.base is not None
    arrays = {"nll": scores.nll, "tokens": scores.tokens, "right": scores.right, "top": scores.base.top}
    arrays |= {"hits": np.packbits(scores.base.right), "log_p": scores.base.log_p}
    if scores.tempered is not None:
        arrays["tempered"] = scores.tempered
    file = io.BytesIO()
    # Compressing would take longer than all else before a first step.
    np.savez(file, allow_pickle=False, **arrays)
    return file.getvalue()


def from_bytes(content: bytes, suite: Suite) -> Scores:
    """Return the scores in the bytes of a file. Raises ValueError where they are not whole, or not of this suite."""
    try:
        with np.load(io.BytesIO(content), allow_pickle=False) as file:
            return _scores(dict(file), suite)
    except Exception as error:  # NumPy and zipfile raise a dozen kinds for a damaged file
        raise ValueError("not a file of scores") from error


def _scores(arrays: dict[str, Any], suite: Suite) -> Scores:
    counts = np.array([example.targets for example in suite.examples])
    right = np.unpackbits(arrays["hits"])[: counts.sum()].astype(bool)
    base = BasePredictions(right, arrays["top"], arrays["log_p"])
    same = np.array_equal(arrays["tokens"], counts) and len(right) == counts.sum()
    places = watched_targets(suite)
    if not same or len(base.top) not in (0, len(places)):
        raise ValueError("scores of other examples")
    owner = np.repeat(np.arange(len(counts)), counts)[places]
    zeros = np.zeros(len(counts), dtype=np.int64)
    return Scores(
        [example.id for example in suite.examples],
        arrays["nll"],
        counts,
        arrays["right"],
        lost=zeros,
        gained=zeros,
        kl=np.where(np.isin(np.arange(len(counts)), owner), 0.0, np.nan) if len(base.top) else None,
        tempered=arrays.get("tempered"),
        base=base,
        documents=suite.passages_of,
    )
