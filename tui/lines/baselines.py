"""The base model beside a fine-tuned one, in words: rows of the named queries `baselines`, `slices`, `drift` and
`choices`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from engine.basics.safe_text import one_line
from tui.lines import format

COLUMNS = ("base model", "loss", "fine-tuned", "change", "95% interval", "n")
SLICE_COLUMNS = (
    "slice",
    "base",
    "fine-tuned",
    "change",
    "95% interval",
    "n",
    "lost",
    "gained",
    "ratio",  # of what was paid to what was gained
)
DISTANCE_COLUMNS = ("suite", "less likely by", "95% interval", "n", "KL")
DISTANCE = "distance from the base model, no loss: nats per token of what it wrote itself, and KL divergence"

DRIFT_COLUMNS = ("answers to general prompts", "base", "fine-tuned", "change", "95% interval", "n")
CHOICE_COLUMNS = ("questions", "base", "fine-tuned", "change", "95% interval", "n", "lost", "gained", "p")
DRIFT_WORDS = {
    "tokens": "length, tokens",
    "entropy": "entropy, nats",
    "distinct_pairs": "distinct pairs of tokens",
    "repetition": "repeated fours of tokens",
    "finished": "ended by themselves",
    "refused": "begin like a refusal",
    "switched": "in another language",
}


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
    paid = "" if row["per_gain"] is None else f"{row['per_gain']:.2f}"
    return (one_line(row["slice"] or "all"), *losses, *_change(row), *flips, paid)


def trade(rows: Sequence[dict[str, Any]]) -> str:
    """What general text, in `rows`, was paid for; empty where that cannot be told."""
    whole = next((row for row in rows if row["slice"] is None), None)
    if whole is None or whole["gain"] is None:
        return ""
    gain, lo, hi = (format.delta(whole[name]) for name in ("gain", "gain_lo", "gain_hi"))
    return f"paid {format.delta(whole['change'])} for a gain of {gain} ({lo} to {hi}) nats per held-out token"


def distance_cells(row: dict[str, Any]) -> tuple[str, ...]:
    """A row under DISTANCE_COLUMNS."""
    kl = "" if row["kl"] is None else f"{row['kl']:.3f}"
    if row["distance"] is None:
        return (one_line(row["suite"]), "", "", "", kl)
    interval = f"{format.delta(row['lo'])} to {format.delta(row['hi'])}"
    return (one_line(row["suite"]), format.delta(row["distance"]), interval, str(row["n"]), kl)


def drift_cells(row: dict[str, Any]) -> tuple[str, ...]:
    """A row under DRIFT_COLUMNS."""
    return (DRIFT_WORDS.get(row["measure"], one_line(row["measure"])), *_both(row), *_change(row))


def choice_cells(row: dict[str, Any]) -> tuple[str, ...]:
    """A row under CHOICE_COLUMNS; lost and gained are questions."""
    p = "below 0.001" if row["p"] < 0.001 else f"{row['p']:.3f}"
    name = f"{one_line(row['slice'])} {row['measure'].replace('_', ' ')}"
    return (name, *_both(row), *_change(row), f"{row['lost']:.0f}", f"{row['gained']:.0f}", p)


def _both(row: dict[str, Any]) -> tuple[str, str]:
    return format.loss(row["base"]), format.loss(row["now"])


def _change(row: dict[str, Any]) -> tuple[str, ...]:
    interval = f"{format.delta(row['lo'])} to {format.delta(row['hi'])}"
    return format.delta(row["change"]), interval, str(row["n"])
