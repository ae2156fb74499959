"""The recipe of an earlier run with changes, to be queued as a run made from it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from engine.basics.errors import QueueError
from engine.recipe import recipe_file
from engine.recipe.recipe_file import RecipeFile
from engine.runs.home import RunDir
from engine.runs.imported import refuse_foreign
from engine.runs.submitted import read_submitted, submitted_value


def recipe_of(run: RunDir, overrides: list[str]) -> tuple[RecipeFile, Path]:
    """Return the recipe with `key=value` changes, and the folder that its paths start from. Raises RecipeError, and
    QueueError where the run's own recipe cannot be read.
    """
    if why := refuse_foreign(run, "cloned"):
        raise QueueError(why)
    try:
        meta, recipe = read_submitted(run)
    except ValueError as error:
        raise QueueError(f"{run.meta} cannot be read ({error}); the run cannot be repeated") from None
    name = recipe.name or run.path.name
    text = f"# The recipe of run #{run.number} {name}, with changes.\n{recipe_file.dump(recipe)}"
    folder = Path(meta.get("cwd") or ".")
    return recipe_file.parse(text, folder / f"{name}.yaml", overrides), folder


def kept_of(run: RunDir) -> dict[str, Any]:
    """Return what somebody said of the GPUs of a run, which a run made from it keeps."""
    kept: dict[str, Any] = {"exclusive": submitted_value(run, "exclusive", bool) or False}
    if submitted_value(run, "gpu_memory_given", bool):
        kept["gpu_memory"] = submitted_value(run, "gpu_memory", int)
    return kept
