"""The client's side of submitting: recipes and their provenance, for the directories of the runs."""

from __future__ import annotations

import socket
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from engine.basics.process import umask
from engine.client.commands import CommandReport, shell_environment
from engine.client.preflight import Report
from engine.client.sweeps import submit_sweep
from engine.recipe.recipe_file import RecipeFile
from finetui.provenance import git_commit, user_name, versions_of

if TYPE_CHECKING:
    from finetui.client import Client

RECORDED = ("finetui", "torch", "transformers", "peft", "bitsandbytes", "accelerate", "datasets", "duckdb")


def submit(
    client: Client,
    file: RecipeFile,
    reports: Sequence[Report | CommandReport],
    *,
    parent: int | None = None,
    cwd: Path | None = None,
    gpu_memory: int | None = None,
    **more: Any,
) -> list[int]:
    """Queue the checked recipes of a file; return their run numbers once they are durable.

    `reports`: one for each recipe; `parent`: the run that they were made from; `cwd`: where their paths start, if not
    here; `gpu_memory`: bytes that each process needs, if not as estimated; `more`: priority, tags and the like, see
    engine/queue/accept.py.
    """
    common: dict[str, Any] = {
        **_of_file(file),
        "recipe_path": str(file.path.absolute()),
        "cwd": str(cwd or Path.cwd()),
        "user": user_name(),
        "host": socket.gethostname(),
        "parent": parent,
        **({"environment": shell_environment(), "umask": umask()} if file.command else {}),
        **more,
    }
    recipes = [of_recipe(report) for report in reports]
    if client.by and len(recipes) > 1:  # all of them or none
        seconds = sum((report.seconds or 0.0) * report.recipe.processes for report in reports)
        client.action("agent", runs=len(recipes), seconds=seconds)
    if gpu_memory is not None:
        common["gpu_memory_given"] = True
        recipes = [{**recipe, "gpu_memory": gpu_memory} for recipe in recipes]
    if file.sweep is None:
        return [client.action("submit", **common, **recipe)["run"] for recipe in recipes]
    return submit_sweep(client, file, file.sweep, recipes, common, cwd or file.path.parent)


def edit(client: Client, number: int, file: RecipeFile, report: Report | CommandReport) -> list[str]:
    """Put a checked recipe in place of that of a run which has not begun; return what changed, in words."""
    answer = client.action("edit", run=number, **of_recipe(report), **_of_file(file))
    return list(answer["changes"])


def of_recipe(report: Report | CommandReport) -> dict[str, Any]:
    """Return what a submission says of a checked recipe."""
    return {
        "recipe": report.recipe.model_dump(mode="json"),
        "name": report.recipe.name,
        "datasets": [dataset.as_dict() for dataset in report.datasets],
        "gpu_memory": report.gpu_memory,
        **({} if report.seconds is None else {"seconds": report.seconds}),
    }


def _of_file(file: RecipeFile) -> dict[str, Any]:
    """Return what all recipes of a file have in common: its text, and the code that they were checked by."""
    return {
        "recipe_text": file.text,
        "git_commit": git_commit(Path.cwd()),
        "versions": versions(),
    }


@cache
def versions() -> dict[str, str]:
    """Return what is installed of RECORDED. The pool calls it for its forks."""
    return versions_of(RECORDED)
