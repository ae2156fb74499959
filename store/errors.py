"""What goes wrong in the store, said for people."""

from __future__ import annotations

import re


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


def explain(error: Exception) -> str:
    """One sentence from DuckDB's message, with its line number and its hint."""
    text = str(error).strip()
    head, _, marked = text.partition("\nLINE ")
    line = re.match(r"(\d+): ?", marked)
    parts = [part.strip().rstrip("!.") for part in head.splitlines() if part.strip()]
    first = re.sub(r"^[A-Z][A-Za-z ]+ Error: ", "", parts[0]) if parts else type(error).__name__
    hints = [re.sub(r"^Candidate bindings: ", "did you mean ", part) for part in parts[1:]]
    sentence = "; ".join([first[:1].lower() + first[1:], *[hint[:1].lower() + hint[1:] for hint in hints]])
    return f"line {line[1]}: {sentence}" if line else sentence
