"""Score a classifier: its accuracy, its macro F1, and which classes it confuses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from engine.basics.statistics import Measure, bootstrap, share
from engine.evals.base_scores import BasePredictions
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
    base: BasePredictions | None = None,
) -> tuple[Scores, np.ndarray]:
    """Return the scores of a suite, each text counted as one token, and the predicted classes, int64 [examples].

    `check` is called between forward passes and may raise to give up. `base`: predictions of the first look; without
    them, this is the first look.
    """
    examples: list[Any] = suite.examples
    n = len(examples)
    lengths = np.array([len(example.tokens) for example in examples])
    nll, predicted = np.zeros(n), np.zeros(n, dtype=np.int64)
    tempered = np.zeros((len(TEMPERATURES), n))
    for group in micro_batches(lengths, np.arange(n), tokens_at_once):
        check()
        batch = loss.collate([examples[i] for i in group], device)
        logits = loss.logits(batch)
        nll[group] = F.cross_entropy(logits, batch.labels, reduction="none").cpu().numpy()
        tempered[:, group] = at_temperatures(logits, batch.labels).cpu().numpy()
        predicted[group] = logits.argmax(-1).cpu().numpy()
    right = predicted == np.array([example.label for example in examples])
    predictions = BasePredictions(right, np.zeros((0, 0), dtype=np.int32), np.zeros((0, 0), dtype=np.float32))
    reference = base or predictions
    scores = Scores(
        [example.id for example in examples],
        nll,
        np.ones(n, dtype=np.int64),
        right.astype(np.int64),
        lost=(reference.right & ~right).astype(np.int64),
        gained=(~reference.right & right).astype(np.int64),
        tempered=tempered if suite.name == TEMPERED_SUITE else None,
        base=None if base else predictions,
        documents=suite.passages_of,
    )
    return scores, predicted


def measures(true: np.ndarray, predicted: np.ndarray, classes: int) -> dict[str, Measure]:
    """Return accuracy and macro F1 of predicted classes; both arrays int [n]."""
    return {
        "accuracy": share(true == predicted),
        "macro_f1": bootstrap(
            lambda chosen: macro_f1(confusion(true[chosen], predicted[chosen], classes)), len(true)
        ),
    }


def confusion(true: np.ndarray, predicted: np.ndarray, classes: int) -> np.ndarray:
    """Count the texts by class (rows) and predicted class (columns): int64 [classes, classes]."""
    return np.bincount(true * classes + predicted, minlength=classes**2).reshape(classes, classes)


def macro_f1(matrix: np.ndarray) -> float:
    """Return the mean over the classes of 2 · right / (texts of the class + texts predicted as the class).

    A class that neither occurs nor is predicted is left out, as in scikit-learn.
    """
    sums = matrix.sum(0) + matrix.sum(1)
    return float((2 * np.diag(matrix)[sums > 0] / sums[sums > 0]).mean())
