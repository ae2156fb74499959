"""Generate greedy answers to a few fixed held-out prompts, for people to read and metrics to compare."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Any

import torch

from engine.data.chat import padding, render_prompt
from engine.recipe.sections import Recipe
from engine.recipe.tasks import Classification, Completion
from engine.tasks.prepare import Suite

BATCH_SIZE = 32  # prompts in a batch


@dataclass(frozen=True)
class Question:
    """A prompt and its reference answer."""

    prompt: str
    tokens: list[int]  # of the prompt
    reference: str
    fits: bool  # could the reference be written in full, its end included?


@dataclass(frozen=True)
class Answer:
    """A generated text, and whether the model ended it by itself."""

    text: str
    ended: bool


def choose_questions(recipe: Recipe, suite: Suite, tokenizer: Any, max_tokens: int) -> list[Question]:
    """Return the first prompts of a suite that have at most `max_tokens` tokens; of a plain text, its first half, to be
    continued. Empty for a classifier.
    """
    if isinstance(recipe.task, Classification):
        return []
    candidates = _halves if isinstance(recipe.task, Completion) else _prompts
    fitting = (
        q for q in candidates(suite, tokenizer, recipe.evals.max_new_tokens) if len(q.tokens) <= max_tokens
    )
    return list(islice(fitting, recipe.evals.generate))


def _prompts(suite: Suite, tokenizer: Any, max_new_tokens: int) -> Iterator[Question]:
    for document in suite.documents:
        if turns := document.turns_before_answer:  # a conversation may begin with its only answer
            tokens = render_prompt(turns, tokenizer, document.tools)
            target = tokenizer(document.target, add_special_tokens=False)["input_ids"]
            yield Question(document.prompt, tokens, document.target, fits=len(target) < max_new_tokens)


def _halves(suite: Suite, tokenizer: Any, max_new_tokens: int) -> Iterator[Question]:
    for example in suite.examples:
        tokens = example.tokens.tolist()
        half = (len(tokens) + 1) // 2
        prompt, rest = (
            tokenizer.decode(part, skip_special_tokens=True)
            for part in (tokens[:half], tokens[half:][:max_new_tokens])
        )
        yield Question(prompt, tokens[:half], rest, fits=False)  # a plain text need not end


@torch.no_grad()
def generate_answers(
    model: Any, tokenizer: Any, questions: Sequence[Question], max_new_tokens: int, device: torch.device
) -> list[Answer]:
    """Generate one answer per question, at most `max_new_tokens` tokens, cut at the end of the turn."""
    generated = []
    for start in range(0, len(questions), BATCH_SIZE):
        prompts = [question.tokens for question in questions[start : start + BATCH_SIZE]]
        generated += _answers(model, tokenizer, prompts, max_new_tokens, device)
    return generated


def _answers(
    model: Any, tokenizer: Any, prompts: Sequence[list[int]], max_new_tokens: int, device: torch.device
) -> list[Answer]:
    new = continuations(model, tokenizer, prompts, max_new_tokens, device)
    texts = tokenizer.batch_decode(new, skip_special_tokens=True)
    ends = set(end_token_ids(model, tokenizer) or [])
    return [Answer(text, bool(set(row) & ends)) for text, row in zip(texts, new, strict=True)]


def continuations(
    model: Any,
    tokenizer: Any,
    prompts: Sequence[Sequence[int]],
    max_new_tokens: int,
    device: torch.device,
    **options: Any,
) -> list[list[int]]:
    """Return what the model writes after each prompt, as tokens: the likeliest, unless `options` of transformers'
    `generate` say otherwise. All have the length of the longest: after its end a text is padded.
    """
    longest, pad = max(map(len, prompts)), padding(tokenizer)
    missing = [longest - len(prompt) for prompt in prompts]
    rows = [[pad] * short + list(prompt) for short, prompt in zip(missing, prompts, strict=True)]
    mask = [[0] * short + [1] * (longest - short) for short in missing]
    with _without_router_loss(model):
        output = model.generate(
            input_ids=torch.tensor(rows, device=device),
            attention_mask=torch.tensor(mask, device=device),
            max_new_tokens=max_new_tokens,
            pad_token_id=pad,
            eos_token_id=end_token_ids(model, tokenizer),
            use_cache=True,
            **{"do_sample": False} | options,
        )
    written: list[list[int]] = output[:, longest:].tolist()
    return written


@contextmanager
def _without_router_loss(model: Any) -> Iterator[None]:
    """Let a mixture of experts write. Where its config asks for the routers' loss, transformers computes it at every
    token, and fails on texts of unequal length once the earlier ones are in the cache.
    """
    config = model.config.get_text_config()
    wanted = getattr(config, "output_router_logits", None)
    if wanted:
        config.output_router_logits = False
    try:
        yield
    finally:
        if wanted:
            config.output_router_logits = wanted


def end_token_ids(model: Any, tokenizer: Any) -> list[int] | None:
    """Return the tokens that end an answer, by the model's generation settings and the tokenizer; None without any."""
    configured = model.generation_config.eos_token_id
    ends = {*(configured if isinstance(configured, list) else [configured]), tokenizer.eos_token_id} - {None}
    return sorted(ends) or None
