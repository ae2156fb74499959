"""A run as every command's `--json` has it: the same keys for the same thing."""

from __future__ import annotations

from datetime import datetime
from typing import Any

TIMES = ("created", "started", "ended")


def of_run(row: dict[str, Any]) -> dict[str, Any]:
    """The columns of a row of the named query `runs`, and its times once more as people and programs read them: ISO
    8601, in this machine's time zone. Times without `_at` are Unix seconds, as in the store.
    """
    return {**row, **{f"{name}_at": iso(row[name]) for name in TIMES}}


def iso(seconds: float | None) -> str | None:
    """Unix seconds as ISO 8601 with the offset of this machine."""
    return (
        None
        if seconds is None
        else datetime.fromtimestamp(seconds).astimezone().isoformat(timespec="seconds")
    )
