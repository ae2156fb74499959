"""The lines of `scale.jsonl`, a run's log of what it was worth at factors below 1. Imports nothing heavy."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, ClassVar

from store.line_fields import Small

LOG_NAME = "scale.jsonl"  # in the run's directory


@dataclass(frozen=True, slots=True)
class ScalePart:
    """A change of a loss since factor 0, paired by example; nats per token, of preference pairs nats per pair."""

    slice: Annotated[str | None, "of the general text; empty: all of it"] = None
    value: Annotated[float | None, "mean over the half"] = None
    lo: Annotated[float | None, "lower end of its 95% interval"] = None
    hi: Annotated[float | None, "upper end of its 95% interval"] = None
    n: Annotated[int | None, "examples"] = None


@dataclass(frozen=True, slots=True)
class ScalePoint:
    """One factor on one half of the rows."""

    factor: Annotated[float, "0: the base model, 1: what was trained"]
    half: Annotated[str | None, "`choose` or `confirm`"] = None
    heldout: Annotated[float | None, "held-out loss"] = None
    change: Annotated[ScalePart | None, "of the held-out loss"] = None
    general: Annotated[list[ScalePart], "change on general text: all of it, then by slice"] = field(
        default_factory=list
    )


@dataclass(frozen=True, slots=True)
class Scaling:
    """The run was scored at a grid of factors, without training."""

    kind: ClassVar[str] = "scaling"
    step: Annotated[int | None, "optimiser step of the weights"] = None
    factor: Annotated[float | None, "chosen; null: none is better than the base model"] = None
    helps: Annotated[bool, "whether the other half of the rows confirms it"] = False
    kept: Annotated[float | None, "share of the gain that stays, on the other half"] = None
    message: Annotated[str | None, "what was found, in words"] = None
    points: Annotated[list[ScalePoint], "the factors, one by one"] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Scaled:
    """Weights of the run were written at a factor."""

    kind: ClassVar[str] = "scaled"
    factor: Annotated[float, "0: the base model, 1: what was trained"]
    step: Annotated[Small | None, "optimiser step of the weights"] = None
    output: Annotated[str | None, "`adapter`, `model`, `merged` or `gguf`"] = None
    path: Annotated[str | None, "the folder"] = None


ScaleLine = Scaling | Scaled
SCALES: dict[str, type[ScaleLine]] = {line.kind: line for line in (Scaling, Scaled)}
