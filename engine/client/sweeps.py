"""The client's side of sweeps: what they need, their plans, and runs that are added to them."""

from __future__ import annotations

import importlib.util
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.basics.errors import QueueError, RecipeError
from engine.recipe import recipe_file
from engine.recipe.recipe_file import RecipeFile
from engine.recipe.sweep import Sweep
from engine.runs.sweep_plan import Plan

if TYPE_CHECKING:
    from finetui.client import Client


def check_search(file: RecipeFile, heldout_examples: int) -> None:
    """Refuse a sweep that goes by results without having what it takes. Raises RecipeError."""
    sweep = file.sweep
    if sweep is None:
        return
    if sweep.search == "tpe" and importlib.util.find_spec("optuna") is None:
        raise RecipeError(f"{file.path}, key sweep.search: tpe needs Optuna: pip install 'finetui[sweeps]'")
    if heldout_examples == 0 and (sweep.search == "tpe" or sweep.stop_losers):
        key = "search" if sweep.search == "tpe" else "stop_losers"
        raise RecipeError(
            f"{file.path}, key sweep.{key}: runs are compared by held-out examples, and there are none;"
            " add data.heldout"
        )


def submit_sweep(
    client: Client,
    file: RecipeFile,
    sweep: Sweep,
    recipes: Sequence[Mapping[str, Any]],
    common: Mapping[str, Any],
) -> list[int]:
    """Queue the runs of a sweep whose values are known, then its plan, by which the others come; return the numbers of
    these. `recipes`: of each, what a submission says of it; `common`: what all submissions say.
    """
    first = file.recipes[0].model_dump(mode="json", exclude_unset=True)
    needs = [one for recipe in recipes if (one := recipe.get("gpu_memory"))]
    plan = Plan(
        uuid=str(uuid.uuid4()),
        recipe={**_with_paths(first, recipes[0]["recipe"]), "name": file.name},
        section=file.section or {},
        path=str(file.path.absolute()),
        common={**common, "datasets": recipes[0]["datasets"], "gpu_memory": max(needs, default=None)},
        runs=sweep.runs or len(recipes),
        done=None if sweep.is_watched else "all its runs are queued",
    )
    numbers = queue_runs(client, plan, file, recipes)
    client.action("sweep", **plan.model_dump(mode="json"))
    return numbers


def queue_runs(
    client: Client, plan: Plan, file: RecipeFile, recipes: Sequence[Mapping[str, Any]]
) -> list[int]:
    """Queue runs of a sweep; return their numbers."""
    numbers = []
    for recipe, values in zip(recipes, file.values or (), strict=True):
        body = {**plan.common, **recipe, "sweep": plan.uuid, "sweep_values": values}
        numbers.append(client.action("submit", **body)["run"])
    return numbers


def more_runs(plan: Plan, count: int, there: int) -> RecipeFile:
    """Return the recipes of `count` runs more for a sweep that has `there`, drawn after those. Raises QueueError."""
    if plan.sweep.search != "random":
        raise QueueError("only the runs of a random search are drawn one like the other")
    tree = {**plan.recipe, "sweep": plan.section}
    skip = max(plan.runs, there)
    return recipe_file.expand(tree, Path(plan.path), runs=skip + count, skip=skip)


def _with_paths(written: Any, checked: Any) -> Any:
    """Return what a recipe says itself, with the values that the check gave it: absolute paths."""
    if isinstance(written, dict) and isinstance(checked, dict):
        return {key: _with_paths(value, checked.get(key)) for key, value in written.items()}
    return checked
