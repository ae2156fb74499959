"""The base model beside a fine-tuned one, in words: rows of the named query `baselines`."""

from __future__ import annotations

from typing import Any

from tui import format

COLUMNS = ("base model", "loss", "fine-tuned", "change", "95% interval", "n")


def baseline_cells(row: dict[str, Any]) -> tuple[str, ...]:
    """A row under COLUMNS; losses in nats per token."""
    shots = f" ({row['shots']:.3g} examples)" if row["shots"] else ""
    return (
        f"{row['baseline']}{shots}",
        format.loss(row["base_loss"]),
        format.loss(row["loss"]),
        format.delta(row["change"]),
        f"{format.delta(row['lo'])} to {format.delta(row['hi'])}",
        str(row["n"]),
    )
