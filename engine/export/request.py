"""The request for an export, and whether it can be done. Torch-free."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from engine.basics.errors import ExportError
from engine.export import gguf
from engine.export.source import Source, choose_checkpoint, refuse_unfinished
from engine.flags.actions import SCALED
from engine.recipe.methods import Adapter, Prefix, Prompt
from engine.runs import journal
from store.states import ACTIVE, WAITING, RunState

Kind = Literal["adapter", "model", "merged", "gguf"]

DTYPES = {"fp32": "float32", "fp16": "float16", "bf16": "bfloat16"}


@dataclass(frozen=True)
class ExportRequest:
    """The folder to make."""

    kind: Kind
    out: Path
    dtype: str = "bf16"  # of a merged model or GGUF file, a key of DTYPES
    force: bool = False  # replace `out`
    checkpoint: str | None = None  # a step, `best` or `last`, instead of the finished weights
    factor: float = 1.0  # of what was trained; 0 would be the base model


def choose_kind(source: Source, requested: str | None) -> Kind:
    """Choose the kind of export; without a request, what the run saved. Raises ExportError."""
    method = source.recipe.method
    if requested in ("merged", "gguf"):
        if isinstance(method, Adapter):
            raise ExportError(
                f"run #{source.number} trained bottleneck adapters, which compute something no base weight can "
                "hold; use --adapter and load it beside the base, or train with method lora"
            )
        if isinstance(method, Prefix | Prompt):
            raise ExportError(
                f"run #{source.number} trained virtual tokens ({method.name}), which are not weights of the base; "
                "use --adapter and load it beside the base, or train with method lora"
            )
        return "merged" if requested == "merged" else "gguf"
    if requested == "adapter" and source.whole_model:
        raise ExportError(
            f"run #{source.number} trained the base's own weights ({method.name}), so there is no adapter; "
            "leave --adapter out for the model as it is, or use --merged for it in 16 bits"
        )
    return "model" if source.whole_model else "adapter"


def check_request(source: Source, request: ExportRequest) -> None:
    """Raise ExportError if the run has no such weights or the folder is taken."""
    if request.kind == "gguf":
        gguf.converter()
    if request.checkpoint is None:
        refuse_unfinished(source)
    else:
        choose_checkpoint(source, request.checkpoint)
    if request.factor != 1:
        _check_factor(source, request.factor)
    if request.out.exists() and not request.force:
        raise ExportError(f"{request.out} exists; choose another --out, or replace it with --force")
    if request.out.exists() and not request.out.is_dir():
        raise ExportError(f"{request.out} is not a folder; choose another --out")
    if request.out.resolve().is_relative_to(source.run.path.resolve()):
        raise ExportError(f"{request.out} is inside the run's own directory; choose another --out")


def check_scalable(source: Source) -> None:
    """Raise ExportError for a method whose weights mean nothing at a part of their size."""
    name = source.recipe.method.name
    if name not in SCALED:
        raise ExportError(
            f"run #{source.number} was trained with method {name}, whose weights have no scale: half of a virtual "
            f"token, say, is another token; follow its other advice, or train with one of {', '.join(SCALED)}"
        )


def check_finished(source: Source) -> None:
    """Raise ExportError for a run that cannot be scaled: its method has no scale, or it has no weights; with what to do
    instead.
    """
    check_scalable(source)
    if source.finished:
        return
    state = journal.read(source.run).state
    if state in ACTIVE | WAITING:
        raise ExportError(f"run #{source.number} is {state}: wait for its end, then scale it")
    if state == RunState.FINISHED:
        raise ExportError(
            f"the weights of run #{source.number} are gone from {source.weights}; train it again: "
            f"finetui requeue {source.number}"
        )
    raise ExportError(
        f"run #{source.number} is {state} and has not saved its weights: resume it, and scale it when it has ended"
    )


def _check_factor(source: Source, factor: float) -> None:
    check_scalable(source)
    if not 0 < factor <= 1:
        raise ExportError(
            f"factor {factor:g}: give one above 0, which is the base model, and up to 1, which is all that was trained"
        )
