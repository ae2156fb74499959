"""Rows as a run will see them: lengths in tokens, what is cut, and which tokens are learned.

The tokens and masks are those of `engine.data.chat`, so what is reported is what is trained. Torch-free.
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
    """Quantiles of lengths in tokens."""

    p50: int
    p90: int
    p99: int
    max: int

    @staticmethod
    def of(lengths_of: Sequence[int]) -> Quantiles:
        p50, p90, p99, top = np.percentile(lengths_of, [50, 90, 99, 100], method="inverted_cdf")
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
    """The effect of `train.max_length`."""

    asked: int | Literal["auto"]
    max_length: int
    auto: int  # what `auto` chooses
    longest: int  # what the model takes
    split_up: bool  # longer rows are split into pieces, and nothing is lost
    cut: int  # rows that are longer
    cut_share: float
    targets_lost: int
    targets_lost_share: float
    rows_without_target: int  # cut before their answer begins, so skipped

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class RenderedRow:
    """A row as the model sees it; in each piece, every token is a target or none is."""

    row: RowNumber
    tokens: int
    targets: int
    cut: bool  # at max_length
    pieces: list[tuple[str, bool]]  # (text, is it learned?)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def lengths_of(examples: Sequence[Example], rows: int) -> Lengths:
    """Return the lengths of the texts of `rows` rows; a preference pair has two texts."""
    return Lengths(
        rows,
        Quantiles.of([len(e.tokens) for e in examples]),
        Quantiles.of([len(e.tokens) - e.targets for e in examples]),
        Quantiles.of([e.targets for e in examples]),
    )


def as_example(text: Example | Labelled) -> Example:
    """Return a labelled text as an example without targets: of it the label is learned, and no token."""
    if isinstance(text, Example):
        return text
    return Example(text.id, text.tokens, np.zeros(len(text.tokens), dtype=bool))


def truncation_of(
    items: Sequence[Item],
    setting: int | Literal["auto"],
    max_length: int,
    auto: int,
    longest: int,
    *,
    split_up: bool,
) -> Truncation:
    """Return what is cut by the rule of `engine.tasks.prepare`: `max_length` and `auto` are its limits; `split_up`:
    longer texts lose nothing.
    """
    kept, cut, dropped = chat.truncate(items, max_length)
    total = sum(map(_learned, items))
    lost = 0 if split_up else total - sum(map(_learned, kept))
    share = lost / max(1, total)
    dropped = 0 if split_up else dropped
    return Truncation(
        setting, max_length, auto, longest, split_up, cut, cut / len(items), lost, share, dropped
    )


def _learned(item: Item) -> int:
    """Return how many tokens are learned; of a labelled text the label counts as one."""
    if isinstance(item, Pair):
        return item.chosen.targets + item.rejected.targets
    return item.targets


def render(item: Item, row: RowNumber, tokenizer: Any, max_length: int, label: str) -> RenderedRow:
    """Return the text of a row in pieces of equal mask; of a pair one answer after the other; at the end `label`."""
    if isinstance(item, Pair):
        sides = [_pieces(side, tokenizer, max_length) for side in (item.chosen, item.rejected)]
        pieces = [("chosen\n", False), *sides[0], ("\nrejected\n", False), *sides[1]]
        length = max(len(item.chosen.tokens), len(item.rejected.tokens))
    else:
        pieces = _pieces(as_example(item), tokenizer, max_length)
        pieces += [("\nlabel: ", False), (label, True)] if label else []
        length = len(item.tokens)
    kept = item.cut(max_length) or item
    return RenderedRow(row, len(kept.tokens), _learned(kept), length > max_length, pieces)


def _pieces(example: Example, tokenizer: Any, max_length: int) -> list[tuple[str, bool]]:
    tokens, mask = example.tokens[:max_length].tolist(), example.mask[:max_length]
    ends = [*(np.flatnonzero(np.diff(mask)) + 1).tolist(), len(tokens)]
    pieces, decoded, start = list[tuple[str, bool]](), "", 0
    for end in ends:
        # The difference of two decodings: some tokenizers write a token differently where a text begins.
        text = tokenizer.decode(tokens[:end], skip_special_tokens=False, clean_up_tokenization_spaces=False)
        piece = text[len(decoded) :] if text.startswith(decoded) else tokenizer.decode(tokens[start:end])
        pieces.append((_shorten(piece), bool(mask[start])))
        decoded, start = text, end
    return pieces


def _shorten(text: str) -> str:
    if len(text) <= PIECE:
        return text
    return f"{text[: PIECE // 2]} […] {text[-PIECE // 2 :]}"
