"""What a flag says, and what the detectors share."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np

Level = Literal["warn", "critical"]
LEVELS: tuple[Level, ...] = ("warn", "critical")

ALPHA = 0.05  # chance of a false flag over all looks of a run, at most
HITS_IN_A_ROW = 2
WORST = 5  # examples shown


@dataclass(frozen=True)
class Worst:
    """An example that got much worse; nats per token."""

    id: str
    before: float
    after: float


@dataclass(frozen=True)
class Flag:
    """A statement with its evidence. `effect`, `lo` and `hi` (95%) are in nats per token."""

    flag: str
    level: Level
    step: int
    since_step: int
    suite: str
    effect: float
    lo: float
    hi: float
    n: int  # examples
    looks: int  # evaluations so far, step 0 not counted
    message: str
    advice: tuple[str, ...]
    worst: tuple[Worst, ...]


@dataclass(frozen=True)
class History:
    """A suite's losses over the evaluations of a run; row 0 is the base model, at step 0."""

    suite: str
    steps: tuple[int, ...]
    ids: tuple[str, ...]
    nll: np.ndarray  # float64 [evaluations, examples], nats, summed over an example's tokens
    tokens: np.ndarray  # int64 [examples]

    @property
    def looks(self) -> int:
        return len(self.steps) - 1

    def loss(self, look: int) -> float:
        return float(self.nll[look].sum() / self.tokens.sum())


# What makes each method change the model less.
CHANGE_LESS = {
    "full": "Train adapters instead of every weight: method.name=lora.",
    "freeze": "Train a smaller part of the model: lower method.layers, or name less in method.modules.",
    "lora": "Adapt fewer layers: name some in method.targets, or lower method.r.",
    "qlora": "Adapt fewer layers: name some in method.targets, or lower method.r.",
    "adapter": "Make the adapters smaller: raise method.reduction, or set method.placement=pfeiffer.",
    "ia3": "Train for fewer steps: IA3 has nothing that could be made smaller.",
    "prefix": "Train fewer virtual tokens: lower method.tokens.",
    "prompt": "Train fewer virtual tokens: lower method.tokens.",
}


@dataclass(frozen=True)
class Context:
    """What advice depends on."""

    method: str
    lr: float
    replay: float  # share of replayed tokens, 0 without


def level_at(look: int) -> float:
    """The significance level of look k (from 1): 6 a / (pi^2 k^2)."""
    return 6 * ALPHA / (math.pi * look) ** 2


def standing(hits: dict[Level, list[bool]]) -> Level | None:
    """The highest level with two hits in a row at the end; `hits[level][k]` is look k's."""
    raised = [
        level for level in LEVELS if len(hits[level]) >= HITS_IN_A_ROW and all(hits[level][-HITS_IN_A_ROW:])
    ]
    return raised[-1] if raised else None


def streak(hits: list[bool]) -> int:
    """How many hits in a row there are at the end."""
    return len(hits) - max((k for k, hit in enumerate(hits, start=1) if not hit), default=0)


def worst_examples(history: History, before: np.ndarray) -> tuple[Worst, ...]:
    """The examples whose loss per token rose most from `before` (nll sums, [examples]) to the last look."""
    rise = (history.nll[-1] - before) / history.tokens
    return tuple(
        Worst(
            history.ids[i],
            float(before[i] / history.tokens[i]),
            float(history.nll[-1][i] / history.tokens[i]),
        )
        for i in np.argsort(-rise)[:WORST]
        if rise[i] > 0
    )
