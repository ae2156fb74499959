"""Correct for many chances of a false alarm, in one place: many looks, many slices, many levels.

- Look k (from 1) is tested at 6 a / (pi j)^2 with j = 1 + floor(log2 k): one level for each doubling of the number of
  looks, since the loss of a run wanders, and looks that are close together see nearly the same.
- A flag needs two hits in a row of the same slice. One of two neighbours is an even look, so that the chance of a false
  flag over K looks is at most the sum of the levels of the even ones, however looks depend on each other: 4.5% for K =
  63, which `evals.every: auto` does not reach. What is kept in practice is far less: benchmarks/flag_simulation.py.
- The slices of a suite, and the suite as a whole, share a look's level by Holm's method (S. Holm, "A simple
  sequentially rejective multiple test procedure", 1979), which holds however they depend on each other.
- The margins of warn and critical are nested: a value beyond the larger one is beyond the smaller one, so that
  testing both costs nothing.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

from engine.flags.flag import LEVELS, Level

ALPHA = 0.05  # chance of a false flag of a kind over all looks of a run, at most
HITS_IN_A_ROW = 2


def level_at(look: int, alpha: float = ALPHA) -> float:
    """Return the significance level of look k (from 1): 6 a / (pi j)^2 with j = 1 + floor(log2 k)."""
    return 6 * alpha / (math.pi * look.bit_length()) ** 2


def holm(p_values: Mapping[str, float], alpha: float) -> dict[str, bool]:
    """Return which hypotheses are rejected, with a chance of at most `alpha` that any of these is true."""
    rejected = dict.fromkeys(p_values, False)
    for place, name in enumerate(sorted(p_values, key=lambda name: p_values[name])):
        if p_values[name] >= alpha / (len(p_values) - place):
            break
        rejected[name] = True
    return rejected


def standing(hits: Mapping[Level, Sequence[bool]]) -> Level | None:
    """Return the highest level with two hits in a row at the end; `hits[level][k]` is look k's."""
    raised = [level for level in LEVELS if level in hits and streak(hits[level]) >= HITS_IN_A_ROW]
    return raised[-1] if raised else None


def streak(hits: Sequence[bool]) -> int:
    """Count the hits in a row at the end."""
    return len(hits) - max((k for k, hit in enumerate(hits, start=1) if not hit), default=0)
