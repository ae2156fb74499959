"""Correction of the estimate from the measured peaks of past runs. Torch-free, pure functions."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

# The factor starts from 1 with the weight of this many runs, so that a single odd run does not decide it.
PRIOR_RUNS = 1.0
PRIOR_ERROR = 0.10  # relative error of the estimate while nothing has been measured
MAX_RATIO = 4.0  # a run whose peak is further off than this does not belong to this estimate


@dataclass(frozen=True)
class Correction:
    """The factor on an estimate, and the likely error of the product."""

    factor: float
    error: float  # relative, one standard deviation of a new run around the corrected estimate
    runs: int  # that it was learned from

    def apply(self, predicted: int) -> int:
        """Return the corrected peak, bytes."""
        return round(predicted * self.factor)

    def __str__(self) -> str:
        if not self.runs:
            return f"by formula, ±{self.error:.0%}; no measured run yet"
        return f"×{self.factor:.2f} from {self.runs} measured run{'s' * (self.runs > 1)}, ±{self.error:.0%}"


def correction(runs: Sequence[tuple[float, float]]) -> Correction:
    """Return the correction from past runs, given as (predicted, measured) peaks in the same unit.

    `predicted` is the formula's own result, without an earlier correction. The runs should be of one model, method
    and device. The factor is the geometric mean of measured / predicted, drawn towards 1 as if
    one run had been exact; the error is the spread of the logarithms around it, with the prior's 10% as one
    more observation. Rows that are not positive, not finite or off by more than 4 times are left out.
    """
    ratios = [
        math.log(measured / predicted)
        for predicted, measured in runs
        if predicted > 0 and measured > 0 and math.isfinite(measured / predicted)
    ]
    ratios = [ratio for ratio in ratios if abs(ratio) <= math.log(MAX_RATIO)]
    weight = len(ratios) + PRIOR_RUNS
    mean = sum(ratios) / weight
    spread = sum((ratio - mean) ** 2 for ratio in ratios) + PRIOR_RUNS * PRIOR_ERROR**2
    # A new run differs from the mean by its own spread and by what the mean is off.
    error = math.sqrt(spread / weight * (1 + 1 / weight)) if ratios else PRIOR_ERROR
    return Correction(math.exp(mean), error, len(ratios))
