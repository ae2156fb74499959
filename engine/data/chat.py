"""Tokens and loss mask of a document, by the tokenizer's own chat template.

A token is a target if the model is to learn to write it: the assistant's words and the end of its turn, by
`engine.data.answers`. In plain text every token is a target but the first. Torch-free at import.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Protocol, Self, TypeVar

import numpy as np

from engine.basics.errors import DataError
from engine.data.answers import learned_texts, prompt_text
from engine.data.formats import Document
from engine.data.messages import Message
from engine.data.template import Note, Span


class Cuttable(Protocol):
    def cut(self, max_length: int) -> Self | None: ...


T = TypeVar("T", bound=Cuttable)


@dataclass(frozen=True)
class Example:
    """A tokenised document."""

    id: str
    tokens: np.ndarray  # int32 [length]
    mask: np.ndarray  # bool [length]: is this token a target? The first never is.
    notes: tuple[Note, ...] = ()  # about how the chat template writes it

    @property
    def targets(self) -> int:
        return int(self.mask.sum())

    @property
    def content(self) -> bytes:
        return self.tokens.tobytes() + self.mask.tobytes()

    def cut(self, max_length: int) -> Example | None:
        """Return at most `max_length` tokens; None if no target is left."""
        if len(self.tokens) <= max_length:
            return self
        short = replace(self, tokens=self.tokens[:max_length], mask=self.mask[:max_length])
        return short if short.targets else None


def padding(tokenizer: Any) -> int:
    """Return the token id to pad with."""
    ids = (tokenizer.pad_token_id, tokenizer.eos_token_id, 0)
    return int(next(id for id in ids if id is not None))


def tokenize(document: Document, tokenizer: Any) -> list[Example]:
    """Return tokens and mask of a whole document: one example, or several where answers need a text of their own.

    Raises DataError if it has no target.
    """
    if not document.messages:
        return [_tokenize_text(document, tokenizer)]
    examples = []
    for learned in learned_texts(document, tokenizer):
        # The template writes the special tokens; the tokenizer must not add a second beginning.
        encoded = tokenizer(learned.text, add_special_tokens=False, return_offsets_mapping=True)
        mask = _overlap_mask(encoded["offset_mapping"], learned.spans)
        _include_end_of_turn(encoded["input_ids"], mask, tokenizer)
        examples.append(replace(_to_example(document, encoded["input_ids"], mask), notes=learned.notes))
    return examples


def render_prompt(
    messages: Sequence[Message], tokenizer: Any, tools: Sequence[dict[str, Any]] = ()
) -> list[int]:
    """Return the tokens of a conversation up to where the assistant begins to answer."""
    text = prompt_text(messages, tools, tokenizer)
    return list(tokenizer(text, add_special_tokens=False)["input_ids"])


def auto_length(examples: Sequence[Any], longest: int) -> int:
    """Return the length that 99.5% of the examples fit into, rounded up to a multiple of 8, at most `longest`."""
    lengths = sorted(len(example.tokens) for example in examples)
    quantile = lengths[math.ceil(0.995 * len(lengths)) - 1]
    return min(longest, -(-quantile // 8) * 8)


def truncate(examples: Sequence[T], max_length: int) -> tuple[list[T], int, int]:
    """Return (examples cut to `max_length`, how many were cut, how many lost all targets and were dropped)."""
    shortened = [example.cut(max_length) for example in examples]
    kept = [example for example in shortened if example is not None]
    cut_count = sum(after is not before for before, after in zip(examples, shortened, strict=True))
    return kept, cut_count, len(examples) - len(kept)


def _tokenize_text(document: Document, tokenizer: Any) -> Example:
    tokens = list(tokenizer(document.text, add_special_tokens=False)["input_ids"])
    if tokenizer.bos_token_id is not None and tokens[:1] != [tokenizer.bos_token_id]:
        tokens = [tokenizer.bos_token_id, *tokens]
    return _to_example(document, tokens, np.ones(len(tokens), dtype=bool))


def _to_example(document: Document, tokens: list[int], mask: np.ndarray) -> Example:
    mask[:1] = False  # nothing comes before the first token that could predict it
    if not mask.any():
        raise DataError(
            f"the row that begins {document.target[:40]!r} has no token to train on under this chat template; "
            "check the tokenizer's template and the row"
        )
    return Example(document.id, np.asarray(tokens, dtype=np.int32), mask)


def _overlap_mask(offsets: Sequence[Span], spans: Sequence[Span]) -> np.ndarray:
    """Return which tokens overlap a span; bool [tokens]."""
    starts, ends = np.asarray(offsets, dtype=np.int64).reshape(-1, 2).T
    mask = np.zeros(len(starts), dtype=bool)
    for start, end in spans:
        mask |= (starts < end) & (ends > start)
    return mask


def _include_end_of_turn(tokens: Sequence[int], mask: np.ndarray, tokenizer: Any) -> None:
    """Make the special token right after an answer a target: a model that never learns it never stops."""
    special = {id for id, token in tokenizer.added_tokens_decoder.items() if token.special}
    special |= {id for id in [tokenizer.eos_token_id] if id is not None}
    for i in np.flatnonzero(mask[:-1] & ~mask[1:]).tolist():
        if (
            tokens[i] not in special
            and tokens[i + 1] in special
            and tokens[i + 1] != _beginning_of_sequence(tokenizer)
        ):
            mask[i + 1] = True


def _beginning_of_sequence(tokenizer: Any) -> int | None:
    """Return the id of the beginning-of-sequence token, None if it ends sequences as well."""
    return None if tokenizer.bos_token_id == tokenizer.eos_token_id else tokenizer.bos_token_id
