"""`finetui estimate`: the memory that a recipe will need, before it runs."""

from __future__ import annotations

import json
from pathlib import Path

import psutil

from engine import disk, recipe_file, sampler, service
from engine.home import home
from engine.memory.correction import Correction, correction
from engine.memory.estimate import GIB, MIB, estimate
from engine.memory.fit import fit, table, table_lines
from engine.memory.plan import Device, plan_of
from engine.memory.shapes import ModelShapes, model_shapes
from engine.memory.storage import storage
from engine.model_source import ModelError
from engine.preflight import absolute
from engine.recipe import Recipe
from tui.cli.output import print_json

# Finished runs of a model and method: what was asked, how long the longest example was, the peak that was seen.
PAST = """
SELECT r.recipe_json, (e.body::JSON ->> 'max_length')::INTEGER AS longest, s.last AS peak_mb, a.device
FROM runs r JOIN run_summary s ON s.run = r.run AND s.key = 'memory/peak_mb'
JOIN events e ON e.run = r.run AND e.kind = 'plan'
JOIN attempts a ON a.run = r.run AND a.attempt = 1
WHERE r.state = 'finished' AND r.attempt = 1 AND r.model = '{model}' AND r.method = '{method}'
ORDER BY r.run DESC LIMIT 50"""


def estimate_recipe(path: Path, overrides: list[str], memory_gb: float | None, *, as_json: bool) -> None:
    """Print the parts, whether it fits, and what would make it fit."""
    recipe = absolute(recipe_file.read(path, overrides).recipes[0], path.parent)
    model = model_shapes(recipe.model.path)
    device, memory = _device(memory_gb)
    learned = _learned(recipe, model, device)
    answer = fit(recipe, model, memory, device, factor=learned.factor)
    writes = storage(recipe, model, answer.plan)
    found = answer.estimate
    if as_json:
        remedies = [{"change": r.change, "total_bytes": r.total, "fits": r.fits} for r in answer.remedies]
        body: dict[str, object] = {
            "device": device,
            "memory_bytes": memory,
            "fits": answer.fits,
            "remedies": remedies,
        }
        print_json(
            {
                **body,
                "total_bytes": found.total,
                "parts": vars(found),
                "correction": vars(learned),
                "disk": vars(writes),
            }
        )
        return
    print(f"{recipe.name}: {recipe.method.name} of {recipe.model.path} on {device}")
    print("\n".join([*found.lines(), f"correction  {learned}", *answer.lines(), f"disk  {writes}"]))
    if warning := writes.warning(disk.free_bytes(home().runs)):
        print(f"note: {warning}")


def print_fits(memory_gb: float | None, *, as_json: bool) -> None:
    """Print the table of 7B, 13B and 70B by method for a device of this size."""
    size = memory_gb if memory_gb is not None else _device(None)[1] / GIB
    rows = table(size)
    if as_json:
        print_json(
            [{"model": r.model, "method": r.method, "bytes": r.estimate.total, "fits": r.fits} for r in rows]
        )
    else:
        print("\n".join(table_lines(rows, size)))
        print("one example of 2048 tokens at a time, activation checkpointing on; ! does not fit")


def _device(memory_gb: float | None) -> tuple[Device, int]:
    """The device that runs would use here and its memory in bytes; `memory_gb` means a GPU of that size."""
    if memory_gb is not None:
        return "cuda", round(memory_gb * GIB)
    totals = [value for key, value in sampler.Nvml().values().items() if key.endswith("memory_total_gb")]
    if totals:
        return "cuda", round(max(totals) * sampler.GB)
    return "cpu", psutil.virtual_memory().total


def _learned(recipe: Recipe, model: ModelShapes, device: Device) -> Correction:
    """What past runs of this model and method say; nothing if no daemon is running to ask."""
    client = service.answering(home())
    if client is None:
        return correction([])
    with client:
        path = recipe.model.path.replace("'", "''")
        rows = client.query(PAST.format(model=path, method=recipe.method.name)).to_pylist()
    pairs = []
    for row in rows:
        if ("gpu" in (row["device"] or "")) == (device == "cuda"):
            past = Recipe.model_validate(json.loads(row["recipe_json"]))
            try:
                predicted = estimate(model, plan_of(past, model, device, row["longest"])).total
            except ModelError:  # a variant of the method that the estimate does not know
                continue
            pairs.append((float(predicted), row["peak_mb"] * MIB))
    return correction(pairs)
