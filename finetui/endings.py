"""How this process ends: its runs that are still open then say so, as finished, failed or cancelled."""

from __future__ import annotations

import atexit
import sys
from collections.abc import Callable
from types import TracebackType
from typing import Any, Protocol


class Open(Protocol):
    """A run that is not finished yet."""

    def finish(self, status: str = "finished", error: str | None = None) -> None: ...


_open: list[Open] = []
_how: tuple[str, str | None] = ("finished", None)
_installed = False


def watch(run: Open) -> None:
    """Finish a run when the process ends, unless that was done before."""
    global _installed
    _open.append(run)
    if _installed:
        return
    _installed = True
    atexit.register(_finish_all)
    sys.excepthook = _noting(sys.excepthook)
    sys.exit = _noting_exit(sys.exit)


def forget(run: Open) -> None:
    if run in _open:
        _open.remove(run)


def ending_of(error: BaseException | None) -> tuple[str, str | None]:
    """Return the status that an exception means, and what it says of it."""
    if error is None or (isinstance(error, SystemExit) and error.code in (None, 0)):
        return "finished", None
    if isinstance(error, KeyboardInterrupt):
        return "cancelled", "stopped by the keyboard"
    if isinstance(error, SystemExit):
        return "failed", _of_code(error.code)
    message = str(error).strip()
    return "failed", f"{type(error).__name__}: {message}" if message else type(error).__name__


def _of_code(code: object) -> str:
    return f"it ended with exit code {code}" if isinstance(code, int) else str(code)


def _noting(before: Callable[..., Any]) -> Callable[..., Any]:
    def hook(kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        global _how
        _how = ending_of(error)
        before(kind, error, trace)

    return hook


def _noting_exit(before: Callable[..., Any]) -> Callable[..., Any]:
    """Nobody is told of a SystemExit that ends a process, so its exit code is noted where it is raised."""

    def leave(code: Any = None) -> None:
        global _how
        _how = ending_of(SystemExit(code))
        before(code)

    return leave


def _finish_all() -> None:
    status, error = _how
    for run in list(_open):
        run.finish(status, error)
