"""The client's side of sweeps: what they need, their plans, and runs that are added to them."""

from __future__ import annotations

import importlib.util
import uuid
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.basics.errors import RecipeError
from engine.recipe import recipe_file
from engine.recipe.recipe_file import RecipeFile
from engine.recipe.sweep import Sweep
from engine.runs.sweep_plan import QUEUING, Plan

if TYPE_CHECKING:
    from finetui.client import Client

OF_FIRST = {"held", "after", "after_any", "not_before"}  # what only the runs that are queued at once wait for


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
    folder: Path,
) -> list[int]:
    """Keep the plan of a sweep, queue the runs whose values are known, and let it go on; return their numbers.

    `recipes`: of each, what a submission says of it; `common`: what all submissions say; `folder`: where paths start.
    """
    needs = [one for recipe in recipes if (one := recipe.get("gpu_memory"))]
    lasting = {key: value for key, value in common.items() if key not in OF_FIRST}
    plan = Plan(
        uuid=str(uuid.uuid4()),
        recipe=file.tree or {},
        section=file.section or {},
        path=str(file.path.absolute()),
        folder=str(folder.absolute()),
        common={**lasting, "datasets": recipes[0]["datasets"], "gpu_memory": max(needs, default=None)},
        runs=sweep.runs or len(recipes),
        done=QUEUING,
    )
    client.action("sweep", **plan.model_dump(mode="json"))
    first = {key: value for key, value in common.items() if key in OF_FIRST}
    numbers = queue_runs(client, plan, file, recipes, first)
    client.action("sweep_begin", sweep=plan.uuid)
    return numbers


def queue_runs(
    client: Client,
    plan: Plan,
    file: RecipeFile,
    recipes: Sequence[Mapping[str, Any]],
    first: Mapping[str, Any] | None = None,
) -> list[int]:
    """Queue runs of a sweep; return their numbers. `first`: what its first runs wait for."""
    numbers = []
    for recipe, values in zip(recipes, file.values or (), strict=True):
        body = {**plan.common, **recipe, **(first or {}), "sweep": plan.uuid, "sweep_values": values}
        if plan.common.get("gpu_memory_given"):
            body["gpu_memory"] = plan.common["gpu_memory"]
        numbers.append(client.action("submit", **body)["run"])
    return numbers


def more_runs(plan: Plan, count: int) -> RecipeFile:
    """Return the recipes of `count` runs more for a sweep that draws its runs. Raises RecipeError."""
    tree = {**plan.recipe, "sweep": plan.section}
    return recipe_file.expand(tree, Path(plan.path), runs=plan.runs + count, skip=plan.runs)
