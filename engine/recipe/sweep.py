"""A sweep: the values that its runs have, as a grid or drawn at random.

Lists of values alone are a grid: every combination becomes a run. With `runs` so many are drawn, each value of a list
equally likely; then a key may also have a range, `{from: 1.0e-5, to: 1.0e-3, scale: log}`, which is drawn from evenly
(on a logarithmic scale where it says so). The same `draw_seed` draws the same runs.
"""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

MOST_RUNS = 1000
DIGITS = 3  # of a number that is drawn: names of runs have it
TRIES = 50  # draws for a run that is not there yet
RUNS, SEED = "runs", "draw_seed"
RANGE = ("from", "to", "scale")
SCALES = ("linear", "log")


class BadSweep(Exception):  # noqa: N818 (RecipeError says it, with file and line)
    """What is wrong with a sweep: the key, and a sentence."""

    def __init__(self, key: str, sentence: str) -> None:
        super().__init__(sentence)
        self.key, self.sentence = key, sentence


@dataclass(frozen=True)
class Range:
    """Numbers to draw from; whole ones where both ends are."""

    low: float
    high: float
    log: bool
    whole: bool

    def draw(self, chance: random.Random) -> float | int:
        low, high = (math.log(self.low), math.log(self.high)) if self.log else (self.low, self.high)
        value = chance.uniform(low, high)
        value = math.exp(value) if self.log else value
        if self.whole:
            return min(int(self.high), max(int(self.low), round(value)))
        return float(f"{value:.{DIGITS}g}")


@dataclass(frozen=True)
class Sweep:
    """What is varied, by dotted key, and how many runs are drawn; None: all combinations."""

    values: Mapping[str, Sequence[Any] | Range]
    runs: int | None = None
    seed: int = 0

    @property
    def keys(self) -> list[str]:
        return list(self.values)

    def combinations(self) -> Iterator[tuple[Any, ...]]:
        """Yield the values of each run, in the order of the keys. Raises BadSweep where there are too few to draw."""
        if self.runs is None:
            yield from itertools.product(
                *(value for value in self.values.values() if not isinstance(value, Range))
            )
            return
        chance, seen = random.Random(self.seed), set()
        for _ in range(self.runs):
            for _ in range(TRIES):
                drawn = tuple(
                    value.draw(chance) if isinstance(value, Range) else chance.choice(value)
                    for value in self.values.values()
                )
                if repr(drawn) not in seen:
                    break
            else:
                raise BadSweep(
                    RUNS,
                    f"{self.runs} different runs cannot be drawn from so few values: lower it, or leave it out",
                )
            seen.add(repr(drawn))
            yield drawn


def read(tree: Any) -> Sweep:
    """Check a recipe's section `sweep`. Raises BadSweep."""
    if not isinstance(tree, dict):
        raise BadSweep("", "give a mapping such as `train.lr: [1.0e-4, 3.0e-4]`")
    runs, seed = tree.get(RUNS), tree.get(SEED, 0)
    if runs is not None and (isinstance(runs, bool) or not isinstance(runs, int) or runs < 1):
        raise BadSweep(RUNS, "give how many runs are drawn, a whole number above 0")
    if isinstance(seed, bool) or not isinstance(seed, int):
        raise BadSweep(SEED, "give a whole number")
    values = {key: _values(key, value, runs) for key, value in tree.items() if key not in (RUNS, SEED)}
    if runs and not values:
        raise BadSweep(RUNS, "there is nothing to draw: add keys with lists or ranges")
    count = runs or math.prod(len(value) for value in values.values() if not isinstance(value, Range))
    if count > MOST_RUNS:
        raise BadSweep("", f"these are {count:,} runs; at most {MOST_RUNS:,} are made of one recipe")
    return Sweep(values, runs, seed)


def _values(key: str, value: Any, runs: int | None) -> Sequence[Any] | Range:
    if isinstance(value, list) and value:
        return value
    if not isinstance(value, dict) or not {"from", "to"} <= value.keys() <= set(RANGE):
        raise BadSweep(key, "give a list of values, or a range: {from: 1.0e-5, to: 1.0e-3, scale: log}")
    low, high, scale = value["from"], value["to"], value.get("scale", SCALES[0])
    numbers = [end for end in (low, high) if isinstance(end, int | float) and not isinstance(end, bool)]
    if len(numbers) < 2 or not all(map(math.isfinite, numbers)) or not low < high:
        raise BadSweep(key, "a range goes from a number to a greater one")
    if scale not in SCALES:
        raise BadSweep(key, f"scale must be one of {', '.join(SCALES)}")
    if scale == "log" and low <= 0:
        raise BadSweep(key, "a range on a logarithmic scale begins above 0")
    if runs is None:
        raise BadSweep(key, "a range is drawn from: say how often, `runs: 20`")
    return Range(low, high, scale == "log", isinstance(low, int) and isinstance(high, int))


def short_names(keys: Sequence[str]) -> list[str]:
    """Return what the swept keys are called in names and tables: their last part, where that says which one it is."""
    last = [key.rpartition(".")[2] for key in keys]
    return [short if last.count(short) == 1 else key for key, short in zip(keys, last, strict=True)]
