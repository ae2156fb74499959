"""Tokens of rows, the rows without targets, and findings about what a model would learn from the others.

The worker, `finetui check` and `finetui data` use the same. Torch-free.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import numpy as np

from engine.basics.errors import DataError
from engine.data import rows
from engine.data.chat import Example
from engine.data.findings import Finding, first_rows
from engine.data.formats import Document
from engine.data.messages import plain_text
from engine.data.rows import DroppedRow, Source
from engine.data.sources import RowNumber, number_order
from engine.data.template import Note, special_texts

T = TypeVar("T")

# What was done to a conversation, after the count of rows; `engine.data.template.Note` has the codes.
TEMPLATE_NOTES = {
    "turn-by-turn": "conversations are learned answer by answer, as {examples} examples, since the chat template "
    "writes an answer in another way once turns follow it (turn {turn}: {detail}); of held-out ones the last answer is "
    "scored (data.history=whole makes one example of each)",
    "whole-history": "conversations have their earlier answers (turn {turn}) whole, as data.history says: a prompt by "
    "the chat template has them in another way",
    "system-merged": "conversations have their system turn at the head of the next user turn, since the chat template "
    "does not take it; prompt the model in the same way",
    "written-whole": "rows have an answer that the chat template would change or cut (turn {turn}); it is learned as "
    "it stands in the row (data.reasoning=drop would leave reasoning out)",
    "empty-reasoning": "rows have answers without reasoning, for which the chat template writes {detail} (turn "
    "{turn}): the model learns to answer without thinking",
    "end-added": "rows have answers that the chat template gives no end; they are learned with {detail} as the end, "
    "with which the next turn begins",
    "prompt-differs": "rows have an answer (turn {turn}) that does not begin as the chat template prompts for one: a "
    "prompt ends with {detail}, after which nothing is learned; change the rows, or what the template prompts with",
}
CUT_SHARE = 0.01  # of the ends of answers; `max_length: auto` cuts less

EXAMINED_ROWS = 5000  # training rows that are examined; of a larger set, those that come first by hash


def tokenize_documents(
    documents: Sequence[Document],
    tokenizer: Any,
    source: Source,
    make_items: Callable[[Document, Any], Sequence[T]],
) -> tuple[list[T], list[DroppedRow]]:
    """Return examples of the rows that have targets, and the rows that have none or that the chat template refuses.

    `make_items`: from a document and the tokenizer to its examples, such as `chat.tokenize`.
    """
    row_numbers = source.row_numbers()
    examples, dropped = list[T](), list[DroppedRow]()
    for document in documents:
        try:
            examples += make_items(document, tokenizer)
        except DataError as error:
            dropped += [DroppedRow(number, str(error)) for number in row_numbers[document.id]]
    unique = {row.row: row for row in dropped}
    return examples, sorted(unique.values(), key=lambda row: number_order(row.row))


def tokenize_source(
    documents: Sequence[Document],
    tokenizer: Any,
    source: Source,
    make_items: Callable[[Document, Any], Sequence[T]],
) -> tuple[list[T], list[str]]:
    """Return (examples, a note if rows were skipped) of documents of a source.

    Raises DataError if too many rows have no targets.
    """
    examples, dropped = tokenize_documents(documents, tokenizer, source, make_items)
    if reason := rows.refusal_reason(source.source, dropped, len(documents)):
        raise DataError(f"{source.source}: {reason}")
    return examples, [rows.skip_note(source.source, dropped, len(documents))] if dropped else []


def examine(
    documents: Sequence[Document],
    examples: Sequence[Example],
    tokenizer: Any,
    stop_ids: set[int],
    source: Source,
    max_length: int,
) -> tuple[list[Finding], list[Finding]]:
    """Return (refusals, warnings) about what a model would learn, from the first `EXAMINED_ROWS` documents.

    `examples`: those of the documents, before they are cut to `max_length`; `stop_ids`: ids at which generation stops.
    """
    documents = documents[:EXAMINED_ROWS]
    ids = {document.id for document in documents}
    examples = [example for example in examples if example.id in ids]
    numbers = source.row_numbers()
    chats = {document.id for document in documents if document.messages}
    refusals = mask_refusals(examples, tokenizer, numbers, source.source)
    answers = [example for example in examples if example.id in chats]
    end_refusals, warnings = end_findings(answers, tokenizer, stop_ids, numbers, source.source)
    cut_refusals, cut_warnings = cut_end_findings(
        answers, tokenizer, stop_ids, max_length, numbers, source.source
    )
    warnings += cut_warnings
    warnings += template_warnings(examples, numbers, source.source)
    warnings += text_warnings(documents, examples, tokenizer, numbers, source.source)
    return refusals + end_refusals + cut_refusals, warnings


def stop_ids(directory: Path | None, tokenizer: Any) -> set[int]:
    """Return the ids at which generation stops: the tokenizer's end of sequence and, of a local model, its own."""
    file = directory / "generation_config.json" if directory else None
    try:
        model_ids = json.loads(file.read_text()).get("eos_token_id") if file and file.exists() else None
    except (OSError, ValueError, AttributeError):
        model_ids = None
    ids = {*(model_ids if isinstance(model_ids, list) else [model_ids]), tokenizer.eos_token_id}
    return {id for id in ids if isinstance(id, int)}


def mask_refusals(
    examples: Sequence[Example], tokenizer: Any, numbers: Mapping[str, Sequence[RowNumber]], source: str
) -> list[Finding]:
    """Return why a run on these examples would learn something else than meant."""
    refusals = []
    bos, pad, eos = tokenizer.bos_token_id, tokenizer.pad_token_id, tokenizer.eos_token_id
    if doubled := [e.id for e in examples if bos is not None and (e.tokens[:2] == bos).sum() == 2]:
        refusals.append(
            Finding(
                "double-bos",
                f"{len(doubled)} of {len(examples)} rows begin with two {tokenizer.bos_token} tokens; remove "
                "one from the chat template or from the rows",
                source,
                first_rows(doubled, numbers),
            )
        )
    if padded := [
        e.id for e in examples if pad is not None and _trains_on_padding(e, pad, pad_is_end=pad == eos)
    ]:
        also_end = ", which is also the end of sequence," if pad == eos else ""
        refusals.append(
            Finding(
                "padding-in-targets",
                f"in {len(padded)} of {len(examples)} rows the padding token {tokenizer.pad_token}{also_end} would be "
                "trained on as part of the answer; remove it from the rows or from the chat template",
                source,
                first_rows(padded, numbers),
            )
        )
    return refusals


def end_findings(
    examples: Sequence[Example],
    tokenizer: Any,
    stop_ids: set[int],
    numbers: Mapping[str, Sequence[RowNumber]],
    source: str,
) -> tuple[list[Finding], list[Finding]]:
    """Return (refusals, warnings) about the token that ends an answer; `stop_ids`: ids at which generation stops."""
    end_ids = _end_ids(tokenizer) | stop_ids
    answers = [(example.id, tokens) for example in examples for tokens in _answer_ids(example)]
    endless = [id for id, tokens in answers if not end_ids & tokens]
    if answers and len(endless) == len(answers):
        eos = f"{tokenizer.eos_token}, " if tokenizer.eos_token else ""
        message = (
            f"no answer ends with a trained token ({eos}or an end of turn), so the model would never "
            "stop; let the chat template end each answer with one, inside {% generation %} if it marks answers"
        )
        return [Finding("end-never-trained", message, source)], []
    warnings = []
    if endless:
        message = f"{len(endless)} of {len(answers)} answers do not end with a trained token"
        warnings.append(Finding("end-sometimes-missing", message, source, first_rows(endless, numbers)))
    if answers and stop_ids and not any(stop_ids & tokens for _, tokens in answers):
        seen = sorted({tokenizer.decode([i]) for _, tokens in answers for i in end_ids & tokens})
        stop = ", ".join(sorted(tokenizer.decode([i]) for i in stop_ids))
        message = (
            f"answers end with {', '.join(seen)}, but generation stops at {stop}, which is never trained: "
            f"set eos_token in the model's tokenizer_config.json and generation_config.json to {seen[0]}"
        )
        warnings.append(Finding("stop-not-trained", message, source))
    return [], warnings


def template_warnings(
    examples: Sequence[Example], numbers: Mapping[str, Sequence[RowNumber]], source: str
) -> list[Finding]:
    """Return what was done so that the chat template writes every answer, and how many rows it concerns."""
    rows_by_code: dict[str, dict[str, Note]] = defaultdict(dict)
    for example in examples:
        for note in example.notes:
            rows_by_code[note.code].setdefault(example.id, note)
    total = len({example.id for example in examples})
    warnings = []
    for code, notes in rows_by_code.items():
        first = next(iter(notes.values()))
        count = sum(example.id in notes for example in examples)
        message = f"{len(notes)} of {total} " + TEMPLATE_NOTES[code].format(
            turn=first.turn, detail=first.detail, examples=count
        )
        warnings.append(Finding(code, message, source, first_rows(list(notes), numbers)))
    return warnings


def cut_end_findings(
    examples: Sequence[Example],
    tokenizer: Any,
    stop_ids: set[int],
    max_length: int,
    numbers: Mapping[str, Sequence[RowNumber]],
    source: str,
) -> tuple[list[Finding], list[Finding]]:
    """Return (refusals, warnings) about ends of answers that are lost where examples are cut to `max_length`.

    `examples`: of conversations, before they are cut.
    """
    end_ids = list(_end_ids(tokenizer) | stop_ids)
    before = [_count_ends(example, end_ids) for example in examples]
    after = [_count_ends(cut, end_ids) if (cut := example.cut(max_length)) else 0 for example in examples]
    lost = sum(before) - sum(after)
    if not sum(before) or lost <= CUT_SHARE * sum(before):
        return [], []
    rows = first_rows([e.id for e, b, a in zip(examples, before, after, strict=True) if a < b], numbers)
    message = (
        f"train.max_length cuts the end off {lost} of {sum(before)} answers at {max_length} tokens, and a model that "
        "sees no end learns not to stop; raise train.max_length, or shorten the rows"
    )
    finding = Finding("ends-cut", message, source, rows)
    return ([], [finding]) if sum(after) else ([finding], [])


def _count_ends(example: Example, end_ids: list[int]) -> int:
    """Return how many stretches of targets end with a token that ends a turn."""
    last = example.mask & ~np.append(example.mask[1:], False)
    return int(np.isin(example.tokens[last], end_ids).sum())


def text_warnings(
    documents: Sequence[Document],
    examples: Sequence[Example],
    tokenizer: Any,
    numbers: Mapping[str, Sequence[RowNumber]],
    source: str,
) -> list[Finding]:
    """Return warnings about special tokens written in the rows, and a missing beginning of sequence."""
    specials = special_texts(tokenizer, None)
    texts = {d.id: d.text + "".join(map(plain_text, d.messages)) for d in documents}
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


def _end_ids(tokenizer: Any) -> set[int]:
    """Return the ids of the special tokens that can end a turn."""
    ids = {id for id, token in tokenizer.added_tokens_decoder.items() if token.special}
    ids |= {tokenizer.eos_token_id}
    others = {tokenizer.bos_token_id, tokenizer.pad_token_id, tokenizer.unk_token_id}
    return ids - (others - {tokenizer.eos_token_id}) - {None}


def _answer_ids(example: Example) -> list[set[int]]:
    """Return the ids of each run of targets."""
    positions = np.flatnonzero(example.mask)
    breaks = np.flatnonzero(np.diff(positions) > 1) + 1
    return [set(example.tokens[run].tolist()) for run in np.split(positions, breaks)]


def _trains_on_padding(example: Example, pad: int, *, pad_is_end: bool) -> bool:
    """Whether a padding token would be learned before the answer ends.

    `pad_is_end`: it ends sequences as well, so that only a second one in a row counts.
    """
    is_pad = (example.tokens == pad) & example.mask
    continues = is_pad[1:] if pad_is_end else example.mask[1:]
    return bool((is_pad[:-1] & continues).any())
