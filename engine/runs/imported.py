"""Runs that another tool has made or that another program makes, and what cannot be done with them. Imports nothing
heavy: `finetui show` asks.
"""

from __future__ import annotations

from typing import Any

from engine.runs.home import RunDir
from finetui.files import read_json

KEY = "imported"  # in run.json: tool, id, place, stamp, …
OURS = "finetui"  # the tool of a run of another home, which has a recipe of ours
TITLES = {
    "tensorboard": "TensorBoard",
    "wandb": "W&B",
    "trackio": "trackio",
    "mlflow": "MLflow",
    "trainer": "trainer_state.json",
}


def origin(run: RunDir) -> dict[str, Any]:
    """Return where a run was imported from; empty for one of this home."""
    try:
        entry = read_json(run.meta).get(KEY)
    except (OSError, ValueError):
        return {}
    return entry if isinstance(entry, dict) else {}


def foreign_origin(run: RunDir) -> str | None:
    """Return in words which tool a run was imported from; None for a run with a recipe of ours."""
    entry = origin(run)
    if (tool := entry.get("tool")) in (None, OURS):
        return None
    return f"imported from {TITLES.get(str(tool), tool)}: {entry.get('place')}"


def refuse_imported(run: RunDir, what: str) -> str | None:
    """Return in a sentence why a run of another tool cannot be done this with; None for a run with a recipe of ours."""
    tool = origin(run).get("tool")
    if tool in (None, OURS):
        return None
    title = TITLES.get(str(tool), tool)
    return f"run #{run.number} was imported from {title} and cannot be {what}: it has no recipe of finetui"


def refuse_foreign(run: RunDir, what: str) -> str | None:
    """The same, also of a run that a program of its own logs."""
    from engine.runs.submitted import refuse_logged  # with the recipes' libraries

    return refuse_logged(run, what) or refuse_imported(run, what)
