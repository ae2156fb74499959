"""One suite under one loss: the scores of its examples, and what follows from them."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import torch

from engine.basics.statistics import Measure
from engine.evals import classes, pairs
from engine.evals.base_scores import Base
from engine.evals.score import Scores, score
from engine.losses.class_loss import ClassLoss
from engine.losses.dpo_loss import PairLoss, as_base
from engine.losses.loss import TargetLoss
from engine.losses.task import TaskLoss
from engine.tasks.prepare import Suite


@dataclass(frozen=True)
class Outcome:
    """What an evaluation says of a suite."""

    scores: Scores
    measures: dict[str, Measure]
    confusion: list[list[int]] = field(
        default_factory=list
    )  # texts by class (rows) and class given (columns)
    seconds: float = 0.0


def outcome(
    loss: TaskLoss,
    suite: Suite,
    tokens_at_once: int,
    device: torch.device,
    check: Callable[[], None],
    base: Base | None = None,
    only: np.ndarray | None = None,
) -> Outcome:
    """Score every example, or those at the places `only` of a suite that is scored by token; `check` is called between
    forward passes and may raise to give up.

    `base`: what the first look said, token by token; without one, this is the first look.
    """
    if isinstance(loss, ClassLoss):
        return _of_classes(loss, suite, tokens_at_once, device, check, base)
    if not isinstance(loss, PairLoss):
        scores = score(loss, suite, tokens_at_once, device, check, base, only)
        return Outcome(scores, scores.measures)
    if suite.name == "general":
        return outcome(loss.words, suite, tokens_at_once, device, check, base, only)
    return _of_pairs(loss, suite, tokens_at_once, device, check)


def by_token(loss: TaskLoss, suite: Suite) -> bool:
    """Whether a suite is scored by target tokens, so that means of a part tell of the whole."""
    return isinstance(loss, TargetLoss) or suite.name == "general"


def _of_classes(loss: ClassLoss, suite: Suite, *how: Any) -> Outcome:
    scores, given = classes.score_classes(loss, suite, *how)
    true = np.array([example.label for example in suite.examples])  # type: ignore[union-attr]
    n = loss.classes
    found = {"loss": scores.loss.measure, **classes.measures(true, given, n)}
    return Outcome(scores, found, classes.confusion(true, given, n).tolist())


def _of_pairs(loss: PairLoss, suite: Suite, *how: Any) -> Outcome:
    examples: list[Any] = suite.examples
    if suite.name not in loss.suite_references:
        with as_base(loss.words.model, loss.method):
            loss.suite_references[suite.name] = pairs.answer_scores(loss, examples, *how)[0]
    answers, right = pairs.answer_scores(loss, examples, *how)
    scores = pairs.pair_scores(examples, answers, right)
    more = pairs.measures(loss, answers, loss.suite_references[suite.name])
    return Outcome(scores, {**scores.measures, **more})
