"""The run table in groups: by state, sweep, tags, or what runs have in a column, each below a head."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from engine.basics.wording import duration
from store.states import ACTIVE, WAITING, RunState
from tui.lines import format, sweeps
from tui.rows import Run

RUNNING, WAITS, PAUSED, DONE = "running", "waiting", "paused", "done"
STATES = (RUNNING, WAITS, PAUSED, DONE)  # groups of states, in their order
# What runs can be grouped by beside the keys of recipes and metrics.
FIELDS: dict[str, Callable[[Run], tuple[str, ...]]] = {
    "state": lambda run: (_state(run.state),),
    "sweep": lambda run: (run.sweep,),
    "tag": lambda run: tuple(run.tags.split()) or ("",),
    "method": lambda run: (run.method,),
    "model": lambda run: (run.model,),
    "task": lambda run: (run.task,),
    "group": lambda run: (run.queue_group,),
}


def _state(state: str) -> str:
    if state in ACTIVE:
        return RUNNING
    return WAITS if state in WAITING else PAUSED if state == RunState.PAUSED else DONE


@dataclass(frozen=True)
class Head:
    """The line above the runs of a group, or in place of them."""

    key: str  # what its runs have in common
    name: str
    runs: Sequence[Run]
    is_open: bool
    by_state: bool

    @cached_property
    def shown(self) -> Run:
        """The run whose curves are drawn while the cursor is on the line."""
        return shown_of(self.runs)

    @cached_property
    def numbers(self) -> frozenset[int]:
        return frozenset(run.number for run in self.runs)

    @cached_property
    def facts(self) -> str:
        """How many runs it has and how they stand, why they wait, and the best result."""
        states = [run.state for run in self.runs]
        count = sweeps.in_words(len(states))
        parts = [count if self.by_state and len(set(states)) == 1 else sweeps.summary(states)]
        if self.by_state and self.key == WAITS:
            parts.append(_why(self.runs))
        if best := best_of(self.runs):
            parts.append(f"best held-out {format.loss(best.heldout_best)} (#{best.number})")
        return " · ".join(filter(None, parts))

    def left(self, etas: Mapping[int, float]) -> str:
        """How long those that run need; what waits is not foretold."""
        seconds = [eta for number, eta in etas.items() if number in self.numbers]
        return f"{duration(max(seconds))} left" if seconds else ""


def best_of(runs: Sequence[Run]) -> Run | None:
    """The run with the best held-out loss; None where none was evaluated."""
    scored = [run for run in runs if run.heldout_best is not None]
    return min(scored, key=lambda run: run.heldout_best or 0.0, default=None)


def shown_of(runs: Sequence[Run]) -> Run:
    """The run that a line of several stands for: one that goes on, else the best, else the first."""
    return next((run for run in runs if run.state == RunState.RUNNING), None) or best_of(runs) or runs[0]


def why(run: Run) -> str:
    """What a run waits for."""
    return run.waiting_for or run.reason


def _why(runs: Sequence[Run]) -> str:
    """What most of them wait for: the first clause, since the others name the run itself."""
    reasons = Counter(why(run).partition(";")[0] for run in runs if why(run)).most_common(2)
    if len(reasons) == 1:
        return reasons[0][0]
    return ", ".join(f"{count}: {reason}" for reason, count in reasons)


def split(runs: Sequence[Run], by: str, values: Mapping[int, str]) -> dict[str, list[Run]]:
    """The runs of each group by its key, in their order; a run with several tags is in several groups. Those that have
    nothing of the kind come last, under an empty key. `values`: of `by` by run, where that is no field of a run.
    """
    keys_of = FIELDS.get(by)
    groups: dict[str, list[Run]] = {state: [] for state in STATES} if by == "state" else {}
    for run in runs:
        for key in keys_of(run) if keys_of else (values.get(run.number, ""),):
            groups.setdefault(key, []).append(run)
    if "" in groups:
        groups[""] = groups.pop("")
    return {key: members for key, members in groups.items() if members}


def heads(
    runs: Sequence[Run], by: str, values: Mapping[int, str], closed: Collection[str] = ()
) -> list[Head]:
    """The groups of the runs, see `split`. `closed`: keys of those of which the head alone is shown."""
    return [
        Head(key, name_of(by, key, members), members, key not in closed, by == "state")
        for key, members in split(runs, by, values).items()
    ]


def name_of(by: str, key: str, runs: Sequence[Run]) -> str:
    """What a group is called."""
    if not key:
        return f"no {by}"
    return sweeps.name_of([run.name for run in runs]) if by == "sweep" else key
