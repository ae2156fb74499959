"""A sweep: the values that its runs have, as a grid, drawn at random, or proposed from the results so far.

Lists of values alone are a grid: every combination becomes a run. With `runs` so many are drawn, each value of a list
equally likely; then a key may also have a range, `{from: 1.0e-5, to: 1.0e-3, scale: log}`, which is drawn from evenly
(on a logarithmic scale where it says so). The same `draw_seed` draws the same runs. With `search: tpe` only the first
are drawn, and the others proposed as results come (engine/search/).
"""

from __future__ import annotations

import itertools
import math
import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, get_args

Search = Literal["grid", "random", "tpe"]

MOST_RUNS = 1000
DIGITS = 3  # of a number that is drawn: names of runs have it
DRAWN = 10  # runs, at most, that are drawn before any is proposed: there has to be something to learn from
TRIES = 50  # draws for a run that is not there yet
RUNS, SEED, SEARCH, STOP_LOSERS = "runs", "draw_seed", "search", "stop_losers"
HOURS, COST = "max_hours", "max_cost"
OF_SEARCH = (RUNS, SEED, SEARCH, STOP_LOSERS, HOURS, COST)  # all other keys are those of a recipe
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

    def place(self, value: float) -> float:
        """Return where a value is between the lower end, 0, and the upper, 1."""
        if self.log:
            return math.log(max(value, self.low) / self.low) / math.log(self.high / self.low)
        return (value - self.low) / (self.high - self.low)


@dataclass(frozen=True)
class Sweep:
    """What is varied, by dotted key, and how many runs are drawn; None: all combinations."""

    values: Mapping[str, Sequence[Any] | Range]
    runs: int | None = None
    seed: int = 0
    search: Search = "grid"
    stop_losers: bool = False
    max_hours: float | None = None  # of all its runs together, after which none is started any more
    max_cost: float | None = None  # likewise, in the currency of `price_per_hour`

    @property
    def is_watched(self) -> bool:
        """Whether there is more to do than to queue all its runs at once: results are looked at as they come."""
        limited = self.max_hours is not None or self.max_cost is not None
        return self.search == "tpe" or self.stop_losers or limited

    def initial_runs(self, runs: int) -> int:
        """Return how many of `runs` are queued before there are results."""
        return min(DRAWN, max(4, runs // 3), runs) if self.search == "tpe" else runs

    @property
    def keys(self) -> list[str]:
        return list(self.values)

    def combinations(self, runs: int | None = None) -> Iterator[tuple[Any, ...]]:
        """Yield the values of each run, in the order of the keys. `runs`: how many to draw, if another number; the
        first are the same. Raises BadSweep where there are too few to draw.
        """
        if self.runs is None:
            yield from itertools.product(
                *(value for value in self.values.values() if not isinstance(value, Range))
            )
            return
        runs = runs or self.runs
        chance, seen = random.Random(self.seed), set()
        for _ in range(runs):
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
                    f"{runs} different runs cannot be drawn from so few values: lower it, or leave it out",
                )
            seen.add(repr(drawn))
            yield drawn


def limit_reached(sweep: Sweep, hours: float, cost: float) -> str | None:
    """Return in words which limit the runs of a sweep have come to, together; None where they may go on."""
    if sweep.max_hours is not None and hours >= sweep.max_hours:
        return f"its runs have taken {hours:.4g} of {sweep.max_hours:g} hours (max_hours)"
    if sweep.max_cost is not None and cost >= sweep.max_cost:
        return f"its runs have cost {cost:.2f} of {sweep.max_cost:g} (max_cost)"
    return None


def read(tree: Any) -> Sweep:
    """Check a recipe's section `sweep`. Raises BadSweep."""
    if not isinstance(tree, dict):
        raise BadSweep("", "give a mapping such as `train.lr: [1.0e-4, 3.0e-4]`")
    runs, seed = tree.get(RUNS), tree.get(SEED, 0)
    if runs is not None and not _is_whole(runs, 1):
        raise BadSweep(RUNS, "give how many runs are drawn, a whole number above 0")
    if not _is_whole(seed):
        raise BadSweep(SEED, "give a whole number")
    search = tree.get(SEARCH, "random" if runs else "grid")
    if search not in get_args(Search):
        raise BadSweep(SEARCH, f"must be one of {', '.join(get_args(Search))}")
    if search == "grid" and runs:
        raise BadSweep(SEARCH, "a grid has every combination: leave out `runs`, or search: random")
    if search != "grid" and not runs:
        raise BadSweep(SEARCH, f"say how many runs there are to be, `runs: 20`, for search: {search}")
    if not isinstance(stop := tree.get(STOP_LOSERS, False), bool):
        raise BadSweep(STOP_LOSERS, "must be true or false")
    limits = {key: _limit(key, tree.get(key)) for key in (HOURS, COST)}
    values = {key: _values(key, value, runs) for key, value in tree.items() if key not in OF_SEARCH}
    if runs and not values:
        raise BadSweep(RUNS, "there is nothing to draw: add keys with lists or ranges")
    count = runs or math.prod(len(value) for value in values.values() if not isinstance(value, Range))
    if count > MOST_RUNS:
        raise BadSweep("", f"these are {count:,} runs; at most {MOST_RUNS:,} are made of one recipe")
    return Sweep(values, runs, seed, search, stop, limits[HOURS], limits[COST])


def _is_whole(value: Any, least: int | None = None) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and (least is None or value >= least)


def _limit(key: str, value: Any) -> float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 < value < math.inf:
        raise BadSweep(key, "give a number above 0")
    return float(value)


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
