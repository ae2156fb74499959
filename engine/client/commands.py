"""Check of a command before it is queued, and what it is queued with."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass, field
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from engine.basics.errors import RecipeError
from engine.client.preflight import Dataset
from engine.recipe.command import Command

READERS = ("tensorboard", "wandb")  # the libraries of the extra `curves`
# Of the shell that queues, and of no meaning to what is started later.
NOT_KEPT = ("_", "OLDPWD", "SHLVL")


@dataclass(frozen=True)
class CommandReport:
    """A command that can be started."""

    recipe: Command
    warnings: list[str]
    datasets: list[Dataset] = field(default_factory=list)  # which it reads is its own affair
    gpu_memory: int | None = None  # bytes; only who queues it can know
    seconds: float | None = None  # that it takes; nobody knows

    def summary(self) -> str:
        return f"a command of {len(self.recipe.command)} words, watched in {', '.join(self.recipe.watch)}"

    def lines(self) -> list[str]:
        """Return the report for people."""
        resumed = " ".join(self.recipe.on_resume)
        return [
            f"{self.recipe.name}",
            f"  command  {' '.join(self.recipe.command)}",
            *([f"  resumed  with {resumed}"] if resumed else []),
            f"  curves   of what is written below {', '.join(self.recipe.watch)}",
            *(f"  note     {warning}" for warning in self.warnings),
        ]

    def as_dict(self) -> dict[str, Any]:
        return {"recipe": self.recipe.model_dump(mode="json"), "warnings": self.warnings}


def check_command(command: Command, folder: Path) -> CommandReport:
    """Check that its program is there, for a start in `folder`. Raises RecipeError."""
    program = command.command[0]
    path = str(folder / program) if "/" in program else program
    if shutil.which(path) is None:
        where = f"below {folder}" if "/" in program and not Path(program).is_absolute() else "on the PATH"
        there = Path(path).exists() and "/" in program
        why = "is no program that can be started (chmod +x)" if there else f"is no program {where}"
        raise RecipeError(
            f"command: {program} {why}; name one as in a shell, `finetui run -- python train.py`"
        )
    for name in command.watch:
        if (folder / name).exists() and not (folder / name).is_dir():
            raise RecipeError(f"watch: {folder / name} is no folder; name one that curves are written below")
    missing = [library for library in READERS if find_spec(library) is None]
    warnings = []
    if missing:
        which = {"tensorboard": "TensorBoard's event files", "wandb": "files of W&B"}
        files = " and ".join(which[library] for library in missing)
        warnings.append(
            f"{files} are not read: install finetui[curves]; trainer_state.json and FINETUI_LOG are"
        )
    named = command.model_copy(update={"name": command.title})
    return CommandReport(named, warnings)


def shell_environment() -> dict[str, str]:
    """Return the variables that the command is started with: it is queued from this shell, and means its programs."""
    return {name: value for name, value in os.environ.items() if name not in NOT_KEPT and _is_text(value)}


def _is_text(value: str) -> bool:
    """Whether it is UTF-8; others cannot be kept in JSON."""
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True
