"""Score a suite: the loss of each example, nothing averaged away, and what detectors need from the same logits."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F

from engine.basics.statistics import Estimate, Measure, ratio
from engine.evals.base_scores import BasePredictions, divergence, top_tokens, watched_targets
from engine.flags.history import number_names
from engine.losses.batches import micro_batches
from engine.losses.loss import TargetLoss
from engine.tasks.prepare import Suite

# Beside 1; logits are divided by them, in the suite of the task. Close together near 1: after a rise of half a nat the
# best was 1.1 on the bundled model.
TEMPERATURES = (0.85, 1.1, 1.2, 1.4, 1.8, 2.5, 4.0)
TEMPERED_SUITE = "heldout"
# Logits of a pass that are processed at once: few enough to stay in the CPU's cache, and not to be copied many times.
NUMBERS_AT_ONCE = 2**21


@dataclass(frozen=True)
class Scores:
    """Per example of a suite, in its order; arrays [examples]. What was not measured is None."""

    ids: list[str]
    nll: np.ndarray  # float64, nats, summed over the example's targets
    tokens: np.ndarray  # int64, targets
    right: np.ndarray  # int64, targets that were the likeliest token
    lost: np.ndarray | None = None  # int64, targets right at step 0 and wrong now
    gained: np.ndarray | None = None  # int64, the other way round
    kl: np.ndarray | None = (
        None  # float64, nats per target from step 0; NaN for examples that are not watched
    )
    tempered: np.ndarray | None = None  # float64 [temperatures, examples], nll at each of TEMPERATURES
    margins: np.ndarray | None = None  # float64, of pairs
    base: BasePredictions | None = None  # what later looks are compared with, of the first look
    slices: tuple[str, ...] = ()  # of each example; empty: the suite is not divided
    documents: tuple[str, ...] = ()  # that each example is a passage of; empty: not known

    @property
    def loss(self) -> Estimate:
        return ratio(self.nll, self.tokens, self._draws)

    @property
    def token_accuracy(self) -> Estimate:
        return ratio(self.right, self.tokens, self._draws)

    @property
    def _draws(self) -> np.ndarray | None:
        return number_names(self.documents) if self.documents else None

    @property
    def measures(self) -> dict[str, Measure]:
        return {"loss": self.loss.measure, "token_accuracy": self.token_accuracy.measure}

    def only(self, places: np.ndarray) -> Scores:
        """Return the scores of some examples, by their indices."""

        def pick(values: Any) -> Any:
            return values[..., places] if isinstance(values, np.ndarray) else values

        def named(names: tuple[str, ...]) -> tuple[str, ...]:
            return tuple(names[i] for i in places if names)

        ids, slices, documents = [self.ids[i] for i in places], named(self.slices), named(self.documents)
        arrays = {key: pick(getattr(self, key)) for key in _OF_EXAMPLES}
        return replace(self, ids=ids, slices=slices, documents=documents, **arrays)

    def with_rest(self, other: Scores, ids: Sequence[str]) -> Scores:
        """Merge with the scores of other examples at the same look, in the order of `ids`."""
        place = {id: at for at, id in enumerate([*self.ids, *other.ids])}
        arrays = {key: _concatenate(getattr(self, key), getattr(other, key)) for key in _OF_EXAMPLES}
        slices, documents = self.slices + other.slices, self.documents + other.documents
        joined = replace(self, ids=list(place), slices=slices, documents=documents, **arrays)
        return joined.only(np.array([place[id] for id in ids]))


_OF_EXAMPLES = ("nll", "tokens", "right", "lost", "gained", "kl", "tempered", "margins")


def _concatenate(one: Any, other: Any) -> Any:
    return None if one is None or other is None else np.concatenate([one, other], axis=-1)


@torch.no_grad()
def score(
    loss: TargetLoss,
    suite: Suite,
    tokens_at_once: int,
    device: torch.device,
    check: Callable[[], None],
    base: BasePredictions | None = None,
    only: np.ndarray | None = None,
) -> Scores:
    """Score every example, or those at the indices `only`; `check` is called between forward passes and may raise to
    give up.

    `base`: predictions of the first look, with which tokens are compared; without them, this is the first look.
    """
    examples = suite.examples
    lengths = np.array([len(example.tokens) for example in examples])
    counts = np.array([example.targets for example in examples])
    starts = np.cumsum(counts) - counts
    target_scores = _TargetScores(suite, int(counts.sum()), base)
    places = np.arange(len(examples)) if only is None else only
    for group in micro_batches(lengths, places, tokens_at_once, loss.packed):
        check()
        batch = loss.collate([examples[i] for i in group], device)
        target_scores.places = np.concatenate([np.arange(starts[i], starts[i] + counts[i]) for i in group])
        loss.with_logits(batch, target_scores.add)
    scores = target_scores.scores([example.id for example in examples], counts)
    scores = replace(scores, documents=suite.passages_of)
    return scores if only is None else scores.only(only)


def at_temperatures(logits: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
    """Return the negative log-likelihood of each target at each of TEMPERATURES; float32 [temperatures, targets], nats.

    One buffer is used for all: twice as fast as a cross-entropy at each.
    """
    shifted = logits - logits.amax(-1, keepdim=True)  # of the likeliest
    chosen, buffer, losses = shifted.gather(-1, targets[:, None])[:, 0], torch.empty_like(shifted), []
    for temperature in TEMPERATURES:
        sums = torch.mul(shifted, 1 / temperature, out=buffer).exp_().sum(-1)
        losses.append(sums.log() - chosen / temperature)
    return torch.stack(losses)


class _TargetScores:
    """The scores of each target of a suite, filled in pass by pass."""

    def __init__(self, suite: Suite, count: int, base: BasePredictions | None) -> None:
        self.places = np.zeros(0, dtype=np.int64)  # of the targets still to come in the present pass
        self._nll = np.zeros(count)
        self._right = np.zeros(count, dtype=bool)
        self._tempered = np.zeros((len(TEMPERATURES) if suite.name == TEMPERED_SUITE else 0, count))
        self._watched = watched_targets(suite)
        self._place = np.full(count, -1)  # among the watched ones
        self._place[self._watched] = np.arange(len(self._watched))
        self._kl = np.zeros(len(self._watched))
        self._base = base
        width = (len(self._watched), 0) if base is None else base.top.shape
        self._top: np.ndarray = np.zeros(width, dtype=np.int32)
        self._log_p: np.ndarray = np.zeros(width, dtype=np.float32)

    def add(self, logits: torch.Tensor, targets: torch.Tensor) -> None:
        """Score the next targets: `logits` float32 [targets, vocabulary]."""
        size = max(1, NUMBERS_AT_ONCE // logits.shape[1])
        for some, their_targets in zip(logits.split(size), targets.split(size), strict=True):
            self._add(some, their_targets)

    def _add(self, logits: torch.Tensor, targets: torch.Tensor) -> None:
        places, self.places = self.places[: len(targets)], self.places[len(targets) :]
        self._nll[places] = F.cross_entropy(logits, targets, reduction="none").double().cpu().numpy()
        self._right[places] = (logits.argmax(-1) == targets).cpu().numpy()
        if len(self._tempered):
            self._tempered[:, places] = at_temperatures(logits, targets).double().cpu().numpy()
        watched = self._place[places]
        if (watched >= 0).any():
            chosen = torch.from_numpy(np.flatnonzero(watched >= 0)).to(logits.device)
            self._watch(watched[watched >= 0], logits.index_select(0, chosen))

    def _watch(self, places: np.ndarray, logits: torch.Tensor) -> None:
        if self._base is None:
            top, of_top = top_tokens(logits)
            if self._top.shape[1] == 0:
                self._top = np.zeros((len(self._top), top.shape[1]), dtype=np.int32)
                self._log_p = np.zeros(self._top.shape, dtype=np.float32)
            self._top[places], self._log_p[places] = top.cpu().numpy(), of_top.cpu().numpy()
            return
        log_p = torch.from_numpy(self._base.log_p[places]).to(logits.device)
        tokens = torch.from_numpy(self._base.top[places]).to(logits.device, torch.int64)
        self._kl[places] = divergence(log_p, tokens, logits).double().cpu().numpy()

    def scores(self, ids: list[str], counts: np.ndarray) -> Scores:
        """Sum up the targets of each example."""
        owner = np.repeat(np.arange(len(ids)), counts)
        base = BasePredictions(self._right, self._top, self._log_p) if self._base is None else self._base

        def summed(values: np.ndarray) -> np.ndarray:
            return np.bincount(owner, values, len(ids))

        watched_of = owner[self._watched]
        with np.errstate(invalid="ignore"):  # 0 / 0: not watched
            kl = np.bincount(watched_of, self._kl, len(ids)) / np.bincount(watched_of, minlength=len(ids))
        return Scores(
            ids,
            summed(self._nll),
            counts,
            summed(self._right).astype(np.int64),
            lost=summed(base.right & ~self._right).astype(np.int64),
            gained=summed(~base.right & self._right).astype(np.int64),
            kl=kl if len(self._watched) else None,
            tempered=np.array([summed(row) for row in self._tempered]) if len(self._tempered) else None,
            base=base if self._base is None else None,
        )
