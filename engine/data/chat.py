"""Tokens and loss mask of a document, by the tokenizer's own chat template.

A token is a target if the model is to learn to write it: the assistant's words and the end of its turn.
If the template marks answers with `{% generation %}`, those marks are used; otherwise an answer is what the
template adds to the conversation before it, generation prompt included. In plain text every token is a target
but the first. Torch-free at import.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, Protocol, Self, TypeVar

import numpy as np

from engine.basics.errors import DataError
from engine.data.formats import Document, Message
from finetui.errors import first_line

# The date for templates that ask for today's; Llama 3's template uses it where it cannot ask. With the real date, a
# run that is resumed after midnight would have other tokens, and nothing to compare its first evaluation with.
TODAY = datetime(2024, 7, 26)
# For a tokenizer that brings no template: roles in words, each answer ended by the end-of-sequence
# token. The space belongs to the answer, since most tokenizers join it to the word after it.
PLAIN_TEMPLATE = """\
{{- bos_token or '' }}
{%- for message in messages %}
    {%- if message['role'] == 'assistant' %}
        {{- 'Assistant:' }}
        {%- generation %}
            {{- ' ' + message['content'] + (eos_token or '') }}
        {%- endgeneration %}
        {{- '\n' }}
    {%- else %}
        {{- message['role'] | capitalize + ': ' + message['content'] + '\n' }}
    {%- endif %}
{%- endfor %}
{%- if add_generation_prompt %}
    {{- 'Assistant:' }}
{%- endif %}
"""

Span = tuple[int, int]


class Cuttable(Protocol):
    def cut(self, max_length: int) -> Self | None: ...


T = TypeVar("T", bound=Cuttable)


@dataclass(frozen=True)
class Example:
    """A tokenised document."""

    id: str
    tokens: np.ndarray  # int32 [length]
    mask: np.ndarray  # bool [length]: is this token a target? The first never is.

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


def ensure_template(tokenizer: Any) -> bool:
    """Give a tokenizer without a chat template the plain one; return whether that was needed."""
    if tokenizer.chat_template:
        return False
    tokenizer.chat_template = PLAIN_TEMPLATE
    return True


def tokenize(document: Document, tokenizer: Any) -> Example:
    """Return tokens and mask of a whole document. Raises DataError if it has no target."""
    if not document.messages:
        return _tokenize_text(document, tokenizer)
    text, spans = _answer_spans(list(document.messages), tokenizer)
    # The template writes the special tokens; the tokenizer must not add a second beginning.
    encoded = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True)
    mask = _overlap_mask(encoded["offset_mapping"], spans)
    _include_end_of_turn(encoded["input_ids"], mask, tokenizer)
    return _to_example(document, encoded["input_ids"], mask)


def render_prompt(messages: Sequence[Message], tokenizer: Any) -> list[int]:
    """Return the tokens of a conversation up to where the assistant begins to answer."""
    text = _render(list(messages), tokenizer, add_generation_prompt=True)
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


def _render(messages: list[Message], tokenizer: Any, add_generation_prompt: bool = False) -> str:
    with _raise_data_error(messages):
        _pin_today(tokenizer.get_chat_template())
        return str(
            tokenizer.apply_chat_template(
                messages, tokenize=False, add_generation_prompt=add_generation_prompt
            )
        )


def _pin_today(template: str) -> None:
    """Fix the date that a template sees: transformers gives it `strftime_now`, which no argument can replace."""
    if "strftime_now" in template:
        from transformers.utils.chat_template_utils import _compile_jinja_template

        _compile_jinja_template(template).globals["strftime_now"] = (
            TODAY.strftime
        )  # kept as long as it is cached


@contextmanager
def _raise_data_error(messages: list[Message]) -> Iterator[None]:
    """Report whatever a template raises (an unknown role, turns that do not alternate) as bad data."""
    try:
        yield
    except Exception as error:
        raise DataError(
            f"the chat template refuses the row that begins {messages[0]['content'][:40]!r}: {first_line(error)}"
        ) from None


def _answer_spans(messages: list[Message], tokenizer: Any) -> tuple[str, list[Span]]:
    """Return the rendered conversation and the character ranges in it that the assistant wrote."""
    template = tokenizer.get_chat_template()
    if not re.search(r"\{%-?\s*generation\s*-?%\}", template):
        return _spans_by_prefix(messages, tokenizer)
    from transformers.utils.chat_template_utils import render_jinja_template

    _pin_today(template)
    with _raise_data_error(messages):
        # Lists, one entry a conversation, despite its annotation.
        rendered: Any = render_jinja_template(
            [messages],
            chat_template=template,
            return_assistant_tokens_mask=True,
            **tokenizer.special_tokens_map,
        )
    texts, spans = rendered
    return texts[0], [(start, end) for start, end in spans[0]]


def _spans_by_prefix(messages: list[Message], tokenizer: Any) -> tuple[str, list[Span]]:
    """Find answers as what the template adds to the turns before them with the generation prompt.

    With a template that rewrites earlier turns (one that drops old reasoning), only the last answer is a target.
    """
    text = _render(messages, tokenizer)
    spans = []
    for index, message in enumerate(messages):
        if message["role"] != "assistant":
            continue
        prefix = _render(messages[:index], tokenizer, add_generation_prompt=True) if index else ""
        rendered = text if index == len(messages) - 1 else _render(messages[: index + 1], tokenizer)
        if text.startswith(rendered):
            start = _common_length(prefix, rendered)
            spans.append((start, _answer_end(rendered, start, tokenizer)))
    return text, spans


def _common_length(a: str, b: str) -> int:
    return next((i for i, (x, y) in enumerate(zip(a, b, strict=False)) if x != y), min(len(a), len(b)))


def _answer_end(text: str, start: int, tokenizer: Any) -> int:
    """Return the end of an answer, before the line break that a template puts after the end-of-turn token."""
    body = text[start:].rstrip()
    ended = any(body.endswith(token) for token in tokenizer.all_special_tokens)
    return start + len(body) if ended else len(text)


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
