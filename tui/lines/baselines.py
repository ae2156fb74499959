"""The base model beside a fine-tuned one, in words: rows of the named queries `baselines` and `slices`."""

from __future__ import annotations

from typing import Any

from engine.basics.safe_text import one_line
from tui.lines import format

COLUMNS = ("base model", "loss", "fine-tuned", "change", "95% interval", "n")
SLICE_COLUMNS = ("slice", "base", "fine-tuned", "change", "95% interval", "n", "lost", "gained")


def baseline_cells(row: dict[str, Any]) -> tuple[str, ...]:
    """A row under COLUMNS; losses in nats per token."""
    shots = f" ({row['shots']:.3g} examples)" if row["shots"] else ""
    return (
        f"{row['baseline']}{shots}",
        format.loss(row["base_loss"]),
        format.loss(row["loss"]),
        *_change(row),
    )


def slice_cells(row: dict[str, Any]) -> tuple[str, ...]:
    """A row under SLICE_COLUMNS. A task without flips (docs/flags.md) has them empty."""
    flips = ("" if row[name] is None else f"{row[name]:.0f}" for name in ("lost", "gained"))
    losses = format.loss(row["base_loss"]), format.loss(row["loss"])
    return (one_line(row["slice"] or "all"), *losses, *_change(row), *flips)


def _change(row: dict[str, Any]) -> tuple[str, ...]:
    interval = f"{format.delta(row['lo'])} to {format.delta(row['hi'])}"
    return format.delta(row["change"]), interval, str(row["n"])
