"""Leak: rows of a suite that training data give away, and what the results are without them.

The overlap itself is found in engine/data/overlap.py, before the run. A held-out row that was trained on says
nothing about new ones; a general row that was trained on hides forgetting.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from typing import Protocol

import numpy as np

from engine.evals.intervals import Estimate, change, ratio
from engine.flags import actions
from engine.flags.flag import Flag, History, Level

# Share of a suite's rows from which a leak is more than worth knowing.
LEVELS: dict[Level, float] = {"info": 0.0, "warn": 0.01, "critical": 0.1}


class Hit(Protocol):
    """A row of a suite that overlaps with training data; `engine.data.overlap.Leak` is one."""

    @property
    def id(self) -> str: ...

    @property
    def kind(self) -> str: ...  # exact, near or 13-gram


def leak(suite: str, ids: Sequence[str], hits: Sequence[Hit], history: History | None = None) -> Flag | None:
    """The flag if any of `ids`, the rows of a suite, is among the hits; None otherwise.

    With a history that scored the hits too, `effect` is by how much the hits flatter the suite's loss, in nats per
    token at the last look: how much more they fell since step 0 than the rest did, times their share of the tokens.
    Without one, or where hits were left out of it, it is the share of the rows that leak.
    """
    leaked = {hit.id for hit in hits} & set(ids)
    if not leaked:
        return None
    share = len(leaked) / len(ids)
    level: Level = [name for name, least in LEVELS.items() if share >= least][-1]
    kinds = Counter(hit.kind for hit in hits if hit.id in leaked)
    found = ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))
    said = [f"{len(leaked)} of {len(ids)} {suite} rows overlap with training data ({share:.1%}; {found})."]
    effect, lo, hi, step, looks = share, math.nan, math.nan, 0, 0
    if history is not None and leaked.isdisjoint(history.ids):
        said.append("They are left out of the scores.")
    elif history is not None:
        step, looks = history.steps[-1], history.looks
        effect, lo, hi, sentences = _with_and_without(history, leaked)
        said += sentences
    return Flag(
        flag="leak",
        level=level,
        step=step,
        since_step=0,
        suite=suite,
        effect=effect,
        lo=lo,
        hi=hi,
        n=len(ids),
        looks=looks,
        message=" ".join(said),
        actions=actions.leak(suite),
    )


def _with_and_without(history: History, leaked: set[str]) -> tuple[float, float, float, list[str]]:
    """(effect, lo, hi, sentences) at the last look."""
    scored = history.scored(0, history.looks)
    is_leaked = np.array([id in leaked for id in history.ids]) & scored
    clean = scored & ~is_leaked
    if not clean.any() or not is_leaked.any():
        return math.nan, math.nan, math.nan, ["No row is left to compare with."]
    now, tokens = history.nll[-1], history.tokens
    everything = ratio(now[scored], tokens[scored])
    without = ratio(now[clean], tokens[clean])
    said = [
        f"The loss at step {history.steps[-1]} is {everything.value:.3f} with them and {without.value:.3f} without."
    ]
    inside = change(history.nll[0][is_leaked], now[is_leaked], tokens[is_leaked])
    outside = change(history.nll[0][clean], now[clean], tokens[clean])
    difference = Estimate(
        outside.value - inside.value, math.hypot(outside.se, inside.se), min(inside.n, outside.n)
    )
    lo, hi = difference.interval()
    said.append(
        f"Since step 0 the loss of the overlapping rows changed by {inside.value:+.3f} and that of the others by "
        f"{outside.value:+.3f} (95% interval of the difference {lo:.3f} to {hi:.3f})."
    )
    weight = float(tokens[is_leaked].sum() / tokens[scored].sum())  # of the hits in the suite's loss
    return weight * difference.value, weight * lo, weight * hi, said
