"""A sweep in one line: its name, how its runs stand, and what they come to together."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from itertools import takewhile
from typing import TypeVar

from store.states import ACTIVE, WAITING, RunState

T = TypeVar("T")

# What a sweep is said to be: the first of these that one of its runs is in.
FIRST = (RunState.RUNNING, RunState.STARTING, RunState.INTERRUPTED, RunState.QUEUED, RunState.PAUSED, RunState.FINISHED,
         RunState.FAILED, RunState.CANCELLED)  # fmt: skip


def groups(runs: Iterable[T], sweep_of: Callable[[T], str | None]) -> dict[str, list[T]]:
    """Return the runs of each sweep of which there are several, in their order."""
    found: dict[str, list[T]] = {}
    for run in runs:
        if sweep := sweep_of(run):
            found.setdefault(sweep, []).append(run)
    return {sweep: members for sweep, members in found.items() if len(members) > 1}


def name_of(names: Sequence[str]) -> str:
    """Return the words that the names of a sweep's runs begin with: the others are their settings."""
    same = takewhile(
        lambda words: len(set(words)) == 1, zip(*(name.split(" ") for name in names), strict=False)
    )
    return " ".join(words[0] for words in same) or names[0]


def state_of(states: Sequence[str]) -> str:
    return next(state for state in FIRST if state in states)


def ended(states: Sequence[str]) -> int:
    """Return how many runs have nothing more to do."""
    return sum(state not in ACTIVE | WAITING for state in states)


def in_words(count: int) -> str:
    """Return `1 run`, `12 runs`."""
    return f"{count} run{'' if count == 1 else 's'}"


def summary(states: Sequence[str]) -> str:
    """Return `12 runs: 1 running, 4 queued, 7 finished`."""
    counts = Counter(states)
    parts = [f"{counts[state]} {state}" for state in FIRST if counts[state]]
    return f"{in_words(len(states))}: {', '.join(parts)}"
