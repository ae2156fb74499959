"""How what a model writes has changed: its greedy answers to a few general prompts, measured one by one.

Of an answer: its length, the mean entropy of the distributions that its tokens were chosen from, the share of distinct
pairs of tokens (Li et al. 2016, arXiv:1510.03055), the share of four tokens in a row that were there before (Welleck et
al. 2020, arXiv:1908.04319), whether it ended by itself, refused, or is in another language than its prompt asks for.
Base and tuned model answer the same prompts, so they are compared prompt by prompt.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from transformers import LogitsProcessor, LogitsProcessorList

from engine.bundled import catalogue
from engine.data.chat import render_prompt
from engine.evals.generate import continuations, end_token_ids
from engine.evals.language import is_refusal, language_of

MAX_TOKENS = 64  # of an answer
MAX_BATCH = 24  # prompts
TOO_LONG_S = 60.0  # for all answers, by a first few tokens
TIMED_TOKENS = 4


@dataclass(frozen=True)
class Prompt:
    """A general prompt, as text and as the tokens that the model is given."""

    text: str
    language: str  # of its answer; `code` for any
    tokens: list[int]


@dataclass(frozen=True)
class Written:
    """An answer and what is measured of it; None where the answer is too short, or its language cannot be told."""

    prompt: str
    text: str
    tokens: int
    entropy: float  # nats
    distinct_pairs: float | None
    repetition: float | None
    finished: bool
    refused: bool
    switched: bool | None


def prompts(count: int, tokenizer: Any, most_tokens: int) -> list[Prompt]:
    """Return the first `count` bundled prompts, of those that have at most `most_tokens` tokens."""
    chosen = []
    for row in catalogue.general_prompts()[:count]:
        turns = ({"role": "user", "content": row["prompt"]},)
        tokens = render_prompt(turns, tokenizer)
        if len(tokens) <= most_tokens:
            chosen.append(Prompt(row["prompt"], row["language"], tokens))
    return chosen


def measured(prompt: Prompt, text: str, tokens: Sequence[int], ended: bool, entropy: float) -> Written:
    """Measure an answer; `tokens`: those of the answer without its end."""
    language = None if prompt.language == "code" else language_of(text)
    return Written(
        prompt.text,
        text,
        len(tokens),
        entropy,
        _distinct(tokens, 2),
        None if (distinct := _distinct(tokens, 4)) is None else 1 - distinct,
        ended,
        is_refusal(text),
        None if language is None else language != prompt.language,
    )


def _distinct(tokens: Sequence[int], length: int) -> float | None:
    """Return the share of different ones among the stretches of `length` tokens; None where there is none."""
    stretches = [tuple(tokens[i : i + length]) for i in range(len(tokens) - length + 1)]
    return len(set(stretches)) / len(stretches) if stretches else None


class TooDearError(Exception):
    """Answering would take `seconds`, which is more than it may."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"{seconds:.0f} s")
        self.seconds = seconds


class _Watch(LogitsProcessor):
    """Records the entropy of every distribution that a token is chosen from, and the time; changes nothing."""

    def __init__(self, batches: int, predicted: Callable[[float], None]) -> None:
        self.entropies: list[torch.Tensor] = []  # float32 [prompts] each, nats
        self._batches, self._predicted = batches, predicted
        self._times = [time.perf_counter()]

    def __call__(self, input_ids: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        log_p = scores.float().log_softmax(-1)
        self.entropies.append(-(log_p.exp() * log_p.clamp_min(-1e4)).sum(-1))
        self._times.append(time.perf_counter())
        if len(self.entropies) == TIMED_TOKENS:  # the first takes longer: it reads the prompts
            began, first, *_, now = self._times
            per_token = (now - first) / (TIMED_TOKENS - 1)
            self._predicted(self._batches * (first - began + per_token * (MAX_TOKENS - 1)))
        return scores


@torch.no_grad()
def answer(
    model: Any,
    tokenizer: Any,
    asked: Sequence[Prompt],
    tokens_at_once: int,
    device: torch.device,
    check: Callable[[], None],
    predicted: Callable[[float], None] = lambda seconds: None,
) -> list[Written]:
    """Answer the prompts, at most MAX_TOKENS tokens each, batch by batch; no batch has more than `tokens_at_once`
    tokens, unless one answer has. `check` is called between batches and may raise to give up; `predicted` with the
    seconds that all of it will take, once the first tokens are there, and may raise, too.
    """
    longest = max(len(prompt.tokens) for prompt in asked) + MAX_TOKENS
    size = max(1, min(MAX_BATCH, tokens_at_once // longest))
    written: list[Written] = []
    for start in range(0, len(asked), size):
        check()
        batches = -(-len(asked) // size) if start == 0 else 0
        watch = _Watch(batches, predicted if batches else lambda seconds: None)
        written += _answer_batch(model, tokenizer, asked[start : start + size], device, watch)
    return written


def _answer_batch(
    model: Any, tokenizer: Any, asked: Sequence[Prompt], device: torch.device, watch: _Watch
) -> list[Written]:
    prompts, processors = [prompt.tokens for prompt in asked], LogitsProcessorList([watch])
    output = continuations(model, tokenizer, prompts, MAX_TOKENS, device, logits_processor=processors)
    ends = end_token_ids(model, tokenizer) or []
    by_prompt = torch.stack(watch.entropies, dim=1).tolist()
    written = []
    for prompt, tokens, values in zip(asked, output, by_prompt, strict=True):
        stop = next((place for place, token in enumerate(tokens) if token in ends), None)
        own = tokens[:stop]
        chosen = values[: len(own) + (stop is not None)]  # the end was chosen, too
        text = tokenizer.decode(own, skip_special_tokens=True)
        written.append(measured(prompt, text, own, stop is not None, sum(chosen) / len(chosen)))
    return written
