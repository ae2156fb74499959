"""What a run was submitted with, as its `run.json` has it."""

from __future__ import annotations

import socket
from typing import Any, TypeVar

from engine.recipe.command import Command, any_recipe
from engine.recipe.kinds import LOGGED, is_command
from engine.recipe.sections import Recipe
from engine.runs.home import RunDir, run_dirs
from finetui.errors import first_line
from finetui.files import read_json
from finetui.home import Home

T = TypeVar("T")


def submitted_value(run: RunDir, key: str, kind: type[T]) -> T | None:
    """Return one value of `run.json`; None where it is missing, of another kind, or cannot be read."""
    try:
        value = read_json(run.meta).get(key)
    except (OSError, ValueError):
        return None
    return value if isinstance(value, kind) else None


def other_host(run: RunDir) -> str | None:
    """Return the name of the machine or container that a run was made on; None where that is this one."""
    host = submitted_value(run, "host", str)
    return host if host != socket.gethostname() else None


def uuid_of(home: Home, number: int) -> str | None:
    """Return the UUID of a run by its number; None where there is none."""
    paths = sorted(home.runs.glob(f"{number:06d}-*"))
    return submitted_value(RunDir(paths[0]), "uuid", str) if paths else None


def runs_command(run: RunDir) -> bool:
    """Whether a run is a program of the user's own."""
    return is_command(submitted_value(run, "recipe", dict))


def parent_of(run: RunDir, parent: Any) -> RunDir | None:
    """Return the run of this home that one was made from, by what its `run.json` says: a UUID, or a number, which an
    older finetui wrote. None where it is gone.
    """
    runs = sorted(run.path.parent.glob(f"{parent:06d}-*" if isinstance(parent, int) else "[0-9]*-*"))
    for one in map(RunDir, runs):
        if isinstance(parent, int) or (parent and submitted_value(one, "uuid", str) == parent):
            return one
    return None


def original_of(run: RunDir) -> int | None:
    """Return the number of the run of this home that a directory is a copy of: both have one UUID. None where it is of
    none. Which one is the copy is as `store.identity.claim` decides.
    """
    uuid, given = submitted_value(run, "uuid", str), submitted_value(run, "number", int)
    home = Home(run.path.parent.parent)
    same = [one.number for one in run_dirs(home) if uuid and submitted_value(one, "uuid", str) == uuid]
    first = min(same, key=lambda number: (number != given, number), default=run.number)
    return None if first == run.number else first


def read_submitted(run: RunDir) -> tuple[dict[str, Any], Recipe | Command]:
    """Return `run.json` and the recipe in it. Raises ValueError that says in a few words what is wrong."""
    try:
        meta = read_json(run.meta)
        return meta, any_recipe(meta["recipe"])
    except (OSError, ValueError, KeyError) as error:  # also what pydantic raises
        raise ValueError(first_line(error)) from None


def refuse_logged(run: RunDir, what: str) -> str | None:
    """Return in a sentence why a run that a program of its own logs cannot be what one of ours can; None for ours."""
    if not submitted_value(run, LOGGED, bool):
        return None
    return f"run #{run.number} is logged by its own program, which alone knows how it trains; it cannot be {what} here"


def refuse_command(run: RunDir, command: Command, what: str) -> str:
    """Return in a sentence why a command of the user's own cannot be what a recipe of ours can."""
    return f"run #{run.number} is a command, {command.title}: what it trained is where it put it, and cannot be {what}"
