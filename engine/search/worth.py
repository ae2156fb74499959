"""What each setting of a sweep was worth: how much of the order of its runs goes with it.

Runs are put into groups by the setting, values of a list each in one, numbers of a range in thirds; the share that the
groups explain is epsilon squared of the Kruskal-Wallis test (M. Tomczak and E. Tomczak, "The need to report effect size
estimates revisited", 2014):

    (H - g + 1) / (n - g),  H = 12 / (n (n + 1)) * sum(R^2 / m) - 3 (n + 1)

with n runs in g groups, m of them in one and R the sum of their ranks. By ranks, since runs that diverged have losses
beyond all measure; by groups, since the best rate is often in the middle. Whether it is chance is asked of the same
ranks, dealt out anew 5,000 times; with several settings by Holm's rule. Of a search that learns, runs lie close to the
best: what is said of it is about the values that it tried.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from engine.flags.multiplicity import holm

FEWEST = 10  # runs
LEVELS = 4  # values, at most, that are a group each though they are numbers
THIRDS = 3
DEALS = 5000
ALPHA = 0.05


@dataclass(frozen=True)
class Worth:
    """One setting. `explains`: share of the ranks' variance, 0 to 1; `best`: the values of its best group."""

    key: str
    explains: float
    p: float
    is_told: bool  # whether chance is unlikely, all settings counted
    best: str
    median: float  # held-out loss of the runs in the best group
    elsewhere: float  # and of the others
    n: int


def worth(runs: Sequence[tuple[Mapping[str, Any], float]]) -> list[Worth]:
    """Return what is known of each setting that varies, what explains most first; nothing of fewer than FEWEST runs.
    `runs`: settings and held-out loss of each.
    """
    runs = [(settings, loss) for settings, loss in runs if not math.isnan(loss)]
    if len(runs) < FEWEST:
        return []
    losses = np.array([loss for _, loss in runs], dtype=np.float64)
    ranks = _ranks(losses)
    chance = np.random.default_rng(0)
    deals = np.stack([chance.permutation(ranks) for _ in range(DEALS)])
    effects: dict[str, tuple[float, float, str, np.ndarray]] = {}
    for key in dict.fromkeys(key for settings, _ in runs for key in settings):
        groups = _groups([settings.get(key) for settings, _ in runs])
        if len(groups) < 2 or len(groups) >= len(runs) - 1:
            continue
        members = list(groups.values())
        own = float(_explained(ranks[None], members)[0])
        p = float((1 + (_explained(deals, members) >= own - 1e-12).sum()) / (1 + DEALS))
        best = min(groups, key=lambda label: float(np.median(losses[groups[label]])))
        effects[key] = (max(0.0, own), p, best, groups[best])
    corrected = holm({key: p for key, (_, p, _, _) in effects.items()}, ALPHA)
    made = [
        Worth(
            key,
            share,
            p,
            corrected[key],
            best,
            _median(losses[inside]),
            _median(np.delete(losses, inside)),
            len(runs),
        )
        for key, (share, p, best, inside) in effects.items()
    ]
    return sorted(made, key=lambda one: (not one.is_told, -one.explains))


def _groups(values: Sequence[Any]) -> dict[str, np.ndarray]:
    """Return which runs are in which group, by its name."""
    numbers = [number_of(value) for value in values]
    if all(number is not None for number in numbers) and len(set(numbers)) > LEVELS:
        return _thirds(np.array(numbers, dtype=np.float64))
    names = [str(value) for value in values]
    return {name: np.flatnonzero([one == name for one in names]) for name in dict.fromkeys(names)}


def _thirds(numbers: np.ndarray) -> dict[str, np.ndarray]:
    parts = np.array_split(np.argsort(numbers, kind="stable"), THIRDS)
    return {f"{numbers[part].min():.3g} to {numbers[part].max():.3g}": np.sort(part) for part in parts}


def _explained(ranks: np.ndarray, groups: Sequence[np.ndarray]) -> np.ndarray:
    """Epsilon squared of each deal of ranks, [deals, n] → [deals]."""
    n, g = ranks.shape[1], len(groups)
    squares = sum(ranks[:, group].sum(axis=1) ** 2 / len(group) for group in groups)
    h = 12 / (n * (n + 1)) * squares - 3 * (n + 1)
    return np.asarray((h - g + 1) / (n - g))


def _ranks(losses: np.ndarray) -> np.ndarray:
    from scipy.stats import rankdata  # takes half a second to import

    return np.asarray(rankdata(losses), dtype=np.float64)


def _median(losses: np.ndarray) -> float:
    return float(np.median(losses)) if len(losses) else math.nan


def number_of(value: Any) -> float | None:
    """Return a setting as a number; None for what is none."""
    try:
        number = float(value)
    except (TypeError, ValueError):
        return None
    return number if math.isfinite(number) else None
