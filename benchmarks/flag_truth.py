"""What a run was, by its oracle, and how well flags told it: the rules of docs/flags.md, as pure functions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy.special import betaincinv

from engine.flags.history import History
from engine.recipe.fields import SAMPLES

FORGETS, FORGETS_BADLY = 0.10, 0.30  # nats per token
PER_GAIN = 0.2  # nats of general text per nat gained that are in proportion
TURNED_UP = 0.01
REMOVED, WORSE = 0.7, 0.01
SEEN_ROSE = 0.01
NEAR = 0.2  # of a margin: borderline

Outcome = Literal["hit", "false", "missed", "right", "borderline", "last"]


@dataclass(frozen=True)
class Truth:
    """What the oracle says of a run. Looks count from 0, the base model; None: it never happened."""

    looks: int
    forgets: int | None  # onset
    forgets_badly: int | None  # onset
    pays: int | None  # onset of a price in proportion, in a run that never forgets
    drift: float  # largest rise of general text, as a whole or in a slice, nats per token
    excess: float  # largest ratio of that rise to its margin
    end: float  # rise of general text as a whole at the last look
    turned_up: int | None  # onset of a harmful rise of the task's loss
    harmless: int | None  # onset of a rise that is harmless at every look from then on
    rise: float  # largest rise above the best look
    cause: Literal["overfitting", "instability"] | None

    @property
    def clean(self) -> bool:
        return self.forgets is None and self.turned_up is None


def truth(heldout: History, general: History, train: History, weighs: bool = True) -> Truth:
    """By the oracle's suites; all have the same looks, and `heldout` its losses at several temperatures.

    `weighs`: whether the held-out loss is in nats per target token, so that its fall can be weighed against forgetting.
    """
    general = real_text(general)
    prices = _drifts(general)
    losses = np.array([heldout.loss(k) for k in range(len(heldout.steps))])
    gains = losses[0] - losses if weighs else np.zeros(len(losses))
    margins = np.clip(PER_GAIN * gains, FORGETS, FORGETS_BADLY)
    forgets = onset(prices > margins)
    best = np.array([int(np.argmin(losses[: k + 1])) for k in range(len(losses))])
    rises = losses - losses[best]
    up = rises > TURNED_UP
    harmless = np.array([up[k] and _harmless(heldout, int(best[k]), k) for k in range(len(losses))])
    harmful = onset(up & ~harmless)
    since = onset(up)
    at = harmful if harmful is not None else since
    seen = np.array([train.loss(k) for k in range(len(train.steps))])
    cause: Literal["overfitting", "instability"] | None = None
    if at is not None:
        cause = "instability" if seen[at] > seen[best[at]] + SEEN_ROSE else "overfitting"
    return Truth(
        looks=len(heldout.steps) - 1,
        forgets=forgets,
        forgets_badly=onset(prices > FORGETS_BADLY),
        pays=onset(prices > FORGETS) if forgets is None else None,
        drift=float(prices.max()),
        excess=float((prices / margins).max()),
        end=float(general.loss(-1) - general.loss(0)),
        turned_up=harmful,
        harmless=since if harmful is None else None,
        rise=float(rises.max()),
        cause=cause,
    )


def real_text(general: History) -> History:
    """Return the general suite without texts that the base model wrote: their change is a distance, never below 0."""
    return general.only(np.array(general.slices) != SAMPLES) if SAMPLES in general.slices else general


def onset(holds: np.ndarray) -> int | None:
    """The first look at which something holds that holds at the next one too, or that is the last."""
    for look in np.flatnonzero(holds):
        if look == len(holds) - 1 or holds[look + 1]:
            return int(look)
    return None


def _drifts(general: History) -> np.ndarray:
    """The rise since step 0 at each look: as a whole or in the slice hit worst, float [looks]."""
    parts = [general.only(chosen) for chosen in general.groups().values()]
    return np.array([[part.loss(k) - part.loss(0) for part in parts] for k in range(len(general.steps))]).max(
        axis=1
    )


def _harmless(heldout: History, best: int, look: int) -> bool:
    assert heldout.tempered is not None
    assert heldout.right is not None
    tokens = heldout.tokens.sum()
    losses = heldout.tempered[[best, look]].sum(axis=2) / tokens  # [2, temperatures]
    rise = heldout.loss(look) - heldout.loss(best)
    removed = 1 - (losses[1].min() - losses[0].min()) / rise
    worse = (heldout.right[best].sum() - heldout.right[look].sum()) / tokens
    return bool(removed >= REMOVED and worse < WORSE)


def outcome(begins: int | None, flagged: int | None, effect: float, margin: float, looks: int) -> Outcome:
    """How a flag at look `flagged` (None: none) did on a run with this onset and largest effect."""
    if abs(effect - margin) <= NEAR * margin:
        return "borderline"
    if begins == looks and (flagged is None or flagged >= begins):
        return "last"
    if begins is None:
        return "right" if flagged is None else "false"
    if flagged is None:
        return "missed"
    return "hit" if flagged >= begins else "false"


@dataclass(frozen=True)
class Score:
    """Of a detector over all runs."""

    hits: int
    false: int
    missed: int
    right: int
    borderline: int
    last: int
    lag: float  # median, in looks

    @property
    def precision(self) -> float:
        return self.hits / (self.hits + self.false) if self.hits + self.false else float("nan")

    @property
    def recall(self) -> float:
        # A run flagged before its onset was not told right either.
        return self.hits / (self.hits + self.missed) if self.hits + self.missed else float("nan")


def score(outcomes: Sequence[Outcome], lags: Sequence[int]) -> Score:
    """`lags`: of the hits alone."""
    kinds: tuple[Outcome, ...] = ("hit", "false", "missed", "right", "borderline", "last")
    hits, false, missed, right, borderline, last = (outcomes.count(kind) for kind in kinds)
    return Score(
        hits, false, missed, right, borderline, last, float(np.median(lags)) if lags else float("nan")
    )


def upper_bound(count: int, n: int, level: float = 0.95) -> float:
    """One-sided upper bound of a proportion (C. Clopper and E. Pearson, 1934)."""
    return 1.0 if count >= n else float(betaincinv(count + 1, n - count, level))
