"""Fit of a recipe into the memory of a device, and the changes that would make it fit. Torch-free."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

from engine.basics.wording import size
from engine.memory.estimate import GIB, Estimate, estimate
from engine.memory.families import PRESETS
from engine.memory.shapes import ModelShapes, model_shapes
from engine.memory.workload import Device, MethodName, Workload, workload_of
from engine.recipe.sections import Recipe

SHORTEST = 512  # tokens: shorter examples are not advised
TABLE_METHODS: tuple[MethodName, ...] = ("full", "lora", "qlora")


@dataclass(frozen=True)
class Remedy:
    """One change on top of those before it, and the peak with all of them."""

    change: str  # as it stands in a recipe where it is a key of one, such as `train.micro_tokens: 2048`
    workload: Workload
    total: int  # bytes
    fits: bool

    def __str__(self) -> str:
        return f"{self.change}: {size(self.total)}, {'fits' if self.fits else 'does not fit'}"


@dataclass(frozen=True)
class Fit:
    """The fit of one recipe on one device."""

    workload: Workload
    estimate: Estimate
    memory: int  # of the device, bytes
    remedies: tuple[Remedy, ...]  # in the order to try, each on top of those before; empty if it fits

    @property
    def fits(self) -> bool:
        return self.estimate.total <= self.memory

    def lines(self) -> list[str]:
        """Return the fit in lines for people."""
        total = size(self.estimate.total)
        if self.fits:
            share = self.estimate.total / self.memory
            return [f"fits: {total} of {size(self.memory)} ({share:.0%})"]
        head = f"does not fit: needs {total}, the device has {size(self.memory)}"
        if not any(remedy.fits for remedy in self.remedies):
            head += "; no change below is enough, take a smaller model or a larger device"
        return [head, *(f"  {remedy}" for remedy in self.remedies)]


def fit(
    recipe: Recipe,
    model: ModelShapes,
    memory: int,
    device: Device = "cuda",
    longest: int | None = None,
    factor: float = 1.0,
) -> Fit:
    """Return whether the recipe fits into `memory` bytes, with remedies if not.

    `factor` corrects the estimate (engine/memory/correction.py); `longest`: tokens of the longest example, if known.
    """
    workload = workload_of(recipe, model, device, longest)
    if recipe.train.activation_checkpointing == "auto":
        workload = replace(workload, checkpointing=wants_checkpointing(workload, model, memory, factor))
    return fit_workload(workload, model, memory, factor)


def wants_checkpointing(workload: Workload, model: ModelShapes, memory: int, factor: float = 1.0) -> bool:
    """Whether a run fits with activation checkpointing only: slower, so not otherwise. Prefixes cannot have it."""
    if workload.method == "prefix":
        return False
    without, with_it = (
        estimate(model, replace(workload, checkpointing=on)).total * factor for on in (False, True)
    )
    return with_it <= memory < without


def fit_workload(workload: Workload, model: ModelShapes, memory: int, factor: float = 1.0) -> Fit:
    """`fit` for a workload. Remedies go from what costs nothing to what changes the result, and end with the
    first that is enough."""
    now = estimate(model, workload)
    remedies: list[Remedy] = []
    if now.total * factor > memory:
        best = now.total
        for change, changed in _changes(workload, model):
            total = round(estimate(model, changed).total * factor)
            if total >= best and remedies:
                continue
            best = min(best, total)
            remedies.append(Remedy(change, changed, total, total <= memory))
            if total <= memory:
                break
    if factor != 1.0:
        now = scaled(now, factor)
    return Fit(workload, now, memory, tuple(remedies))


def scaled(value: Estimate, factor: float) -> Estimate:
    """Return an estimate with every part in bytes times `factor`."""
    parts = {name: round(part * factor) for name, part in vars(value).items() if name != "trained"}
    return replace(value, **parts)


def _changes(workload: Workload, model: ModelShapes) -> Iterator[tuple[str, Workload]]:
    """Yield one change after another, each on top of the last.

    No other method for a mixture of experts: how much of it LoRA trains is not known without its skeleton, and 4 bits
    save little."""
    # The same tokens per optimiser step in more forward passes: the result stays, speed suffers a little.
    tokens = workload.tokens
    while tokens // 2 >= workload.length:
        tokens //= 2
        workload = replace(workload, tokens=tokens, accumulates=True)
        yield f"train.micro_tokens: {tokens}", workload
    if tokens > workload.length:
        workload = replace(workload, tokens=workload.length, accumulates=True)
        yield f"train.micro_tokens: {workload.length}", workload
    if not workload.checkpointing:
        workload = replace(workload, checkpointing=True)
        yield "train.activation_checkpointing: true (about a third more time)", workload
    has_experts = any(weight.role == "expert" for weight in model.weights)
    if workload.method == "full" and not has_experts:
        workload = replace(workload, method="lora")
        yield "method: lora", workload
    if workload.method == "lora" and not has_experts:
        workload = replace(workload, method="qlora")
        yield "method: qlora", workload
    while workload.length // 2 >= SHORTEST:
        shorter = workload.length // 2
        workload = replace(workload, length=shorter, tokens=max(shorter, workload.tokens // 2))
        yield f"train.max_length: {shorter}, train.micro_tokens: {workload.tokens}", workload


@dataclass(frozen=True)
class Row:
    """One model by one method in the table."""

    model: str
    method: str
    estimate: Estimate
    fits: bool


def table(
    memory_gb: float,
    length: int = 2048,
    models: tuple[str, ...] = tuple(PRESETS),
    checkpointing: bool = True,
    device: Device = "cuda",
) -> list[Row]:
    """Each model by full, LoRA and QLoRA, one example of `length` tokens at a time, on a device of
    `memory_gb` GiB, as vendors' "GB" are."""
    rows = []
    for name in models:
        shapes = model_shapes(name)
        for method in TABLE_METHODS:
            bf16 = device == "cuda"
            workload = Workload(method, length, length, device, bf16, checkpointing=checkpointing)
            row_estimate = estimate(shapes, workload)
            rows.append(Row(name, method, row_estimate, row_estimate.total <= memory_gb * GIB))
    return rows


def table_lines(rows: list[Row], memory_gb: float) -> list[str]:
    """Return the table for people; `!` marks what does not fit."""
    methods = list(dict.fromkeys(row.method for row in rows))
    lines = [f"{f'{memory_gb:g} GB':<10}" + "".join(f"{method:>14}" for method in methods)]
    for name in dict.fromkeys(row.model for row in rows):
        cells = [
            f"{size(row.estimate.total)} {' ' if row.fits else '!'}" for row in rows if row.model == name
        ]
        lines.append(f"{name:<10}" + "".join(f"{cell:>14}" for cell in cells))
    return lines
