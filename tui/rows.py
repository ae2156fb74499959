"""What the screens show, as the daemon answered it: the rows of the run table, and the snapshot of one moment.

A screen says which answers it needs (`ask("curve", run=3, key="train/loss")`); `tui.poller` fetches them.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from itertools import chain, compress, repeat
from operator import is_not
from typing import TYPE_CHECKING, Any, NamedTuple

from store.states import ACTIVE, HELD, WAITING, RunState

if TYPE_CHECKING:
    from finetui.progress import Progress

LIVE_STATES = WAITING | ACTIVE

Row = dict[str, Any]
Request = tuple[str, tuple[tuple[str, Any], ...]]


def ask(name: str, **args: Any) -> Request:
    """A named query with its arguments; `curve` is a run's part of `curves`, `log` is read from disk instead, and
    `machine` is the daemon's answer to that action, in one row.
    """
    return name, tuple(sorted(args.items()))


class Run(NamedTuple):
    """A row of the run table. Losses are in nats per token, times in Unix seconds.

    A named tuple because there may be 100,000 of them, made anew whenever one of them has moved on.
    """

    number: int
    name: str
    state: str
    method: str = ""
    model: str = ""
    reason: str = ""
    waiting_for: str = ""
    phase: str = ""
    priority: int = 0
    attempt: int = 0
    step: int = 0
    total_steps: int = 0
    created: float | None = None
    started: float | None = None
    ended: float | None = None
    loss: float | None = None
    heldout: float | None = None
    heldout_best: float | None = None
    general: float | None = None
    tokens_per_s: float | None = None
    flags: int = 0
    flag_level: str = ""
    parent: int | None = None  # the run that this one was made from
    task: str = ""
    held: bool = False
    tags: str = ""  # separated by spaces
    queue_group: str = ""
    sweep: str = ""
    logged: bool = False  # by a program of its own

    @property
    def live(self) -> bool:
        return self.state in LIVE_STATES

    @property
    def standing(self) -> str:
        """Its state; `held` where it waits and is held back."""
        return HELD if self.held and self.state in WAITING else self.state


# Columns of the named query `runs`, in the order of the fields of `Run`.
COLUMNS = ("run", *Run._fields[1:])


class Index:
    """What is looked up of all runs. With 100,000 it is made from the one before, where few have moved on."""

    def __init__(self, by_number: dict[int, Run], states: Counter[str]) -> None:
        self.by_number = by_number
        self.states = states  # how many runs are in each

    @classmethod
    def of(cls, runs: Sequence[Run]) -> Index:
        return cls({run.number: run for run in runs}, Counter(run.state for run in runs))

    def after(self, old: Sequence[Run], new: Sequence[Run]) -> Index:
        """The index where `new` have come in the place of `old`, which have the same numbers, or are fewer."""
        states = self.states.copy()
        states.subtract(run.state for run in old)
        states.update(run.state for run in new)
        return Index(self.by_number | {run.number: run for run in new}, states)


@dataclass(frozen=True)
class Snapshot:
    """Everything known at one moment."""

    runs: tuple[Run, ...] = ()
    # Seconds left by run; they move with the clock alone, so they do not count as a change.
    etas: Mapping[int, float] = field(default_factory=dict, compare=False)
    answers: Mapping[Request, list[Row]] = field(default_factory=dict)
    trouble: str = ""  # why there are no fresh answers; the old ones stay
    loaded: bool = False  # the run table has been fetched at least once
    starting: bool = False  # the trouble is only that a daemon is being started
    reading: Progress | None = None  # the logs are being read: what is here is a part
    notice: str = ""  # what the daemon did to the database of late
    # Of `runs`, where there is one already.
    made: Index | None = field(default=None, compare=False, repr=False)

    def rows(self, request: Request) -> list[Row]:
        """The answer, empty while it has not come."""
        return self.answers.get(request, [])

    def has(self, request: Request) -> bool:
        return request in self.answers

    @cached_property
    def _index(self) -> Index:
        return self.made or Index.of(self.runs)

    @cached_property
    def highest(self) -> int:
        """The highest number of a run, 0 without runs."""
        return max(self._index.by_number, default=0)

    @property
    def states(self) -> Mapping[str, int]:
        """How many runs are in each state."""
        return self._index.states

    @cached_property
    def busy(self) -> bool:
        """Whether something runs or is about to."""
        return any(self.states.get(state) for state in LIVE_STATES)

    def run(self, number: int | None) -> Run | None:
        return self._index.by_number.get(number) if number is not None else None


def differing(before: Sequence[Run], after: Sequence[Run]) -> Iterator[Run]:
    """The runs of `before` in whose place `after` has another object: of 100,000 runs in a few milliseconds."""
    return compress(before, map(is_not, before, chain(after, repeat(None))))


def ended_between(before: Snapshot, after: Snapshot) -> list[Run]:
    """The runs that had a worker before and have finished or failed since."""
    if before.runs is after.runs or not before.busy:
        return []
    now = (after.run(run.number) for run in differing(before.runs, after.runs) if run.live)
    return [run for run in now if run and run.state in (RunState.FINISHED, RunState.FAILED)]


def runs_of(table: Any) -> tuple[Run, ...]:
    """The rows of the named query `runs`; a column that it lacks has its default everywhere."""
    columns = []
    for name in COLUMNS:
        default = Run._field_defaults.get("number" if name == "run" else name)
        column = table.column(name) if name in table.column_names else None
        if column is None or column.null_count == table.num_rows:
            columns.append([default] * table.num_rows)
            continue
        columns.append((column if default is None else column.fill_null(default)).to_pylist())
    return tuple(map(Run, *columns))


def etas_of(table: Any) -> dict[int, float]:
    """Seconds left of every run where they are known."""
    if "eta_s" not in table.column_names or table.column("eta_s").null_count == table.num_rows:
        return {}
    known = table.select(["run", "eta_s"]).filter(table.column("eta_s").is_valid())
    return dict(zip(*(column.to_pylist() for column in known.columns), strict=True))
