"""Items of tasks that learn something else than a text: a labelled text, a pair of answers.

Both can be used where an `Example` can: a step's size is measured in `tokens`, its loss divided by `targets`.
Torch-free.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from engine.data.chat import Example, tokenize
from engine.data.formats import Document


@dataclass(frozen=True)
class Labelled:
    """A text and its class."""

    id: str
    tokens: np.ndarray  # int32 [length], as the tokenizer alone makes them
    label: int
    tail: int  # special tokens at the end, which stay when the text is cut

    @property
    def targets(self) -> int:
        return 1

    @property
    def content(self) -> bytes:
        return self.tokens.tobytes() + bytes(f"label {self.label}", "ascii")

    def cut(self, max_length: int) -> Labelled | None:
        """Return at most `max_length` tokens; None if no text is left."""
        if len(self.tokens) <= max_length:
            return self
        if max_length <= self.tail:
            return None
        kept = self.tokens[: max_length - self.tail]
        return replace(self, tokens=np.concatenate([kept, self.tokens[len(self.tokens) - self.tail :]]))


@dataclass(frozen=True)
class Pair:
    """Two answers to one prompt. Only the tokens of the answers are targets."""

    id: str
    chosen: Example
    rejected: Example

    @property
    def tokens(self) -> np.ndarray:
        """The tokens of both: int32 [length]."""
        return np.concatenate([self.chosen.tokens, self.rejected.tokens])

    @property
    def targets(self) -> int:
        return 1

    @property
    def content(self) -> bytes:
        return self.chosen.content + b"rejected" + self.rejected.content

    def cut(self, max_length: int) -> Pair | None:
        """Return both sides cut to `max_length` tokens; None if one has no answer left."""
        chosen, rejected = self.chosen.cut(max_length), self.rejected.cut(max_length)
        if chosen is self.chosen and rejected is self.rejected:
            return self
        return replace(self, chosen=chosen, rejected=rejected) if chosen and rejected else None


Item = Example | Labelled | Pair


def labelled_items(document: Document, tokenizer: Any, labels: list[str]) -> list[Labelled]:
    """Tokenise a text as for any classifier, with the tokenizer's special tokens."""
    encoded = tokenizer(document.text, return_special_tokens_mask=True)
    special = encoded["special_tokens_mask"]
    tail = next((n for n, is_special in enumerate(reversed(special)) if not is_special), 0)
    tokens = np.asarray(encoded["input_ids"], dtype=np.int32)
    return [Labelled(document.id, tokens, labels.index(document.label), tail)]


def pair_items(document: Document, tokenizer: Any) -> list[Pair]:
    """Tokenise both conversations of a preference pair. Raises DataError."""
    rejected = replace(document, messages=document.rejected, rejected=())
    sides = [_last_answer(tokenize(side, tokenizer)[-1]) for side in (document, rejected)]
    return [Pair(document.id, *sides)]


def text_items(document: Document, tokenizer: Any) -> list[Example]:
    """Tokenise plain text with the end-of-sequence token, so that the model learns where texts end."""
    [example] = tokenize(document, tokenizer)
    if (end := tokenizer.eos_token_id) is None or example.tokens[-1] == end:
        return [example]
    return [Example(example.id, np.append(example.tokens, np.int32(end)), np.append(example.mask, True))]


def windows(example: Example, max_length: int) -> list[Example]:
    """Split a text into pieces of at most `max_length` tokens; each begins with the last token of the one before, so
    that every token is learned once.
    """
    starts = range(0, max(1, len(example.tokens) - 1), max_length - 1)
    pieces = []
    for start in starts:
        mask = example.mask[start : start + max_length].copy()
        mask[0] = False
        pieces.append(Example(example.id, example.tokens[start : start + max_length], mask))
    return pieces


def _last_answer(example: Example) -> Example:
    """Return the example with the last answer as the only target: earlier answers are part of the prompt."""
    positions = np.flatnonzero(example.mask)
    begin = np.flatnonzero(np.diff(positions, prepend=-2) > 1)[-1]
    mask = np.zeros_like(example.mask)
    mask[positions[begin:]] = True
    return replace(example, mask=mask)
