"""Exit codes: an interface, listed in docs/cli.md. A code never changes its meaning."""

from __future__ import annotations

OK = 0
# The command worked, and what it reports is a failure: a run failed, doctor found a problem. Typer ends with it, too,
# where nobody reads on (`finetui ls | head`).
FAILED = 1
USAGE = 2  # unknown option, missing argument (Typer's own)
BAD_INPUT = 3  # recipe, data, model or configuration cannot be used; nothing was queued
REFUSED = 4  # no such run, a run in the wrong state, SQL or an export that is not possible, nothing to fix
NO_DAEMON = 5  # the daemon does not answer and cannot be started

MEANING = {
    OK: "done",
    FAILED: "the command worked, and what it reports is a failure (a run failed, `doctor` found a problem); or nobody "
    "read on (`| head`)",
    USAGE: "unknown option or missing argument",
    BAD_INPUT: "a recipe, data set, model or configuration cannot be used; nothing was queued",
    REFUSED: "no such run, a run in the wrong state, SQL that is wrong or not allowed, an export that is not possible, "
    "a run without flags that a recipe can answer",
    NO_DAEMON: "the daemon does not answer and cannot be started",
}


def code_of(error: Exception) -> int | None:
    """The exit code for an error that is meant for people; None for a bug."""
    from engine.client.fix import FixError
    from engine.data.sources import DataError
    from engine.export.source import ExportError
    from engine.models.source import ModelError
    from engine.recipe.recipe_file import RecipeError
    from store import StoreError, Unavailable

    if isinstance(error, RecipeError | ModelError | DataError):
        return BAD_INPUT
    if isinstance(error, Unavailable) or (isinstance(error, StoreError) and error.kind == "home"):
        return NO_DAEMON
    return REFUSED if isinstance(error, StoreError | ExportError | FixError) else None
