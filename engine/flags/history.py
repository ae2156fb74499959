"""The scores of a run over its evaluations, and what it was made from: what the detectors read."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field
from functools import cached_property, lru_cache
from typing import Any

import numpy as np

from engine.basics.statistics import Estimate, TwoPhase, change, ratio, two_phase
from engine.flags.flag import Worst
from engine.recipe.sections import Flags

WORST = 5  # examples shown


@dataclass(frozen=True)
class History:
    """A suite's scores over the evaluations of a run; row 0 is the base model, at step 0.

    A look may score a part of the examples only: NaN in `nll` stands for those it skipped. The first one scores them
    all. What a run does not measure is None, and the detectors then report less.
    """

    suite: str
    steps: tuple[int, ...]
    ids: tuple[str, ...]
    nll: np.ndarray  # float64 [evaluations, examples], nats, summed over an example's tokens
    tokens: np.ndarray  # int64 [examples]
    right: np.ndarray | None = None  # [evaluations, examples], tokens that were the likeliest
    lost: np.ndarray | None = None  # [evaluations, examples], tokens right under the base and wrong now
    gained: np.ndarray | None = None  # [evaluations, examples], tokens wrong under the base and right now
    kl: np.ndarray | None = None  # [evaluations, examples], nats per token from the base; NaN: not measured
    temperatures: tuple[float, ...] = ()
    tempered: np.ndarray | None = None  # [evaluations, temperatures, examples], nll at each temperature
    metric: np.ndarray | None = None  # [evaluations, examples], the task's own measure, larger is better
    slices: tuple[str, ...] = ()  # of each example; empty: the suite is not divided
    margins: np.ndarray | None = None  # [evaluations, examples], of pairs; NaN: that look did not keep them
    documents: tuple[str, ...] = ()  # from which each example is; empty: each is a draw of its own
    per: str = "token"  # what `tokens` counts: token, text or pair

    @property
    def unit(self) -> str:
        return f"nats per {self.per}"

    @property
    def looks(self) -> int:
        return len(self.steps) - 1

    def draws(self, chosen: np.ndarray) -> np.ndarray | None:
        """Return the number of the document of each example that is chosen (bool [examples]), int64; None without."""
        return number_names(self.documents)[chosen] if self.documents else None

    def change(self, before: int, now: int) -> Estimate:
        """Estimate the change of the loss between two looks over the examples that both scored; nats per token."""
        both = self.scored(before, now)
        return change(self.nll[before][both], self.nll[now][both], self.tokens[both], self.draws(both))

    def mean(self, sums: np.ndarray, chosen: np.ndarray) -> Estimate:
        """Estimate a mean per token of the examples that are chosen (bool [examples]); `sums` [examples]."""
        return ratio(sums[chosen], self.tokens[chosen], self.draws(chosen))

    def loss(self, look: int) -> float:
        """Return nats per token of the whole suite, estimated where the look scored a part of it."""
        return float(losses(self.nll, self.tokens)[look])

    def estimate(
        self,
        look: int,
        since: int | None = None,
        chosen: np.ndarray | None = None,
        rows: np.ndarray | None = None,
    ) -> TwoPhase:
        """Estimate the loss at a look, or its change since an earlier one; nats per token of all examples that the
        earlier one (else the first) scored, or of those `chosen`, bool [examples].

        The estimate is the loss at the latest look that scored all of these, plus the change since then of those that
        this look scored. `rows` [evaluations, examples]: values to use in place of `nll`.
        """
        look, rows = look % len(self.steps), self.nll if rows is None else rows
        whole = self.scored(since or 0) & (True if chosen is None else chosen)
        part = whole & self.scored(look)
        full = (self._scored[look::-1] | ~whole).all(axis=1)
        last = look - int(full.argmax())
        if not part.any():
            return TwoPhase(0.0, np.inf, 0.0, 0)
        now, before = rows[look], rows[last]
        if since is not None:
            now, before = now - rows[since], before - rows[since]
        level = float(before[whole].sum() / self.tokens[whole].sum())
        total = int(whole.sum())
        return two_phase(now[part], before[part], self.tokens[part], level, total, self.draws(part))

    def peers(self, look: int) -> np.ndarray:
        """Return the looks up to this one that scored all examples that it scored, itself too: int64, ascending."""
        scored = self.scored(look)
        return np.flatnonzero((self._scored[: look + 1] | ~scored).all(axis=1))

    def scored(self, *looks: int) -> np.ndarray:
        """Return which examples were scored at all of these looks: bool [examples]."""
        return np.logical_and.reduce(self._scored[list(looks)])

    @cached_property
    def _scored(self) -> np.ndarray:
        """Which examples each look scored: bool [looks, examples]."""
        return ~np.isnan(self.nll)

    def until(self, look: int) -> History:
        """Return the history as it was at an earlier look."""
        return self._map(lambda rows: rows[: look + 1], steps=self.steps[: look + 1])

    def only(self, chosen: np.ndarray) -> History:
        """Return the history of some examples; bool [examples]."""
        places = np.flatnonzero(chosen)
        return self._map(
            lambda rows: rows[..., places],
            ids=tuple(self.ids[i] for i in places),
            tokens=self.tokens[places],
            slices=tuple(self.slices[i] for i in places) if self.slices else (),
            documents=tuple(self.documents[i] for i in places) if self.documents else (),
        )

    def groups(self) -> dict[str, np.ndarray]:
        """Return name to bool [examples]: all of them (""), and each slice where there are several."""
        everything = {"": np.ones(len(self.ids), dtype=bool)}
        names = sorted(set(self.slices))
        if len(names) < 2:
            return everything
        of = np.array(self.slices)
        return everything | {name: of == name for name in names}

    def of(self, per: str) -> History:
        """Return the same history, counted by `per`."""
        return self if per == self.per else dataclasses.replace(self, per=per)

    def _map(self, cut: Any, **fields: Any) -> History:
        names = ("nll", "right", "lost", "gained", "kl", "tempered", "metric", "margins")
        arrays = {name: cut(rows) for name in names if (rows := getattr(self, name)) is not None}
        return dataclasses.replace(self, **arrays, **fields)


@dataclass(frozen=True)
class Context:
    """What advice, margins and forecasts depend on: the recipe and the plan of the run."""

    method: str
    lr: float
    replay: float  # share of replayed tokens, 0 without
    # The first source of `evals.general` that has rows to mix into training.
    general: str | None = None
    epochs: float = 1.0
    warmup: str | int = "5%"
    task: str = "sft"
    beta: float = 0.1  # of preferences
    label_smoothing: float = 0.0
    stops: bool = False  # at the best step where it overfits
    rates: np.ndarray | None = field(default=None, compare=False)  # learning rate of every step of the run
    flags: Flags = field(default_factory=Flags, compare=False)  # with their margins

    @property
    def weighs(self) -> bool:
        """Whether the held-out loss is in nats per target token, as the general loss is, so that the two compare."""
        return self.task in ("sft", "completion")

    @property
    def replays(self) -> bool:
        """Whether the task can have general text mixed in."""
        return self.task in ("sft", "completion")

    @property
    def total_steps(self) -> int | None:
        return None if self.rates is None else len(self.rates)


@lru_cache(maxsize=8)
def number_names(names: tuple[str, ...]) -> np.ndarray:
    """Return a number for each name, equal for equal ones: int64 [names], from 0 on."""
    return np.unique(np.array(names), return_inverse=True)[1]


def losses(nll: np.ndarray, tokens: np.ndarray) -> np.ndarray:
    """Return nats per token at every look, float64 [looks], of all examples that the first one scored; `nll` [looks,
    examples] is NaN where a look skipped one. It is the loss at the latest whole look, plus the change since then of
    what was scored.
    """
    first = ~np.isnan(nll[0])
    nll, tokens = nll[:, first], tokens[first]
    known = ~np.isnan(nll)
    last = np.maximum.accumulate(np.where(known.all(axis=1), np.arange(len(nll)), 0))
    moved, scored_tokens = np.where(known, nll - nll[last], 0.0).sum(axis=1), (known * tokens).sum(axis=1)
    return nll[last].sum(axis=1) / tokens.sum() + moved / np.maximum(1, scored_tokens)


def worst_examples(history: History, before: np.ndarray) -> tuple[Worst, ...]:
    """Return the examples whose loss per token rose most from `before` (nll sums, [examples]) to the last look."""
    rise = (history.nll[-1] - before) / history.tokens
    rise = np.where(np.isnan(rise), -np.inf, rise)
    return tuple(
        Worst(
            history.ids[i],
            float(before[i] / history.tokens[i]),
            float(history.nll[-1][i] / history.tokens[i]),
        )
        for i in np.argsort(-rise)[:WORST]
        if rise[i] > 0
    )
