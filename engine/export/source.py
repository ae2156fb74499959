"""A run as an export reads it, from its directory alone: recipe, events, weights. Torch-free."""

from __future__ import annotations

from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any, TypeVar

from engine.basics.errors import ExportError
from engine.recipe.command import Command
from engine.recipe.methods import WHOLE_MODEL
from engine.recipe.sections import Recipe
from engine.recipe.tasks import Classification
from engine.runs import journal
from engine.runs.events import events_of
from engine.runs.home import RunDir
from engine.runs.imported import refuse_foreign
from engine.runs.submitted import read_submitted, refuse_command
from store.best import judged_by
from store.lines import WORKER, Eval, Plan, WorkerLine
from store.states import ACTIVE, WAITING

L = TypeVar("L", bound=WorkerLine)


@dataclass(frozen=True)
class Source:
    """A run, read from its directory."""

    run: RunDir
    meta: dict[str, Any]  # run.json
    recipe: Recipe
    events: list[WorkerLine]  # of all attempts in order, superseded ones left out

    @property
    def name(self) -> str:
        return str(self.meta.get("name") or self.recipe.name or self.run.path.name)

    @property
    def number(self) -> int:
        return self.run.number

    @property
    def whole_model(self) -> bool:
        """Whether the method trains the base's own weights."""
        return self.recipe.method.name in WHOLE_MODEL

    @property
    def weights(self) -> Path:
        """Where a finished run keeps its trained weights."""
        return self.run.path / ("model" if self.whole_model else "adapter")

    @property
    def finished(self) -> bool:
        return (self.weights / "COMPLETE").exists()

    def of_kind(self, kind: type[L]) -> list[L]:
        """Return the events of a kind, in order."""
        return [event for event in self.events if isinstance(event, kind)]

    def last(self, kind: type[L]) -> L | None:
        """Return the last event of a kind; None if there is none."""
        return next(reversed(self.of_kind(kind)), None)

    @property
    def precision(self) -> str | None:
        """The number format that the run computed in; None where it ended before its plan was logged."""
        plan = self.last(Plan)
        return plan.precision if plan else None

    def checkpoints(self) -> dict[int, Path]:
        """Return the whole checkpoints that are still on disk, by step."""
        return dict(self.run.whole_checkpoints())

    def heldout_losses(self) -> dict[int, float]:
        """Return by step what the held-out suite of the task is judged by, nats; the least is the best."""
        key = judged_by(self.recipe.task.name).key
        evals = [event for event in self.of_kind(Eval) if event.suite == "heldout" and key in event.values]
        losses = {look.step: look.values[key].value for look in evals}
        return {step: loss for step, loss in losses.items() if loss is not None and isfinite(loss)}


def read(run: RunDir, what: str = "exported") -> Source:
    """Read a run's directory, for what is to be done with it. Raises ExportError."""
    if why := refuse_foreign(run, what):
        raise ExportError(why)
    try:
        meta, recipe = read_submitted(run)
    except ValueError as error:
        raise ExportError(f"{run.meta} cannot be read ({error}); the run cannot be {what}") from None
    if isinstance(recipe, Command):
        raise ExportError(refuse_command(run, recipe, what))
    if isinstance(recipe.task, Classification):
        raise ExportError(
            f"run #{run.number} is a classifier, and only language models are {what}; what it left is in {run.path}"
        )
    try:
        events = events_of(run, *WORKER.values())
    except OSError as error:
        raise ExportError(
            f"{error.filename} cannot be read ({error.strerror}); the run cannot be {what}"
        ) from None
    return Source(run, meta, recipe, events)


def choose_checkpoint(source: Source, name: str) -> tuple[int, Path]:
    """Return the checkpoint of a step, `best` (by what its task is judged by) or `last`. Raises ExportError."""
    checkpoints = source.checkpoints()
    if not checkpoints:
        raise ExportError(f"run #{source.number} has no whole checkpoint yet; wait for one")
    steps = ", ".join(map(str, checkpoints))
    if name == "last":
        step = max(checkpoints)
    elif name == "best":
        losses = {step: loss for step, loss in source.heldout_losses().items() if step in checkpoints}
        if not losses:
            raise ExportError(
                f"none of the checkpoints of run #{source.number} ({steps}) was evaluated; name a step"
            )
        step = min(losses, key=losses.__getitem__)
    elif name.isdigit() and int(name) in checkpoints:
        step = int(name)
    else:
        raise ExportError(
            f"run #{source.number} has no checkpoint {name}; there are: {steps}, and `last` and `best` of them"
        )
    return step, checkpoints[step]


def refuse_unfinished(source: Source) -> None:
    """Raise ExportError if the run saved no weights, with what to do instead."""
    if source.finished:
        return
    state = journal.read(source.run).state
    action = "wait for its end" if state in ACTIVE | WAITING else "resume it"
    checkpoints = source.checkpoints()
    hint = f", or export a checkpoint with --checkpoint last (step {max(checkpoints)})" if checkpoints else ""
    raise ExportError(f"run #{source.number} is {state} and has not saved its weights: {action}{hint}")
