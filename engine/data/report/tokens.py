"""What a run will see of its rows: lengths in tokens, what is cut, and which tokens are learned.

The tokens and masks are those of `engine.data.chat`, so what stands here is what is trained. Torch-free.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from engine.data import chat
from engine.data.chat import Example
from engine.data.sources import RowNumber

PIECE = 600  # characters of a rendered piece that are kept


@dataclass(frozen=True)
class Quantiles:
    """Of lengths in tokens."""

    p50: int
    p90: int
    p99: int
    max: int

    @staticmethod
    def of(lengths: Sequence[int]) -> Quantiles:
        p50, p90, p99, top = np.percentile(lengths, [50, 90, 99, 100], method="inverted_cdf")
        return Quantiles(int(p50), int(p90), int(p99), int(top))


@dataclass(frozen=True)
class Lengths:
    """Tokens of the rows, before any is cut."""

    measured: int  # rows
    whole: Quantiles
    prompt: Quantiles  # tokens that are not learned
    answer: Quantiles  # targets

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Truncation:
    """What `train.max_length` does."""

    asked: int | Literal["auto"]
    max_length: int
    auto: int  # what `auto` chooses
    longest: int  # what the model takes
    cut: int  # rows
    cut_share: float
    targets_lost: int
    targets_lost_share: float
    rows_without_target: int  # cut before their answer begins, so left out

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Rendered:
    """A row as the model sees it; in each piece, every token is a target or none is."""

    row: RowNumber
    tokens: int
    targets: int
    cut: bool  # at max_length
    pieces: list[tuple[str, bool]]  # (text, is it learned?)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def lengths(examples: Sequence[Example]) -> Lengths:
    return Lengths(
        len(examples),
        Quantiles.of([len(e.tokens) for e in examples]),
        Quantiles.of([len(e.tokens) - e.targets for e in examples]),
        Quantiles.of([e.targets for e in examples]),
    )


def truncation(examples: Sequence[Example], asked: int | Literal["auto"], longest: int) -> Truncation:
    """By the rule of `engine.data.chat`."""
    auto = chat.auto_length(examples, longest)
    max_length = auto if asked == "auto" else min(asked, longest)
    kept, cut, dropped = chat.truncate(examples, max_length)
    total = sum(example.targets for example in examples)
    lost = total - sum(example.targets for example in kept)
    return Truncation(
        asked, max_length, auto, longest, cut, cut / len(examples), lost, lost / max(1, total), dropped
    )


def render(example: Example, row: RowNumber, tokenizer: Any, max_length: int) -> Rendered:
    """The text of an example in pieces of equal mask."""
    tokens, mask = example.tokens[:max_length].tolist(), example.mask[:max_length]
    ends = [*(np.flatnonzero(np.diff(mask)) + 1).tolist(), len(tokens)]
    pieces, before, start = list[tuple[str, bool]](), "", 0
    for end in ends:
        # The difference of two decodings: some tokenizers write a token differently where a text begins.
        text = tokenizer.decode(tokens[:end], skip_special_tokens=False, clean_up_tokenization_spaces=False)
        piece = text[len(before) :] if text.startswith(before) else tokenizer.decode(tokens[start:end])
        pieces.append((_elided(piece), bool(mask[start])))
        before, start = text, end
    cut = len(example.tokens) > max_length
    return Rendered(row, len(tokens), int(mask.sum()), cut, pieces)


def _elided(text: str) -> str:
    if len(text) <= PIECE:
        return text
    return f"{text[: PIECE // 2]} […] {text[-PIECE // 2 :]}"
