"""Score what a run trained at factors between the base and all of it, and choose one: minutes, and no training.

The run's own suites are scored as its evaluations score them: the held-out examples, and general text without the texts
that the base model wrote, of which every change is a rise.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import torch

from engine.basics.errors import ExportError
from engine.evals import known_slices
from engine.evals.pairs import answer_log_probs
from engine.evals.score import score
from engine.export.factors import Scalable
from engine.export.front import (
    CHOOSE,
    CONFIRM,
    FEWEST,
    GRID,
    Front,
    Losses,
    Point,
    choose,
    confirm,
    halves,
    point,
    point_dict,
)
from engine.export.request import check_finished
from engine.export.run_data import data_of
from engine.export.source import Source
from engine.export.weights import finished_step, training_dtype
from engine.losses.dpo_loss import PairLoss, preference_loss
from engine.losses.loss import TargetLoss
from engine.losses.packing import pack
from engine.memory.estimate import EVAL_FACTOR
from engine.models import load
from engine.models.tokenizer import load_tokenizer
from engine.recipe.tasks import Dpo
from engine.tasks.prepare import Prepared, Suite, changed_sources


def scale(
    source: Source,
    progress: Callable[[str], None],
    scored: Callable[[dict[str, Any]], None],
) -> Front:
    """Score every factor of GRID on one half of the rows, choose one, and confirm it on the other. `scored` is called
    with each point as it comes.

    Raises ExportError, ModelError and DataError.
    """
    check_finished(source)
    recipe = source.recipe
    tokenizer = load_tokenizer(recipe.model)
    progress("reading the held-out and general text")
    data = data_of(source, tokenizer)
    if (count := len(data.suite("heldout").examples)) < FEWEST:
        raise ExportError(
            f"run #{source.number} has {count} held-out rows, and a factor that is chosen on one half and confirmed on "
            f"the other needs {FEWEST}; hold out more (data.heldout)"
        )
    if unknown := known_slices.left_out(source.run):  # to the base model: their loss moves at random
        data = known_slices.without(data, unknown)
    for sentence in changed_sources(source.run, data):
        progress(f"{sentence}, and rows that it trained on may be scored")
    progress(f"loading {recipe.model.path} and what run #{source.number} trained")
    dtype = training_dtype(source)
    scorer = _Scorer(source, Scalable(source, source.weights, dtype), data, dtype)
    progress(f"scoring {len(GRID)} factors on {scorer.rows[0]} rows")
    points = []
    for factor in GRID:
        points.append(scorer.point(0, factor))
        scored(point_dict(points[-1], CHOOSE))
    margins = recipe.flags.forgetting
    choice = choose(points, lambda slice: margins.margins(slice)[0])
    confirmed: list[Point] = []
    verdict = None
    if choice.factor is not None:
        progress(f"{choice.factor:g} is chosen: scoring it on {scorer.rows[1]} other rows")
        for factor in sorted({0.0, choice.factor, 1.0}):
            confirmed.append(scorer.point(1, factor))
            scored(point_dict(confirmed[-1], CONFIRM))
        verdict = confirm(choice.factor, *scorer.compared(choice.factor))
    rows = {name: scorer.sizes(name) for name in scorer.suites}
    unit = "nats per pair" if isinstance(recipe.task, Dpo) else "nats per token"
    return Front(
        source.number, finished_step(source), unit, margins.warn, points, confirmed, rows, choice, verdict
    )


def _go_on() -> None:
    """Called between forward passes: a scoring that is cancelled is interrupted."""


class _Scorer:
    """The two halves of the suites, scored at any factor; what was scored is kept."""

    def __init__(self, source: Source, model: Scalable, data: Prepared, dtype: torch.dtype) -> None:
        self._model, self._dtype = model, dtype
        task, method = source.recipe.task, source.recipe.method
        self._tokens = EVAL_FACTOR * source.recipe.train.micro_tokens
        with self._autocast():
            packed = pack(model.model)
        self._pairs = PairLoss(model.model, method, task, packed) if isinstance(task, Dpo) else None
        self._loss = self._pairs.token_loss if self._pairs else TargetLoss(model.model, packed)
        names = {suite.name for suite in data.suites} & {"heldout", "general"}
        self.suites = {name: _halves(data.suite(name)) for name in sorted(names, reverse=True)}
        self._at: float | None = None  # the factor that is in the model
        self._base_answers: dict[int, np.ndarray] = {}  # by half: log-probabilities of pairs under the base
        self._kept: dict[tuple[str, int, float], Losses] = {}

    @property
    def rows(self) -> tuple[int, int]:
        return tuple(sum(self.sizes(name)[half] for name in self.suites) for half in (0, 1))  # type: ignore[return-value]

    def sizes(self, name: str) -> tuple[int, int]:
        ours, theirs = self.suites[name]
        return len(ours.examples), len(theirs.examples)

    def point(self, half: int, factor: float) -> Point:
        """Score the suites at a factor, after those at 0."""
        heldout, of_base = (self._losses("heldout", half, at) for at in (factor, 0.0))
        if "general" not in self.suites:
            return point(factor, heldout, of_base, None, None)
        general, of_base_general = (self._losses("general", half, at) for at in (factor, 0.0))
        return point(factor, heldout, of_base, general, of_base_general)

    def compared(self, factor: float) -> tuple[Any, Any]:
        """Return what `confirm` takes, from the half that did not choose."""
        factors = (0.0, factor, 1.0)
        of_suites = {name: tuple(self._losses(name, 1, at) for at in factors) for name in self.suites}
        return of_suites["heldout"], of_suites.get("general")

    def _losses(self, name: str, half: int, factor: float) -> Losses:
        key = (name, half, factor)
        if key not in self._kept:
            if factor != self._at:
                self._model.set(factor)
                self._at = factor
            suite = self.suites[name][half]
            with self._autocast(), torch.no_grad():
                if self._pairs and name == "heldout":
                    self._kept[key] = self._pair_losses(self._pairs, suite, half, factor)
                else:
                    scores = score(self._loss, suite, self._tokens, load.device(), _go_on)
                    self._kept[key] = Losses(scores.nll, scores.tokens, suite.slices)
        return self._kept[key]

    def _pair_losses(self, loss: PairLoss, suite: Suite, half: int, factor: float) -> Losses:
        """The preference loss of each pair; the answers of factor 0 are those of the base."""
        pairs: list[Any] = suite.examples
        answers, _ = answer_log_probs(loss, pairs, self._tokens, load.device(), _go_on)
        if factor == 0:
            self._base_answers[half] = answers
        margins = loss.margins(torch.from_numpy(answers), torch.from_numpy(self._base_answers[half]))
        losses = preference_loss(margins, loss.task.label_smoothing).numpy()
        return Losses(losses, np.ones(len(losses)))

    def _autocast(self) -> torch.autocast:
        return torch.autocast(load.device().type, self._dtype, enabled=self._dtype == torch.bfloat16)


def _halves(suite: Suite) -> tuple[Suite, Suite]:
    """Split a suite; under other names, since those of a run's suites ask for more to be measured."""
    ids = [example.id for example in suite.examples]
    return tuple(  # type: ignore[return-value]
        Suite(
            f"{suite.name} half",
            [suite.documents[at] for at in places],
            [suite.examples[at] for at in places],
            tuple(suite.slices[at] for at in places if suite.slices),
        )
        for places in halves(ids, suite.slices)
    )
