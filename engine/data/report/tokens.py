"""What a run will see of its rows: lengths in tokens, what is cut, and which tokens are learned.

The tokens and masks are those of `engine.data.chat`, so what stands here is what is trained. Torch-free.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

import numpy as np

from engine.data import chat
from engine.data.chat import Example
from engine.data.formats import Document
from engine.data.report.findings import Finding, first_rows
from engine.data.sources import DataError

PIECE = 600  # characters of a rendered piece that are kept
# The pad token that is also the end of sequence stands once after an answer; in a row of it, it is padding.
PADDING_RUN = 2


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

    row: int
    tokens: int
    targets: int
    cut: bool  # at max_length
    pieces: list[tuple[str, bool]]  # (text, is it learned?)

    def as_dict(self) -> dict[str, Any]:
        return asdict(self)


def tokenize_all(
    documents: Sequence[Document], tokenizer: Any, numbers: Mapping[str, Sequence[int]], source: str
) -> tuple[list[Example], list[Finding]]:
    """Examples of the rows that have targets, and a finding for each kind of row that has none."""
    examples, refused, masked = list[Example](), list[tuple[str, str]](), list[tuple[str, str]]()
    for document in documents:
        try:
            examples.append(chat.tokenize(document, tokenizer))
        except DataError as error:
            kind = masked if _renders(document, tokenizer) else refused
            kind.append((document.id, str(error)))
    findings = []
    for code, rows, what in (
        ("template-refuses", refused, "cannot be rendered"),
        ("all-zero-mask", masked, "have no token to learn (an all-zero loss mask)"),
    ):
        if rows:
            message = f"{len(rows)} of {len(documents)} rows {what}; the first: {rows[0][1]}"
            findings.append(Finding(code, message, source, first_rows([id for id, _ in rows], numbers)))
    return examples, findings


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


def render(example: Example, row: int, tokenizer: Any, max_length: int) -> Rendered:
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


def mask_refusals(
    examples: Sequence[Example], tokenizer: Any, numbers: Mapping[str, Sequence[int]], source: str
) -> list[Finding]:
    """Why a run on these examples would learn something else than meant, whatever else is right."""
    found = []
    bos, pad, eos = tokenizer.bos_token_id, tokenizer.pad_token_id, tokenizer.eos_token_id
    if doubled := [e.id for e in examples if bos is not None and (e.tokens[:2] == bos).sum() == 2]:
        found.append(
            Finding(
                "double-bos",
                f"{len(doubled)} of {len(examples)} rows begin with two {tokenizer.bos_token} tokens; remove "
                "one from the chat template or from the rows",
                source,
                first_rows(doubled, numbers),
            )
        )
    run = PADDING_RUN if pad == eos else 1
    if padded := [e.id for e in examples if pad is not None and _has_run(e, pad, run)]:
        same = ", which is also the end of sequence," if pad == eos else ""
        found.append(
            Finding(
                "padding-in-targets",
                f"in {len(padded)} of {len(examples)} rows the padding token {tokenizer.pad_token}{same} is to be "
                "learned as part of the answer; remove it from the rows or from the chat template",
                source,
                first_rows(padded, numbers),
            )
        )
    return found


def end_findings(
    examples: Sequence[Example],
    tokenizer: Any,
    stops: set[int],
    numbers: Mapping[str, Sequence[int]],
    source: str,
) -> tuple[list[Finding], list[Finding]]:
    """(refusals, warnings) about the token that ends an answer. `stops`: ids at which generation stops."""
    ends = _special(tokenizer) | stops
    last = {example.id: _last_answer(example) for example in examples}
    endless = [id for id, tokens in last.items() if not ends & tokens]
    if examples and len(endless) == len(last):
        eos = f"{tokenizer.eos_token}, " if tokenizer.eos_token else ""
        message = (
            f"no answer ends with a token that is learned ({eos}or an end of turn), so the model would never "
            "stop; let the chat template end each answer with one, inside {% generation %} if it marks answers"
        )
        return [Finding("end-never-trained", message, source)], []
    warnings = []
    if endless:
        message = f"{len(endless)} of {len(last)} answers do not end with a token that is learned"
        warnings.append(Finding("end-sometimes-missing", message, source, first_rows(endless, numbers)))
    if examples and stops and not any(stops & tokens for tokens in last.values()):
        seen = sorted({tokenizer.decode([i]) for tokens in last.values() for i in ends & tokens})
        stop = ", ".join(sorted(tokenizer.decode([i]) for i in stops))
        message = (
            f"answers end with {', '.join(seen)}, but generation stops at {stop}, which is never trained: "
            f"set eos_token in the model's tokenizer_config.json and generation_config.json to {seen[0]}"
        )
        warnings.append(Finding("stop-not-trained", message, source))
    pad, eos = tokenizer.pad_token_id, tokenizer.eos_token_id
    if pad is not None and pad == eos and any(eos in tokens for tokens in last.values()):
        message = (
            f"the padding token is the end of sequence, {tokenizer.eos_token}: finetui masks by position and learns "
            "it all the same, but a trainer that masks by token would not"
        )
        warnings.append(Finding("pad-is-eos", message, source))
    return [], warnings


def text_warnings(
    documents: Sequence[Document],
    examples: Sequence[Example],
    tokenizer: Any,
    numbers: Mapping[str, Sequence[int]],
    source: str,
) -> list[Finding]:
    """Special tokens written in the rows, and a beginning of sequence that is missing."""
    specials = {str(token) for token in tokenizer.all_special_tokens}
    specials |= {t.content for t in tokenizer.added_tokens_decoder.values() if t.special}
    texts = {d.id: d.text + "".join(m["content"] for m in d.messages) for d in documents}
    written = [id for id, text in texts.items() if any(token in text for token in specials)]
    warnings = []
    if written:
        message = (
            f"{len(written)} of {len(documents)} rows contain the text of a special token, which the tokenizer "
            "takes for the token itself"
        )
        warnings.append(Finding("special-token-text", message, source, first_rows(written, numbers)))
    bos = tokenizer.bos_token_id
    adds = bos is not None and tokenizer("a")["input_ids"][:1] == [bos]
    if adds and examples and not any(e.tokens[0] == bos for e in examples):
        message = (
            f"the tokenizer begins every text with {tokenizer.bos_token}, but the chat template does not: the model "
            "is trained without it"
        )
        warnings.append(Finding("no-bos", message, source))
    return warnings


def _renders(document: Document, tokenizer: Any) -> bool:
    try:
        tokenizer.apply_chat_template(list(document.messages), tokenize=False)
    except Exception:  # templates raise what they like
        return False
    return True


def _special(tokenizer: Any) -> set[int]:
    """Ids of the special tokens that can end a turn."""
    ids = {id for id, token in tokenizer.added_tokens_decoder.items() if token.special}
    ids |= {tokenizer.eos_token_id}
    others = {tokenizer.bos_token_id, tokenizer.pad_token_id, tokenizer.unk_token_id}
    return ids - (others - {tokenizer.eos_token_id}) - {None}


def _last_answer(example: Example) -> set[int]:
    """Ids of the last stretch of targets."""
    places = np.flatnonzero(example.mask)
    breaks = np.flatnonzero(np.diff(places) > 1)
    start = places[breaks[-1] + 1] if len(breaks) else places[0]
    return set(example.tokens[start : places[-1] + 1].tolist())


def _has_run(example: Example, token: int, length: int) -> bool:
    """Whether `length` targets in a row are this token."""
    hit = ((example.tokens == token) & example.mask).astype(np.int8)
    return bool((np.convolve(hit, np.ones(length, dtype=np.int8)) == length).any())


def _elided(text: str) -> str:
    if len(text) <= PIECE:
        return text
    return f"{text[: PIECE // 2]} […] {text[-PIECE // 2 :]}"
