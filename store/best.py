"""Which value of a metric is its best."""

from __future__ import annotations

# Of metrics whose name ends so, the greatest value is the best; of all others the least.
HIGHER_IS_BETTER = (
    "accuracy",
    "f1",
    "score",
    "match",
    "rouge1",
    "rouge2",
    "rougeL",
    "bleu",
    "chrf",
    "margin",
)
