"""The evaluations of a run so far, over all its attempts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from math import nan
from typing import Any

import numpy as np

from engine.evals.base_scores import BasePredictions
from engine.evals.score import TEMPERATURES, Scores
from engine.flags import flag as flags
from engine.flags.history import History
from engine.flags.template import Answers
from engine.recipe.fields import SAMPLES, TEXT
from engine.runs.events import FEW_SHOT, events_of
from engine.runs.home import RunDir
from store.line_fields import body
from store.lines import Choices, Drift, Eval, Flag, Metrics, Resume, Sample, Scored, WorkerLine


class Looks:
    """Scores by suite and step, answers, the loss and gradient of every step, and each flag as it was last written."""

    def __init__(self) -> None:
        self._scores: dict[str, dict[int, Scores]] = {}
        self._answers: dict[int, list[tuple[str, bool, bool]]] = {}
        self._steps: dict[int, tuple[float, float]] = {}
        self._stated: dict[tuple[str, str], flags.Flag] = {}  # by flag and suite
        self._bases: dict[str, BasePredictions | None] = {}  # by suite
        self._ends: set[tuple[str, int]] = set()  # what was measured at both ends only, and at which step
        self.has_few_shot = False

    def add(self, step: int, suite: str, scores: Scores) -> None:
        self._scores.setdefault(suite, {})[step] = scores

    def forget_other_rows(self, suite: str, tokens: Mapping[str, int]) -> bool:
        """Forget a suite's looks if they were at other rows than those of `tokens`, content id to tokens scored:
        nothing can be told from the two together. Return whether they were.
        """
        looks = self._scores.get(suite, {}).values()
        seen = {id: int(n) for scores in looks for id, n in zip(scores.ids, scores.tokens, strict=True)}
        if not looks or seen == dict(tokens):
            return False
        del self._scores[suite]
        return True

    def add_answer(self, step: int, text: str, ended: bool, fits: bool) -> None:
        self._answers.setdefault(step, []).append((text, ended, fits))

    def add_end(self, part: str, step: int) -> None:
        """Remember that a part of what is measured at both ends only was measured: `drift`, `choices.NAME`."""
        self._ends.add((part, step))

    def has_end(self, part: str, step: int) -> bool:
        return (part, step) in self._ends

    def add_step(self, step: int, loss: float, norm: float) -> None:
        """Training loss and gradient norm of a step."""
        self._steps[step] = (loss, norm)

    def add_base(self, suite: str, base: BasePredictions | None) -> None:
        """Keep the first look's predictions for a suite; None where they are not known."""
        self._bases[suite] = base

    def has_base(self, suite: str) -> bool:
        return suite in self._bases

    def base(self, suite: str) -> BasePredictions | None:
        """Return the first look's predictions for a suite; None where they are not known."""
        return self._bases.get(suite)

    def add_flag(self, flag: flags.Flag) -> None:
        """Remember a flag as it was written."""
        self._stated[flag.flag, flag.suite] = flag

    @property
    def stated(self) -> list[flags.Flag]:
        """Every flag as it was last written, withdrawn ones too."""
        return list(self._stated.values())

    def level_of(self, flag: str, suite: str) -> str | None:
        """Return the level at which a flag was last written; None: never."""
        stated = self._stated.get((flag, suite))
        return stated.level if stated else None

    @property
    def answers(self) -> list[Answers]:
        """The answers of all looks, in order."""
        return [Answers(step, *zip(*rows, strict=True)) for step, rows in sorted(self._answers.items())]

    def training(self) -> tuple[int, np.ndarray, np.ndarray]:
        """Return (the first step, losses, gradient norms) of all steps; float64 [steps]."""
        steps = sorted(self._steps)
        rows = np.array([self._steps[step] for step in steps], dtype=float).reshape(-1, 2)
        return steps[0] if steps else 0, rows[:, 0], rows[:, 1]

    def has(self, step: int) -> bool:
        """Whether every suite was evaluated at a step."""
        return bool(self._scores) and all(step in by_step for by_step in self._scores.values())

    @property
    def steps(self) -> list[int]:
        """The steps at which anything was evaluated, in order."""
        return sorted({step for by_step in self._scores.values() for step in by_step})

    def last_before(self, step: int) -> int:
        """Return the step of the look before; `step` itself at the first."""
        steps = {earlier for by_step in self._scores.values() for earlier in by_step if earlier < step}
        return max(steps, default=step)

    def history(self, suite: str, latest: tuple[int, Scores] | None = None) -> History | None:
        """Return a suite over all steps; None if it was not evaluated at step 0. `latest`: a look not added yet."""
        by_step = self._scores.get(suite, {}) | ({latest[0]: latest[1]} if latest else {})
        if 0 not in by_step:
            return None
        steps = sorted(by_step)
        first = by_step[0]
        rows = [_align(by_step[step], first) for step in steps]
        tempered = _stacked([scores.tempered for scores in rows])
        return History(
            suite,
            tuple(steps),
            tuple(first.ids),
            np.stack([scores.nll for scores in rows]),
            first.tokens,
            right=np.stack([scores.right for scores in rows]),
            lost=_stacked([scores.lost for scores in rows]),
            gained=_stacked([scores.gained for scores in rows]),
            kl=_stacked([scores.kl for scores in rows]),
            temperatures=() if tempered is None else TEMPERATURES,
            tempered=tempered,
            slices=first.slices,
            margins=_stacked_margins(rows),
            documents=first.documents,
        )


def _align(scores: Scores, first: Scores) -> Scores:
    """Return a look with the examples of the first, NaN for those that it did not score."""
    if scores.ids == first.ids:
        return scores
    place = {id: column for column, id in enumerate(scores.ids)}
    columns = np.array([place.get(id, -1) for id in first.ids])

    def aligned(values: np.ndarray | None) -> Any:
        if values is None:
            return None
        return np.where(columns >= 0, values[..., columns].astype(float), np.nan)

    parts = {
        key: aligned(getattr(scores, key))
        for key in ("nll", "right", "lost", "gained", "kl", "tempered", "margins")
    }
    return replace(scores, ids=first.ids, tokens=first.tokens, **parts)


def _stacked(rows: list[np.ndarray | None]) -> np.ndarray | None:
    """Stack one row per look; None unless all looks have one."""
    present = [row for row in rows if row is not None]
    return np.stack(present) if len(present) == len(rows) else None


def _stacked_margins(rows: list[Scores]) -> np.ndarray | None:
    """Stack one row per look, NaN where it kept none; None if no look did."""
    if all(row.margins is None for row in rows):
        return None
    return np.stack([np.full(len(row.nll), nan) if row.margins is None else row.margins for row in rows])


def read_looks(run: RunDir, attempt: int, from_step: int) -> Looks:
    """Read the looks of the attempts before `attempt` up to `from_step`; superseded evaluations are skipped."""
    looks = Looks()
    earlier = events_of(run, Eval, Flag, Sample, Drift, Choices, Metrics, before=attempt)
    for line in Resume(from_step).kept(earlier):
        _add_line(looks, line)
    return looks


def _add_line(looks: Looks, line: WorkerLine) -> None:
    match line:
        case Flag():
            looks.add_flag(flags.flag_of(body(line)))
        case Eval() if line.suite == FEW_SHOT:
            looks.has_few_shot = True
        case Eval():
            looks.add(line.step, str(line.suite), _without_samples(_scores(line.examples)))
        case Sample():
            looks.add_answer(line.step, line.text or "", line.ended, line.fits)
        case Drift():
            looks.add_end(line.kind, line.step)
        case Choices():
            looks.add_end(f"choices.{line.slice}", line.step)
        case Metrics():
            loss, norm = line.values.get("train/loss"), line.values.get("train/grad_norm")
            looks.add_step(
                line.step, nan if loss is None else float(loss), nan if norm is None else float(norm)
            )


def _without_samples(scores: Scores) -> Scores:
    """Leave out what the base model wrote, which an older finetui kept as a slice of the general suite."""
    if SAMPLES not in scores.slices:
        return scores
    kept = scores.only(np.flatnonzero(np.array(scores.slices) != SAMPLES))
    return kept if len(set(kept.slices)) > 1 or kept.slices[:1] != (TEXT,) else replace(kept, slices=())


def _scores(examples: Scored) -> Scores:
    def array(values: list[Any] | None) -> np.ndarray | None:
        return None if values is None else np.array(values, dtype=float)

    tempered = examples.tempered or {}
    whole = all(str(t) in tempered for t in TEMPERATURES)  # an older finetui measured others
    return Scores(
        examples.id,
        np.array(examples.nll, dtype=float),
        np.array(examples.tokens),
        np.array(examples.right),
        lost=array(examples.lost),
        gained=array(examples.gained),
        kl=array(examples.kl),
        margins=array(examples.margin),
        slices=tuple(examples.slice or ()),
        documents=tuple(map(str, examples.document or ())),
        tempered=np.array([tempered[str(t)] for t in TEMPERATURES], dtype=float) if whole else None,
    )
