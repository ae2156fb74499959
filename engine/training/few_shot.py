"""Score the base model with a few training examples before each held-out prompt: is fine-tuning worth it at all?

Done once, before the first step, on the same target tokens as the suite `heldout`, so that the losses of the two are
paired by example. The base model's zero-shot result is that suite at step 0.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from contextlib import nullcontext
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
from accelerate import Accelerator

from engine.basics.errors import DataError
from engine.basics.statistics import mean
from engine.data.chat import Example, tokenize
from engine.data.formats import Document
from engine.data.split import first_by_hash
from engine.evals.score import score
from engine.losses.dpo_loss import as_base, keeps_base
from engine.losses.loss import TargetLoss
from engine.losses.task import TaskLoss
from engine.models import distributed, load
from engine.runs.events import FEW_SHOT
from engine.tasks.items import text_items
from engine.tasks.prepare import Prepared, Suite
from engine.training.base_cache import base_cache_of, starts_as_base
from engine.training.job import Job

MAX_EXAMPLES = 100  # held-out examples: each costs several times its own tokens


def few_shot_baseline(job: Job, accelerator: Accelerator, loss: TaskLoss) -> None:
    """Score and log the suite `heldout_few_shot`, where the recipe asks for it, the task has target tokens to
    compare, and the base model can still be run. Call it at step 0. Raises Cancelled.
    """
    method = job.recipe.method
    if not job.recipe.evals.few_shot or not isinstance(loss, TargetLoss):
        return
    if not starts_as_base(method) and not keeps_base(method):
        job.report.log("info", "no few-shot baseline: this method has changed the base model's weights")
        return
    started = time.perf_counter()
    max_tokens = min(load.longest(job.recipe.model, job.tokenizer), job.eval_tokens)
    suite, shots = few_shot_suite(job.data, job.recipe.evals.few_shot, job.tokenizer, max_tokens)
    if not suite.examples:
        job.report.log(
            "info", f"no few-shot baseline: no example fits before a prompt in {max_tokens} tokens"
        )
        return
    job.report.phase("eval", job.step, suite.name)
    job.model.eval()
    score_now = partial(score, loss, suite, job.eval_tokens, accelerator.device, job.stop.check)
    without_adapter = nullcontext() if starts_as_base(method) else as_base(job.model, method)
    with accelerator.autocast(), without_adapter:
        cache = base_cache_of(job)
        scores = distributed.from_first(cache.scores(suite, score_now) if cache else score_now())
    # There is no other look to compare tokens with.
    scores = replace(scores, lost=None, gained=None, base=None)
    job.model.train()
    measures = scores.measures | {"shots": mean(np.array(shots))}
    job.report.eval(job.step, suite.name, scores, measures, [], time.perf_counter() - started)


def few_shot_suite(data: Prepared, count: int, tokenizer: Any, max_tokens: int) -> tuple[Suite, list[int]]:
    """Return the first held-out examples with up to `count` training examples before each, as many as fit into
    `max_tokens` tokens, and how many those are. Ids and targets are those of the suite `heldout`.

    The training examples are chosen by content hash. Held-out examples before which none fits, or whose targets the
    tokenizer splits differently there, are skipped.
    """
    heldout = data.suite("heldout")
    shots = first_by_hash(data.suite("seen").documents, count, "few-shot")
    documents, examples, counts = [], [], []
    for document, example in list(zip(heldout.documents, heldout.examples, strict=True))[:MAX_EXAMPLES]:
        for shot_count in range(len(shots), 0, -1):
            prompted = _with_shots(document, example, shots[:shot_count], tokenizer)  # type: ignore[arg-type]
            if prompted is not None and len(prompted.tokens) <= max_tokens:
                documents.append(document)
                examples.append(prompted)
                counts.append(shot_count)
                break
    return Suite(FEW_SHOT, documents, examples), counts  # type: ignore[arg-type]


def _with_shots(
    document: Document, example: Example, shots: Sequence[Document], tokenizer: Any
) -> Example | None:
    """Put the shots before an example; None if its targets are then not the same tokens as without."""
    prompted = (_chat if document.messages else _text)(document, example, shots, tokenizer)
    same = prompted is not None and np.array_equal(
        prompted.tokens[prompted.mask], example.tokens[example.mask]
    )
    return prompted if same else None


def _chat(document: Document, example: Example, shots: Sequence[Document], tokenizer: Any) -> Example | None:
    """Put the turns of the shots first, after the row's own system message."""
    own = [message for message in document.messages[:1] if message["role"] == "system"]
    others = [message for shot in shots for message in shot.messages if message["role"] != "system"]
    messages = (*own, *others, *document.messages[len(own) :])
    try:
        # Of a conversation that is learned answer by answer, the last is scored.
        whole = tokenize(replace(document, messages=messages), tokenizer)[-1]
        targets = tokenize(document, tokenizer)[-1].targets
    except DataError:  # a template that does not take so many turns
        return None
    # The last answers are the row's own; of a row that was cut, the first of them.
    places = np.flatnonzero(whole.mask)[-targets:][: example.targets]
    mask = np.zeros_like(whole.mask)
    mask[places] = True
    end = int(places[-1]) + 1
    return Example(example.id, whole.tokens[:end], mask[:end])


def _text(document: Document, example: Example, shots: Sequence[Document], tokenizer: Any) -> Example:
    """Join the texts, each with its end; the beginning-of-sequence token, if there is one, only once."""
    begins = tokenizer.bos_token_id is not None and example.tokens[0] == tokenizer.bos_token_id
    start = 1 if begins else 0
    others = [text_items(shot, tokenizer)[0].tokens[start:] for shot in shots]
    before = np.concatenate([example.tokens[:start], *others])
    mask = np.concatenate([np.zeros(len(before), dtype=bool), example.mask[start:]])
    return Example(example.id, np.concatenate([before, example.tokens[start:]]), mask)
