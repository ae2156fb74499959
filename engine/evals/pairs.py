"""Score preference pairs: does the model prefer the chosen answer, more than the base model did?"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import torch

from engine.basics.statistics import Measure, mean, share
from engine.evals.score import Scores
from engine.flags.measure import preference_losses, preferred
from engine.losses.batches import micro_batches
from engine.losses.dpo_loss import PairLoss
from engine.tasks.items import Pair


@torch.no_grad()
def answer_log_probs(
    loss: PairLoss,
    pairs: Sequence[Pair],
    tokens_at_once: int,
    device: torch.device,
    check: Callable[[], None],
) -> tuple[np.ndarray, np.ndarray]:
    """Return the log-probabilities of the chosen and the rejected answers, float64 [2, pairs] in nats, and how many
    tokens of each chosen answer were the likeliest, int64 [pairs].

    `check` is called between forward passes and may raise to give up.
    """
    log_probs, right = np.zeros((2, len(pairs))), np.zeros(len(pairs), dtype=np.int64)
    lengths = np.array([len(pair.tokens) for pair in pairs])
    for group in micro_batches(lengths, np.arange(len(pairs)), tokens_at_once, loss.token_loss.packed):
        check()
        batch = loss.both([pairs[i] for i in group], device)
        scores = loss.token_loss.scores(batch)
        rows, n = batch.rows.cpu().numpy(), len(group)
        log_probs[:, group] = -np.bincount(rows, scores.nll.double().cpu().numpy(), 2 * n).reshape(2, n)
        right[group] = np.bincount(rows, scores.right.cpu().numpy(), 2 * n)[:n]
    return log_probs, right


def pair_scores(
    pairs: Sequence[Pair], log_probs: np.ndarray, right: np.ndarray, margins: np.ndarray
) -> Scores:
    """Return the scores of the chosen answers, from the result of `answer_log_probs`, with the pairs' margins."""
    targets = np.array([pair.chosen.targets for pair in pairs])
    return Scores([pair.id for pair in pairs], -log_probs[0], targets, right, margins=margins)


def margins_of(loss: PairLoss, log_probs: np.ndarray, reference: np.ndarray) -> np.ndarray:
    """Return the margin of each pair, float64 [pairs]; both arrays float64 [2, pairs], `reference` under the base."""
    return loss.margins(torch.from_numpy(log_probs), torch.from_numpy(reference)).numpy()


def measures(margins: np.ndarray, label_smoothing: float) -> dict[str, Measure]:
    """Return the measures of pairs from their margins, float64 [pairs].

    A reward is beta · (log p - log p_base) of an answer. `reward_accuracy` is the share of the pairs whose chosen
    answer has the higher one, equal ones counted as half: 0.5 for the base model itself.
    """
    return {
        "preference_loss": mean(preference_losses(margins, label_smoothing)),
        "reward_margin": mean(margins),
        "reward_accuracy": share(preferred(margins)),
    }
