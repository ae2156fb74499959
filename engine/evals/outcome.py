"""Score one suite with the loss of the task: the scores of its examples, and the measures made from them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import torch

from engine.basics.statistics import Measure
from engine.evals import classes, pairs
from engine.evals.base_scores import BasePredictions
from engine.evals.score import Scores, score
from engine.losses.class_loss import ClassLoss
from engine.losses.dpo_loss import PairLoss, as_base
from engine.losses.loss import TargetLoss
from engine.losses.task import TaskLoss
from engine.recipe.fields import SAMPLES
from engine.tasks.prepare import Suite

OF_TEXT = ("general", SAMPLES)  # suites of plain text, whatever the task


@dataclass(frozen=True)
class Outcome:
    """The evaluation of one suite."""

    scores: Scores
    measures: dict[str, Measure]
    # Texts by class (rows) and predicted class (columns).
    confusion: list[list[int]] = field(default_factory=list)
    seconds: float = 0.0


def score_suite(
    loss: TaskLoss,
    suite: Suite,
    tokens_at_once: int,
    device: torch.device,
    check: Callable[[], None],
    base: BasePredictions | None = None,
    only: np.ndarray | None = None,
) -> Outcome:
    """Score every example, or those at the indices `only` of a suite that is scored by token; `check` is called between
    forward passes and may raise to give up.

    `base`: the first look's predictions; without them, this is the first look.
    """
    if isinstance(loss, ClassLoss):
        return _score_classes(loss, suite, tokens_at_once, device, check, base)
    if not isinstance(loss, PairLoss):
        scores = score(loss, suite, tokens_at_once, device, check, base, only)
        return Outcome(scores, scores.measures)
    if suite.name in OF_TEXT:
        return score_suite(loss.token_loss, suite, tokens_at_once, device, check, base, only)
    return _score_pairs(loss, suite, tokens_at_once, device, check)


def is_scored_by_token(loss: TaskLoss, suite: Suite) -> bool:
    """Whether a suite is scored by target tokens, so that means over a part estimate those of the whole."""
    return isinstance(loss, TargetLoss) or suite.name in OF_TEXT


def _score_classes(loss: ClassLoss, suite: Suite, *options: Any) -> Outcome:
    scores, predicted = classes.score_classes(loss, suite, *options)
    true = np.array([example.label for example in suite.examples])  # type: ignore[union-attr]
    n = loss.classes
    measures = {"loss": scores.loss.measure, **classes.measures(true, predicted, n)}
    return Outcome(scores, measures, classes.confusion(true, predicted, n).tolist())


def _score_pairs(loss: PairLoss, suite: Suite, *options: Any) -> Outcome:
    examples: list[Any] = suite.examples
    if suite.name not in loss.suite_references:
        with as_base(loss.token_loss.model, loss.method):
            loss.suite_references[suite.name] = pairs.answer_log_probs(loss, examples, *options)[0]
    log_probs, right = pairs.answer_log_probs(loss, examples, *options)
    margins = pairs.margins_of(loss, log_probs, loss.suite_references[suite.name])
    scores = replace(pairs.pair_scores(examples, log_probs, right, margins), documents=suite.passages_of)
    preferences = pairs.measures(margins, loss.task.label_smoothing)
    return Outcome(scores, {**scores.measures, **preferences})
