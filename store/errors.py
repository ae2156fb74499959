"""What goes wrong in the store, said for people."""

from __future__ import annotations


class StoreError(Exception):
    """One clear sentence for a person (`str()`), and a `kind` for programs.

    Kinds of the store itself: `sql` (the statement is wrong), `refused` (not allowed), `timeout`,
    `cancelled`, `not_found`, `locked` (another process holds the file), `restarted` (the database was
    reopened; ask again), `unavailable`, `internal`. The daemon's actions may use others.
    """

    def __init__(self, message: str, kind: str = "internal") -> None:
        super().__init__(message)
        self.kind = kind


class Unavailable(StoreError):  # noqa: N818
    """Nobody answers at the socket."""

    def __init__(self, message: str) -> None:
        super().__init__(message, "unavailable")
