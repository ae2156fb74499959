"""A run's curves as an offline run of W&B, written by W&B's own library in a process of its own, since that starts
another one, prints, and has settings for a whole process.

    python -m finetui.start engine.curves.to_wandb FOLDER < RUN.json
"""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import subprocess
import sys
import tempfile
from importlib.util import find_spec
from itertools import groupby
from pathlib import Path
from typing import Any

from engine.basics.errors import ExportError
from engine.basics.wording import last_line
from engine.curves.logged import Logged, LoggedRun
from finetui.start import program

PROJECT = "finetui"  # unless WANDB_PROJECT names another
# What a shell may have set for a run of its own.
_OTHERS = (
    "WANDB_RUN_ID",
    "WANDB_NAME",
    "WANDB_DIR",
    "WANDB_RESUME",
    "WANDB_SWEEP_ID",
    "WANDB_TAGS",
    "WANDB_RUN_GROUP",
)


def check() -> None:
    """Raise ExportError without W&B's library."""
    if find_spec("wandb") is None:
        raise ExportError("W&B is not installed: pip install wandb, the extra `curves`")


def place_of(run: LoggedRun, folder: Path) -> Path | None:
    """Return where it is below this folder; None if it is not there."""
    return next((folder / "wandb").glob(f"offline-run-*-{run.uuid}"), None)


def write(run: LoggedRun, folder: Path) -> Path:
    """Write the run below this folder, where W&B itself would, whole or not at all, in place of an older one; return
    its folder. Raises OSError, and ExportError with what W&B says.
    """
    (folder / "wandb").mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".finetui-", dir=folder) as temporary:
        environment = {name: value for name, value in os.environ.items() if name not in _OTHERS}
        done = subprocess.run(
            program("engine.curves.to_wandb", temporary),
            input=json.dumps(dataclasses.asdict(run)),
            capture_output=True,
            text=True,
            check=False,
            env={**environment, "WANDB_MODE": "offline", "WANDB_SILENT": "true"},
        )
        made = place_of(run, Path(temporary))
        if done.returncode != 0 or made is None:
            reason = last_line(done.stderr, "it ended without a message")
            raise ExportError(f"W&B wrote nothing of {run.name}: {reason}")
        if older := place_of(run, folder):
            shutil.rmtree(older)
        place = folder / "wandb" / made.name
        made.rename(place)
    return place


def _log(run: LoggedRun, folder: str) -> None:
    import wandb

    settings = wandb.Settings(
        console="off",
        disable_code=True,
        disable_git=True,
        x_disable_meta=True,  # of this process and machine, which are not those of the run
        x_disable_stats=True,
        x_disable_machine_info=True,
        x_save_requirements=False,
    )
    to = wandb.init(
        dir=folder,
        id=run.uuid,
        name=run.name,
        project=os.environ.get("WANDB_PROJECT", PROJECT),
        config=run.recipe,
        tags=list(run.tags),
        settings=settings,
    )
    for step, points in groupby(run.points, key=lambda point: point.step):
        measures = list(points)
        values: dict[str, Any] = {point.name: point.value for point in measures}
        to.log({**values, "_timestamp": max(point.t for point in measures)}, step=step)
    to.finish(exit_code=int(run.failed))


if __name__ == "__main__":
    given = json.load(sys.stdin)
    _log(LoggedRun(**{**given, "points": tuple(Logged(*point) for point in given["points"])}), sys.argv[1])
