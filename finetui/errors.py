"""Errors that are meant for people, and the exit codes that they lead to. Imports nothing."""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """How a command ends: an interface, listed in docs/cli.md. A code never changes its meaning."""

    OK = 0
    # Also where nobody reads on (`finetui ls | head`): Typer ends with it.
    FAILED = 1
    USAGE = 2  # Typer's own
    BAD_INPUT = 3
    REFUSED = 4
    NO_DAEMON = 5

    @property
    def meaning(self) -> str:
        return _MEANING[self]


_MEANING = {
    ExitCode.OK: "done",
    ExitCode.FAILED: "the command worked, but reports a failure (a run failed, `doctor` found a problem); or its "
    "output was cut off (`| head`)",
    ExitCode.USAGE: "unknown option or missing argument",
    ExitCode.BAD_INPUT: "a recipe, data set, model or configuration cannot be used; nothing was queued",
    ExitCode.REFUSED: "no such run, a run in the wrong state, SQL that is wrong or not allowed, an impossible export, "
    "a run without flags that a recipe can fix",
    ExitCode.NO_DAEMON: "the daemon does not answer and cannot be started",
}


class FinetuiError(Exception):
    """An error that is meant for people: `str()` is one clear sentence that says what is wrong, where (file, line,
    key) and what to do. A command that ends with it prints the sentence and exits with `exit_code`.
    """

    exit_code: ExitCode = ExitCode.REFUSED


class StoreError(FinetuiError):
    """What the daemon or its store answers instead of a result; `kind` is for programs.

    Kinds of the store itself: `sql` (the statement is wrong), `refused` (not allowed), `timeout`, `cancelled`,
    `too_large` (not all rows fit), `not_found`, `locked` (another process holds the file), `restarted` (the database
    was reopened; ask again), `unavailable`, `internal`. Where no daemon can be started: `home` (the home cannot be
    used), `config` (its configuration cannot). The daemon's actions may use others.
    """

    def __init__(self, message: str, kind: str = "internal") -> None:
        super().__init__(message)
        self.kind = kind

    @property
    def exit_code(self) -> ExitCode:  # type: ignore[override]
        codes = {"unavailable": ExitCode.NO_DAEMON, "home": ExitCode.NO_DAEMON, "config": ExitCode.BAD_INPUT}
        return codes.get(self.kind, ExitCode.REFUSED)


class Unavailable(StoreError):  # noqa: N818
    """Nobody answers at the socket."""

    def __init__(self, message: str) -> None:
        super().__init__(message, "unavailable")


class PartialResult(UserWarning):
    """A query's result lacks something: logs that are still being read."""


def first_line(error: BaseException) -> str:
    """Return the first line of a library's message, without its full stop; the name of the error if it is empty."""
    return (str(error).strip().splitlines() or [type(error).__name__])[0].rstrip(".")
