"""Tokens of rows, the rows that have none to learn, and what is wrong with what a model would learn of the others.

The worker, `finetui check` and `finetui data` use the same. Torch-free.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from engine.basics.errors import DataError
from engine.data import rows
from engine.data.chat import Example
from engine.data.findings import Finding, first_rows
from engine.data.formats import Document
from engine.data.rows import Dropped, Source
from engine.data.sources import RowNumber, number_order

T = TypeVar("T")

MEASURED = 5000  # training rows that are looked at; of a larger set, those that come first by hash


def tokenize_all(
    documents: Sequence[Document], tokenizer: Any, source: Source, make: Callable[[Document, Any], T]
) -> tuple[list[T], list[Dropped]]:
    """Examples of the rows that have targets, and the rows that have none or that the chat template refuses.

    `make`: from a document and the tokenizer to an example, such as `chat.tokenize`.
    """
    places = source.places()
    examples, dropped = list[T](), list[Dropped]()
    for document in documents:
        try:
            examples.append(make(document, tokenizer))
        except DataError as error:
            dropped += [Dropped(number, str(error)) for number in places[document.id]]
    unique = {bad.row: bad for bad in dropped}
    return examples, sorted(unique.values(), key=lambda bad: number_order(bad.row))


def tokenized(
    documents: Sequence[Document], tokenizer: Any, source: Source, make: Callable[[Document, Any], T]
) -> tuple[list[T], list[str]]:
    """(examples, what was left out) of documents of a source. Raises DataError if too many rows have no targets."""
    examples, dropped = tokenize_all(documents, tokenizer, source, make)
    if why := rows.too_many_bad(source.source, dropped, len(documents)):
        raise DataError(f"{source.source}: {why}")
    return examples, [rows.left_out(source.source, dropped, len(documents))] if dropped else []


def examine(
    documents: Sequence[Document],
    examples: Sequence[Example],
    tokenizer: Any,
    stops: set[int],
    source: Source,
) -> tuple[list[Finding], list[Finding]]:
    """(refusals, warnings) about what a model would learn, from the first `MEASURED` documents and their examples.

    `stops`: ids at which generation stops.
    """
    documents, examples = documents[:MEASURED], examples[:MEASURED]
    numbers = source.places()
    chats = {document.id for document in documents if document.messages}
    refusals = mask_refusals(examples, tokenizer, numbers, source.source)
    more, warnings = end_findings(
        [e for e in examples if e.id in chats], tokenizer, stops, numbers, source.source
    )
    warnings += text_warnings(documents, examples, tokenizer, numbers, source.source)
    return refusals + more, warnings


def stops(directory: Path | None, tokenizer: Any) -> set[int]:
    """Ids at which generation stops: the tokenizer's end of sequence and the model's own, where it is local."""
    file = directory / "generation_config.json" if directory else None
    try:
        of_model = json.loads(file.read_text()).get("eos_token_id") if file and file.exists() else None
    except (OSError, ValueError, AttributeError):
        of_model = None
    ids = {*(of_model if isinstance(of_model, list) else [of_model]), tokenizer.eos_token_id}
    return {id for id in ids if isinstance(id, int)}


def mask_refusals(
    examples: Sequence[Example], tokenizer: Any, numbers: Mapping[str, Sequence[RowNumber]], source: str
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
    if padded := [e.id for e in examples if pad is not None and _pads(e, pad, ends=pad == eos)]:
        same = ", which is also the end of sequence," if pad == eos else ""
        found.append(
            Finding(
                "padding-in-targets",
                f"in {len(padded)} of {len(examples)} rows the padding token {tokenizer.pad_token}{same} would be "
                "trained on as part of the answer; remove it from the rows or from the chat template",
                source,
                first_rows(padded, numbers),
            )
        )
    return found


def end_findings(
    examples: Sequence[Example],
    tokenizer: Any,
    stops: set[int],
    numbers: Mapping[str, Sequence[RowNumber]],
    source: str,
) -> tuple[list[Finding], list[Finding]]:
    """(refusals, warnings) about the token that ends an answer. `stops`: ids at which generation stops."""
    ends = _special(tokenizer) | stops
    last = {example.id: _last_answer(example) for example in examples}
    endless = [id for id, tokens in last.items() if not ends & tokens]
    if examples and len(endless) == len(last):
        eos = f"{tokenizer.eos_token}, " if tokenizer.eos_token else ""
        message = (
            f"no answer ends with a trained token ({eos}or an end of turn), so the model would never "
            "stop; let the chat template end each answer with one, inside {% generation %} if it marks answers"
        )
        return [Finding("end-never-trained", message, source)], []
    warnings = []
    if endless:
        message = f"{len(endless)} of {len(last)} answers do not end with a trained token"
        warnings.append(Finding("end-sometimes-missing", message, source, first_rows(endless, numbers)))
    if examples and stops and not any(stops & tokens for tokens in last.values()):
        seen = sorted({tokenizer.decode([i]) for tokens in last.values() for i in ends & tokens})
        stop = ", ".join(sorted(tokenizer.decode([i]) for i in stops))
        message = (
            f"answers end with {', '.join(seen)}, but generation stops at {stop}, which is never trained: "
            f"set eos_token in the model's tokenizer_config.json and generation_config.json to {seen[0]}"
        )
        warnings.append(Finding("stop-not-trained", message, source))
    return [], warnings


def text_warnings(
    documents: Sequence[Document],
    examples: Sequence[Example],
    tokenizer: Any,
    numbers: Mapping[str, Sequence[RowNumber]],
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


def _pads(example: Example, pad: int, *, ends: bool) -> bool:
    """Whether a padding token is to be learned before more of the answer; of one that ends sequences, a second."""
    here = (example.tokens == pad) & example.mask
    after = here[1:] if ends else example.mask[1:]
    return bool((here[:-1] & after).any())
