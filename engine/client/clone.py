"""The recipe of an earlier run with changes, to be queued as a run made from it."""

from __future__ import annotations

from pathlib import Path

from pydantic import ValidationError

from engine.basics.errors import QueueError
from engine.recipe import recipe_file
from engine.recipe.recipe_file import RecipeFile
from engine.recipe.sections import Recipe
from engine.runs.home import RunDir
from finetui.errors import first_line
from finetui.files import read_json


def recipe_of(run: RunDir, overrides: list[str]) -> tuple[RecipeFile, Path]:
    """Return the recipe with `key=value` changes, and the folder that its paths start from. Raises RecipeError, and
    QueueError where the run's own recipe cannot be read.
    """
    try:
        meta = read_json(run.meta)
        recipe = Recipe.model_validate(meta["recipe"])
    except (OSError, ValueError, KeyError, ValidationError) as error:
        raise QueueError(
            f"{run.meta} cannot be read ({first_line(error)}); the run cannot be repeated"
        ) from None
    text = f"# The recipe of run #{run.number} {recipe.name}, with changes.\n{recipe_file.dump(recipe)}"
    folder = Path(meta.get("cwd") or ".")
    return recipe_file.parse(text, folder / f"{recipe.name or run.path.name}.yaml", overrides), folder
