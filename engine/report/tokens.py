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
from engine.tasks.items import Item, Labelled, Pair

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
    split_up: bool  # longer rows are split into pieces, and nothing is lost
    cut: int  # rows that are longer
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


def lengths(examples: Sequence[Example], rows: int) -> Lengths:
    """Of the texts of `rows` rows: a preference pair has two."""
    return Lengths(
        rows,
        Quantiles.of([len(e.tokens) for e in examples]),
        Quantiles.of([len(e.tokens) - e.targets for e in examples]),
        Quantiles.of([e.targets for e in examples]),
    )


def as_example(text: Example | Labelled) -> Example:
    """A labelled text as one of which no token is learned: the label is."""
    if isinstance(text, Example):
        return text
    return Example(text.id, text.tokens, np.zeros(len(text.tokens), dtype=bool))


def truncation(
    items: Sequence[Item],
    asked: int | Literal["auto"],
    max_length: int,
    auto: int,
    longest: int,
    *,
    split_up: bool,
) -> Truncation:
    """By the rule of `engine.tasks.prepare`: `max_length` and `auto` are its limits; `split_up`: longer texts lose
    nothing."""
    kept, cut, dropped = chat.truncate(items, max_length)
    total = sum(map(_learned, items))
    lost = 0 if split_up else total - sum(map(_learned, kept))
    share = lost / max(1, total)
    dropped = 0 if split_up else dropped
    return Truncation(asked, max_length, auto, longest, split_up, cut, cut / len(items), lost, share, dropped)


def _learned(item: Item) -> int:
    """Tokens to learn; of a labelled text the label counts as one."""
    if isinstance(item, Pair):
        return item.chosen.targets + item.rejected.targets
    return item.targets


def render(item: Item, row: RowNumber, tokenizer: Any, max_length: int, label: str) -> Rendered:
    """The text of a row in pieces of equal mask; of a pair one answer after the other; `label` at the end, if any."""
    if isinstance(item, Pair):
        sides = [_pieces(side, tokenizer, max_length) for side in (item.chosen, item.rejected)]
        pieces = [("chosen\n", False), *sides[0], ("\nrejected\n", False), *sides[1]]
        longest = max(len(item.chosen.tokens), len(item.rejected.tokens))
    else:
        pieces = _pieces(as_example(item), tokenizer, max_length)
        pieces += [("\nlabel: ", False), (label, True)] if label else []
        longest = len(item.tokens)
    short = item.cut(max_length) or item
    return Rendered(row, len(short.tokens), _learned(short), longest > max_length, pieces)


def _pieces(example: Example, tokenizer: Any, max_length: int) -> list[tuple[str, bool]]:
    tokens, mask = example.tokens[:max_length].tolist(), example.mask[:max_length]
    ends = [*(np.flatnonzero(np.diff(mask)) + 1).tolist(), len(tokens)]
    pieces, before, start = list[tuple[str, bool]](), "", 0
    for end in ends:
        # The difference of two decodings: some tokenizers write a token differently where a text begins.
        text = tokenizer.decode(tokens[:end], skip_special_tokens=False, clean_up_tokenization_spaces=False)
        piece = text[len(before) :] if text.startswith(before) else tokenizer.decode(tokens[start:end])
        pieces.append((_elided(piece), bool(mask[start])))
        before, start = text, end
    return pieces


def _elided(text: str) -> str:
    if len(text) <= PIECE:
        return text
    return f"{text[: PIECE // 2]} […] {text[-PIECE // 2 :]}"
