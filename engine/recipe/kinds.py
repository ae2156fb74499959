"""Which kind a recipe is of, and how long its name may be. Imports nothing: the shim asks, too."""

from __future__ import annotations

from typing import Any

COMMAND = "command"
LONGEST_NAME = 200


LOGGED = (
    "logged"  # in run.json, of a run that a program of its own logs: its recipe is whatever that has decided
)


def is_command(tree: Any) -> bool:
    """Whether a recipe, as read or as dumped, is that of a program of the user's own."""
    return isinstance(tree, dict) and ("command" in tree or tree.get("method") == COMMAND)
