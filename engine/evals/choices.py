"""Score multiple-choice questions by the likelihood of their options, as EleutherAI's lm-evaluation-harness does.

A model chooses the option with the highest log-likelihood after the question: summed over its tokens (`accuracy`, the
harness's `acc`), or divided by its length in characters (`accuracy_norm`, its `acc_norm`). No chat template is used.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np

from engine.basics.statistics import Measure, share
from engine.data.chat import Example
from engine.data.choices import ChoiceQuestion, ChoiceSet
from engine.data.formats import Document
from engine.evals.score import Scores
from engine.tasks.prepare import Suite


@dataclass(frozen=True)
class ChoiceSuite:
    """The questions of a slice, and an example for each option, question by question."""

    name: str
    questions: list[ChoiceQuestion]
    options: Suite


@dataclass(frozen=True)
class Chosen:
    """What a model chooses for each question of a slice: the number of an option, from 0; int64 [questions]."""

    name: str
    questions: list[ChoiceQuestion]
    by_sum: np.ndarray
    by_length: np.ndarray

    @property
    def measures(self) -> dict[str, Measure]:
        answers = np.array([question.answer for question in self.questions])
        return {"accuracy": share(self.by_sum == answers), "accuracy_norm": share(self.by_length == answers)}


def choice_suite(choice_set: ChoiceSet, tokenizer: Any, longest: int) -> ChoiceSuite:
    """Tokenise the questions of a slice; of a text with more than `longest` tokens, the beginning is left out."""
    documents, examples = [], []
    for question in choice_set.questions:
        for place, option in enumerate(question.options):
            id = f"{question.id}-{place}"
            documents.append(Document(id, text=f"{question.context} {option}"))
            examples.append(_example(id, question.context, option, tokenizer, longest))
    name = f"choices.{choice_set.name}"
    return ChoiceSuite(choice_set.name, choice_set.questions, Suite(name, documents, list(examples)))


def _example(id: str, context: str, option: str, tokenizer: Any, longest: int) -> Example:
    """Return a question with one option; the option's tokens are the targets.

    Both are tokenised together, as they would be in a text, and divided where the question's own tokens end.
    """
    before, whole = (
        list(tokenizer(text, add_special_tokens=False)["input_ids"])
        for text in (context, f"{context} {option}")
    )
    if tokenizer.bos_token_id is not None and whole[:1] != [tokenizer.bos_token_id]:
        before, whole = [tokenizer.bos_token_id, *before], [tokenizer.bos_token_id, *whole]
    mask = np.arange(len(whole)) >= min(len(before), len(whole) - 1)
    mask[0] = False  # nothing comes before the first token that could predict it
    tokens, mask = np.asarray(whole, dtype=np.int32)[-longest:], mask[-longest:]
    mask[0] = False
    return Example(id, tokens, mask)


def choose(suite: ChoiceSuite, score: Callable[[Suite], Scores]) -> Chosen:
    """Return what the model chooses; `score` gives the negative log-likelihood of each option."""
    likelihoods = -score(suite.options).nll
    lengths = [len(option) for question in suite.questions for option in question.options]
    starts = np.cumsum([0, *(len(question.options) for question in suite.questions)])
    return Chosen(
        suite.name,
        suite.questions,
        _highest(likelihoods, starts),
        _highest(likelihoods / np.array(lengths), starts),
    )


def _highest(values: np.ndarray, starts: np.ndarray) -> np.ndarray:
    """Return the place of the highest value in each part, from its start to the next one."""
    return np.array([int(np.argmax(values[start:end])) for start, end in pairwise(starts)], dtype=np.int64)
