"""Assignment of rows: training or held out, within a limit, replayed. All by content hash, so that the result does
not depend on the order of a file, stays as the file grows, and puts two equal rows on the same side.

Torch-free.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import TypeVar

from engine.basics.errors import DataError
from engine.data.formats import Document
from engine.recipe.fields import Share
from engine.recipe.sections import Data

T = TypeVar("T")


def rank(id: str, purpose: str) -> float:
    """Return a number in [0, 1) from an id; for two purposes, two independent numbers."""
    digest = hashlib.sha256(f"{purpose}:{id}".encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64


def first_by_hash(documents: Sequence[Document], count: int | None, purpose: str) -> list[Document]:
    """Return the `count` documents (all if None) that come first by hash, in that order."""
    ordered = sorted(documents, key=lambda document: (rank(document.id, purpose), document.id))
    return ordered if count is None else ordered[:count]


def split_heldout(
    documents: Sequence[Document], share: Share, source: str
) -> tuple[list[Document], list[Document]]:
    """Return (training, held-out). A percentage holds out every document whose hash lies below it, so that a row
    never changes sides as the file grows; a count holds out the first N by hash. Raises DataError.
    """
    if share.percent is not None:
        chosen = {d.id for d in documents if rank(d.id, "heldout") < share.percent / 100}
    else:
        unique = list({d.id: d for d in documents}.values())
        chosen = {d.id for d in first_by_hash(unique, share.count, "heldout")}
    if not chosen:  # a small file and a small percentage
        chosen = {first_by_hash(documents, 1, "heldout")[0].id}
    train = [d for d in documents if d.id not in chosen]
    if not train:
        raise DataError(
            f"{source}: no row is left to train on after holding out {len(documents)}; add rows or hold out fewer"
        )
    return train, [d for d in documents if d.id in chosen]


def split_task(
    data: Data, documents: Sequence[Document], heldout: Sequence[Document]
) -> tuple[list[Document], list[Document]]:
    """Return (training, held-out) of a recipe: its limit applied, then its share held out. `heldout`: the documents
    of its own held-out source, if it names one. Raises DataError.
    """
    documents = list(documents) if data.limit is None else first_by_hash(documents, data.limit, "limit")
    if len(documents) < 2:
        raise DataError(f"{data.train}: has one row; give at least two, one to train on and one to hold out")
    if data.heldout_share is None:
        return documents, list(heldout)
    return split_heldout(documents, data.heldout_share, data.train)


def choose_replay(
    candidates: Sequence[T], tokens: Callable[[T], int], ratio: float, train_tokens: int
) -> list[T]:
    """Return the first candidates whose tokens make up the share `ratio` of all training tokens, theirs included."""
    budget = ratio / (1 - ratio) * train_tokens
    chosen: list[T] = []
    for candidate in candidates:
        if budget <= 0:
            break
        chosen.append(candidate)
        budget -= tokens(candidate)
    return chosen
