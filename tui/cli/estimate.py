"""`finetui estimate`: the memory that a recipe will need, before it runs."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from engine.basics.wording import size
from engine.client.preflight import absolute
from engine.memory.correction import Correction, correction
from engine.memory.estimate import GIB, MIB, estimate
from engine.memory.fit import Fit, fit, table, table_lines
from engine.memory.shapes import ModelShapes
from engine.memory.storage import Storage, storage
from engine.memory.workload import Device, recipe_shapes, workload_of
from engine.queue import sampler
from engine.recipe import recipe_file
from engine.recipe.sections import Recipe
from engine.runs import disk
from finetui.daemon import answering
from finetui.home import home
from tui.cli.output import out, print_json

# The whole peaks of runs of a model and method, with how long the longest example was.
PAST = """
SELECT r.run, r.recipe_json, (e.body::JSON ->> 'max_length')::INTEGER AS longest, m.micro_tokens,
       m.predicted_mb, m.measured_mb
FROM memory m JOIN runs r USING (run) JOIN events e ON e.run = m.run AND e.attempt = m.attempt AND e.kind = 'plan'
WHERE m.cause = 'end' AND m.attempt = 1 AND r.model = '{model}' AND r.method = '{method}' AND m.device = '{device}'
ORDER BY r.run DESC LIMIT 50"""
SHOWN = 5  # runs whose error is listed
HOLES = (
    "on a CPU the peak may be half as high again, since the heap keeps holes; "
    "the first run shows by how much, and train.memory_limit avoids it"
)


@dataclass(frozen=True)
class Estimated:
    """What a recipe needs on a device, by the estimate and by what past runs took."""

    device: Device
    memory: int  # of the device, bytes
    past: list[dict[str, Any]]
    learned: Correction
    answer: Fit
    writes: Storage

    def as_dict(self) -> dict[str, Any]:
        answer = self.answer
        return {
            "device": self.device,
            "memory_bytes": self.memory,
            "fits": answer.fits,
            "remedies": [
                {"change": r.change, "total_bytes": r.total, "fits": r.fits} for r in answer.remedies
            ],
            "total_bytes": answer.estimate.total,
            "parts": vars(answer.estimate),
            "correction": vars(self.learned),
            "disk": vars(self.writes),
        }


def estimated(recipe: Recipe, memory_gb: float | None) -> Estimated:
    """Estimate it; paths of the recipe are absolute."""
    model = recipe_shapes(recipe)
    device, memory = _device(memory_gb)
    past = _past(recipe, device)
    learned = _learned(past, model, device)
    answer = fit(recipe, model, memory, device, factor=learned.factor)
    return Estimated(device, memory, past, learned, answer, storage(recipe, model, answer.workload))


def estimate_recipe(path: Path, overrides: list[str], memory_gb: float | None, *, as_json: bool) -> None:
    """Print the parts, whether it fits, and what would make it fit."""
    recipe = absolute(recipe_file.read(path, overrides).recipes[0], path.parent)
    found = estimated(recipe, memory_gb)
    if as_json:
        print_json(found.as_dict())
        return
    answer, learned, writes = found.answer, found.learned, found.writes
    out(f"{recipe.name}: {recipe.method.name} of {recipe.model.path} on {found.device}")
    for line in [*answer.estimate.lines(), f"correction  {learned}", *answer.lines(), f"disk  {writes}"]:
        out(line)
    if found.device == "cpu" and not learned.runs and recipe.train.memory_limit == "auto":
        out(f"note: {HOLES}")
    for line in _errors(found.past):
        out(line)
    if warning := writes.warning(disk.free_bytes(home().runs)):
        out(f"note: {warning}")


def print_fits(memory_gb: float | None, *, as_json: bool) -> None:
    """Print the table of 7B, 13B and 70B by method for a device of this size."""
    gb = memory_gb if memory_gb is not None else _device(None)[1] / GIB
    rows = table(gb)
    if as_json:
        print_json(
            [{"model": r.model, "method": r.method, "bytes": r.estimate.total, "fits": r.fits} for r in rows]
        )
    else:
        for line in table_lines(rows, gb):
            out(line)
        out("one example of 2048 tokens at a time, activation checkpointing on; ! does not fit")


def _device(memory_gb: float | None) -> tuple[Device, int]:
    """The device that runs would use here and its memory in bytes; `memory_gb` means a GPU of that size."""
    if memory_gb is not None:
        return "cuda", round(memory_gb * GIB)
    totals = [value for key, value in sampler.Nvml().values().items() if key.endswith("memory_total_gb")]
    if totals:
        return "cuda", round(max(totals) * sampler.GB)
    return "cpu", psutil.virtual_memory().total


def _past(recipe: Recipe, device: Device) -> list[dict[str, Any]]:
    """Peaks of past runs of this model and method, latest first; none if no daemon is running to ask."""
    client = answering(home())
    if client is None:
        return []
    with client:
        path = recipe.model.path.replace("'", "''")
        return client.query(PAST.format(model=path, method=recipe.method.name, device=device)).to_pylist()


def _learned(past: list[dict[str, Any]], model: ModelShapes, device: Device) -> Correction:
    """What past runs say of this estimate, which does not know their data: so it is made for them again."""
    pairs = []
    for row in past:
        recipe = Recipe.model_validate(json.loads(row["recipe_json"]))
        train = recipe.train.model_copy(update={"micro_tokens": row["micro_tokens"]})
        workload = workload_of(recipe.model_copy(update={"train": train}), model, device, row["longest"])
        found = estimate(model, workload)
        pairs.append((float(found.for_model if device == "cuda" else found.total), row["measured_mb"] * MIB))
    return correction(pairs)


def _errors(past: list[dict[str, Any]]) -> list[str]:
    """Predicted, with the data known, against measured, of the last runs."""
    known = [row for row in past if row["predicted_mb"]][:SHOWN]
    return [
        f"run #{row['run']}: predicted {size(row['predicted_mb'] * MIB)}, measured {size(row['measured_mb'] * MIB)}, "
        f"{row['predicted_mb'] / row['measured_mb'] - 1:+.0%}"
        for row in known
    ]
