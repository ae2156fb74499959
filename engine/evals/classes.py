"""Scoring a classifier: how often it is right, on which classes, and what it takes for what."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from engine.basics.statistics import Measure, bootstrap, share
from engine.evals.base_scores import Base
from engine.evals.score import TEMPERATURES, TEMPERED_SUITE, Scores, at_temperatures
from engine.losses.batches import micro_batches
from engine.losses.class_loss import ClassLoss
from engine.tasks.prepare import Suite


@torch.no_grad()
def score_classes(
    loss: ClassLoss,
    suite: Suite,
    tokens_at_once: int,
    device: torch.device,
    check: Callable[[], None],
    base: Base | None = None,
) -> tuple[Scores, np.ndarray]:
    """The scores of a suite, each text counted as one token, and the class that each was given, int64 [examples].

    `check` is called between forward passes and may raise to give up. `base`: of the first look; without one, this is
    the first look.
    """
    examples: list[Any] = suite.examples
    n = len(examples)
    lengths = np.array([len(example.tokens) for example in examples])
    nll, given = np.zeros(n), np.zeros(n, dtype=np.int64)
    tempered = np.zeros((len(TEMPERATURES), n))
    for group in micro_batches(lengths, np.arange(n), tokens_at_once):
        check()
        batch = loss.collate([examples[i] for i in group], device)
        logits = loss.logits(batch)
        nll[group] = F.cross_entropy(logits, batch.labels, reduction="none").cpu().numpy()
        tempered[:, group] = at_temperatures(logits, batch.labels).cpu().numpy()
        given[group] = logits.argmax(-1).cpu().numpy()
    right = given == np.array([example.label for example in examples])
    first = Base(right, np.zeros((0, 0), dtype=np.int32), np.zeros((0, 0), dtype=np.float32))
    before = base or first
    scores = Scores(
        [example.id for example in examples],
        nll,
        np.ones(n, dtype=np.int64),
        right.astype(np.int64),
        lost=(before.right & ~right).astype(np.int64),
        gained=(~before.right & right).astype(np.int64),
        tempered=tempered if suite.name == TEMPERED_SUITE else None,
        base=None if base else first,
    )
    return scores, given


def measures(true: np.ndarray, given: np.ndarray, classes: int) -> dict[str, Measure]:
    """Accuracy and macro F1 of classes given to texts, both int [n]."""
    return {
        "accuracy": share(true == given),
        "macro_f1": bootstrap(
            lambda chosen: macro_f1(confusion(true[chosen], given[chosen], classes)), len(true)
        ),
    }


def confusion(true: np.ndarray, given: np.ndarray, classes: int) -> np.ndarray:
    """How many texts of each class (rows) were given which class (columns): int64 [classes, classes]."""
    return np.bincount(true * classes + given, minlength=classes**2).reshape(classes, classes)


def macro_f1(matrix: np.ndarray) -> float:
    """Mean over the classes of 2 · right / (texts of the class + texts given the class).

    A class that is neither there nor given is left out, as scikit-learn does.
    """
    sums = matrix.sum(0) + matrix.sum(1)
    return float((2 * np.diag(matrix)[sums > 0] / sums[sums > 0]).mean())
