"""The result of an export. Torch-free."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.basics.statistics import Estimate


@dataclass(frozen=True)
class Difference:
    """Two models on the target tokens of held-out examples. Losses in nats per token."""

    examples: int
    tokens: int
    logit: float  # mean |Δ| over tokens and vocabulary
    kl: float  # mean over tokens of KL(trained ‖ merged), nats
    trained_loss: float
    merged_loss: float
    change: Estimate  # of the loss, paired by example

    def as_dict(self) -> dict[str, Any]:
        lo, hi = self.change.interval()
        return {**vars(self), "change": {"value": self.change.value, "lo": lo, "hi": hi, "n": self.change.n}}

    def __str__(self) -> str:
        lo, hi = self.change.interval()
        return (
            f"mean |Δlogit| {self.logit:.4f}, KL {self.kl:.2e} nats per token, held-out loss {self.trained_loss:.4f} "
            f"as trained and {self.merged_loss:.4f} merged ({self.change.value:+.4f}, 95% interval {lo:+.4f} to "
            f"{hi:+.4f}), on {self.tokens:,} tokens of {self.examples} held-out examples"
        )


@dataclass(frozen=True)
class ExportResult:
    """The content of an exported folder."""

    kind: str  # adapter, model, merged or gguf
    path: Path
    step: int  # that the weights come from
    dtype: str | None = None  # of a merged model: float32, float16 or bfloat16
    comparison: Difference | str | None = (
        None  # of a merge with the model as it was trained, or why there is none
    )
    factor: float = 1.0  # of what was trained

    def as_dict(self) -> dict[str, Any]:
        compared = self.comparison.as_dict() if isinstance(self.comparison, Difference) else self.comparison
        return {**vars(self), "path": str(self.path), "comparison": compared}
