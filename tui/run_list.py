"""Which runs the table shows, in which order and which groups, and which one is under the cursor.

A sweep is one line until it is opened: that of its run that goes on, else of its best, with what all of them come to.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from itertools import count

from store.states import RunState
from tui import run_filter, run_groups
from tui.lines import sweeps
from tui.lines.cycle import following
from tui.rows import Request, Run, Snapshot, ask, differing
from tui.run_groups import FIELDS, Head

MOST_MOVED = 1000  # runs; of more, all are put in order again


class RunList:
    """`select` is the run on which the cursor starts, where there is such a run."""

    def __init__(
        self,
        sort: str = "#",
        down: bool = True,
        select: int | None = None,
        columns: tuple[str, ...] = (),
        by: str = "",
    ) -> None:
        self.sort, self.down = sort, down
        self.columns = (
            columns  # keys of recipes and metrics that the user wants to see, beside the usual ones
        )
        self.by = by  # what the runs are grouped by, see tui/run_groups.py; nothing where it is empty
        self.filter = ""
        self.is_fuzzy = False  # no run has its words: runs with their letters are shown
        self.cursor: int | None = None  # number of the run that the line under it stands for
        self._group = ""  # in which it is
        self._on_head = False
        self._opened: frozenset[str] = frozenset()  # sweeps
        self._closed: frozenset[str] = frozenset()  # groups
        self._select = select
        self._lines: list[Run | Head] = []
        self._folded: dict[int, list[Run]] = {}  # index of a line that stands for a sweep → its runs
        self._heads: list[tuple[int, str]] = []  # where each group begins in _lines, and its key
        self._places: dict[int, int] = {}  # run number → index in _lines
        self._again: dict[tuple[str, int], int] = {}  # group and run → a later index
        self._values: dict[str, dict[int, str]] = {}
        self._snapshot: Snapshot | None = None
        self._made_from: tuple[object, ...] = ()  # beside the runs

    def lines(self, snapshot: Snapshot) -> list[Run | Head]:
        """The runs that pass the filter, in order, below the heads of their groups; made again only when something of
        it has changed.
        """
        settings = (self.filter, self.sort, self.down, self._opened, self.columns, self.by, self._closed)
        before, settled = self._snapshot, settings == self._made_from[: len(settings)]
        if settled and before is snapshot:
            return self._lines
        made_from = (*settings, *(id(snapshot.answers.get(request)) for request in self.wants()))
        self._snapshot = snapshot
        if before is None or made_from != self._made_from or not self._moved_on(before, snapshot):
            self._made_from = made_from
            self._make(snapshot)
        return self._lines

    def _make(self, snapshot: Snapshot) -> None:
        self._values = self._values_of(snapshot)
        self._lines, self._folded, self._heads, self._places, self._again = [], {}, [], {}, {}
        runs = self._arrange(snapshot)
        if self._is_grouped(snapshot):
            values = self._values.get(self.by, {})
            for head in run_groups.heads(runs, self.by, values, self._closed):
                self._add_group(head)
        else:
            self._add(runs, "")

    def _moved_on(self, before: Snapshot, after: Snapshot) -> bool:
        """Put runs that have moved on in their own places, where that is all that has changed: with 100,000 runs, all
        of which would else be put in order twice a second. False where it is not all, and nothing is done then.
        """
        if before.runs is after.runs:
            return True
        old, new = list(differing(before.runs, after.runs)), list(differing(after.runs, before.runs))
        if len(before.runs) != len(after.runs) or len(new) > MOST_MOVED or self.is_fuzzy or self.by:
            return False
        test = run_filter.test_of(self.filter, self._params(after), after.runs, fuzzy=False)
        for one, other in zip(old, new, strict=True):
            same = (one.number, one.sweep) == (other.number, other.sweep) and other.sweep not in self._opened
            if not same or not run_filter.same_place(one, other, self.sort, test):
                return False
        for run in new:
            at = self._places.get(run.number)
            if at is not None and (members := self._folded.get(at)):
                members[:] = [run if one.number == run.number else one for one in members]
                self._lines[at] = _line_of(members)
            elif at is not None:
                self._lines[at] = run
        return True

    def _is_grouped(self, snapshot: Snapshot) -> bool:
        """Not yet while the values of a column have not come."""
        return self.by in FIELDS or (bool(self.by) and snapshot.has(ask("column", key=self.by)))

    def runs(self, snapshot: Snapshot) -> list[Run]:
        """The lines that are no head."""
        lines = self.lines(snapshot)
        return [line for line in lines if isinstance(line, Run)]

    def _add_group(self, head: Head) -> None:
        at = len(self._lines)
        self._heads.append((at, head.key))
        self._lines.append(head)
        if head.is_open:
            self._add(head.runs, head.key)
        else:
            self._put(((run.number, at) for run in head.runs), head.key)

    def _add(self, runs: Sequence[Run], group: str) -> None:
        """Put one line in place of each sweep that is not open; a filter shows all that it finds."""
        start = len(self._lines)
        lines = runs if self.filter else self._fold(runs)
        self._lines += lines
        self._put(zip((run.number for run in lines), count(start)), group)
        for at, members in self._folded.items():  # the line may be another one's of the sweep by now
            if at >= start:
                self._put(((run.number, at) for run in members), group)

    def _put(self, places: Iterable[tuple[int, int]], group: str) -> None:
        if not self._places:
            self._places = dict(places)
            return
        for number, at in places:
            if self._places.setdefault(number, at) != at:
                self._again[group, number] = at

    def _fold(self, runs: Sequence[Run]) -> list[Run]:
        members = sweeps.groups(runs, lambda run: run.sweep)
        if not members:
            return list(runs)
        opened = members.keys() if self.by == "sweep" else self._opened & members.keys()
        names = {sweep: sweeps.name_of([run.name for run in members[sweep]]) for sweep in opened}
        lines: list[Run] = []
        for run in runs:
            of_sweep = members.get(run.sweep)
            if of_sweep is None:
                lines.append(run)
            elif run.sweep in opened:  # what differs is its name
                lines.append(run._replace(name=run.name.removeprefix(f"{names[run.sweep]} ")))
            elif run is of_sweep[0]:
                self._folded[len(self._lines) + len(lines)] = of_sweep
                lines.append(_line_of(of_sweep))
        return lines

    def turn(self, snapshot: Snapshot) -> bool:
        """Open or close the sweep under the cursor, or the group; False where there is none."""
        run, head = self.target(snapshot), self.head(snapshot)
        if head is None and run is not None and run.sweep and self.by != "sweep":
            self._opened ^= {run.sweep}
            return True
        key = self._group_at(self.index(snapshot))
        if key is None:
            return False
        self._closed ^= {key}
        self._group, self._on_head = key, True
        return True

    def group_by(self, by: str) -> None:
        """Group the runs by something else; all groups are open then."""
        self.by, self._closed, self._group, self._on_head = by, frozenset(), "", False

    def _group_at(self, index: int) -> str | None:
        """The key of the group that a line belongs to; None without groups."""
        at = bisect_right(self._heads, index, key=lambda head: head[0]) - 1
        return self._heads[at][1] if at >= 0 else None

    def head(self, snapshot: Snapshot) -> Head | None:
        """The head under the cursor, if it is on one."""
        index = self.index(snapshot)
        line = self._lines[index] if self._lines else None
        return line if isinstance(line, Head) else None

    def members(self, snapshot: Snapshot) -> tuple[Run, ...]:
        """The runs that the line under the cursor stands for, where they are several or a group: all of them."""
        index = self.index(snapshot)
        head = self.head(snapshot)
        return tuple(head.runs if head else self._folded.get(index, ()))

    def all_runs(self, snapshot: Snapshot) -> list[int]:
        """The numbers of all runs that are shown, also of those that one line stands for."""
        numbers: dict[int, None] = {}
        for at, line in enumerate(self.lines(snapshot)):
            if isinstance(line, Run):
                numbers |= dict.fromkeys(run.number for run in self._folded.get(at, (line,)))
            elif not line.is_open:
                numbers |= dict.fromkeys(run.number for run in line.runs)
        return list(numbers)

    def _arrange(self, snapshot: Snapshot) -> list[Run]:
        """Where no run has the words of the filter, those that have their letters, in their order."""
        given = (snapshot.runs, self.filter, self.sort, self.down, self._params(snapshot), self._values)
        found = run_filter.arrange(*given)
        self.is_fuzzy = not found and any(map(run_filter.is_word, self.filter.lower().split()))
        return run_filter.arrange(*given, fuzzy=True) if self.is_fuzzy else found

    def values(self, snapshot: Snapshot) -> dict[str, dict[int, str]]:
        """What runs have in the columns that the user chose, as far as it has come."""
        self.lines(snapshot)
        return {key: self._values[key] for key in self.columns}

    def _values_of(self, snapshot: Snapshot) -> dict[str, dict[int, str]]:
        return {
            key: {row["run"]: str(row["value"]) for row in snapshot.rows(ask("column", key=key))}
            for key in self._asked
        }

    @property
    def _asked(self) -> tuple[str, ...]:
        """The columns whose values are asked for: those that are shown, and the one that runs are grouped by."""
        return self.columns if self.by in (*FIELDS, *self.columns, "") else (*self.columns, self.by)

    def unknown(self, snapshot: Snapshot) -> str:
        """What of the filter or the columns there is nowhere, in a sentence; empty where all of it is known."""
        self.lines(snapshot)
        missing = (key for key, values in self._values.items() if not values)
        absent = next((key for key in missing if snapshot.has(ask("column", key=key))), None)
        return run_filter.unknown(self.filter, self._params(snapshot)) or (
            f"no run has {absent}" if absent else ""
        )

    def _params(self, snapshot: Snapshot) -> dict[str, dict[int, str]]:
        """The values of the recipe's keys that the filter asks for, as far as they have come."""
        return {
            key: {row["run"]: row["value"] for row in snapshot.rows(request)}
            for key in run_filter.parameters(self.filter)
            if snapshot.has(request := ask("parameter", key=key))
        }

    def wants(self) -> Iterator[Request]:
        """The answers that the filter and the user's columns need."""
        for key in run_filter.parameters(self.filter):
            yield ask("parameter", key=key)
        for key in self._asked:
            yield ask("column", key=key)

    # ---- the cursor -----------------------------------------------------------------------------

    def start(self, snapshot: Snapshot) -> None:
        """Put the cursor, where it is nowhere yet, on the run asked for, else on one that runs, else on top. While the
        logs are read it stays on top: that is another run every moment.
        """
        if self.cursor is not None or not snapshot.runs or snapshot.reading:
            return
        runs = self.runs(snapshot)
        asked = snapshot.run(self._select)
        if self._select is not None and asked is None:
            return  # it may have been queued a moment ago
        running = next((run for run in runs if run.state == RunState.RUNNING), None)
        first = asked or running or next(iter(runs), None)
        self.cursor = first.number if first else None

    def index(self, snapshot: Snapshot) -> int:
        """Where the cursor is in `lines`; on top when its run is not among them."""
        self.lines(snapshot)
        if self._on_head:
            at = next((at for at, key in self._heads if key == self._group), None)
            if at is not None:
                return at
        if self.cursor is None:
            return 0
        return self._again.get((self._group, self.cursor), self._places.get(self.cursor, 0))

    def target(self, snapshot: Snapshot) -> Run | None:
        """The run under the cursor, or that whose line stands for its sweep or its group."""
        lines = self.lines(snapshot)
        if not lines:
            return None
        line = lines[self.index(snapshot)]
        return snapshot.run((line.shown if isinstance(line, Head) else line).number)

    def go_to(self, number: int) -> None:
        """Put the cursor on a run, wherever it is."""
        self.cursor, self._on_head = number, False

    def place(self, snapshot: Snapshot, index: int) -> None:
        """Put the cursor on a place in `lines`, the nearest one that there is."""
        if lines := self.lines(snapshot):
            at = max(0, min(len(lines) - 1, index))
            line = lines[at]
            self._on_head, self._group = isinstance(line, Head), self._group_at(at) or ""
            self.cursor = (line.shown if isinstance(line, Head) else line).number

    # ---- the order ------------------------------------------------------------------------------

    def sort_by_next(self) -> None:
        """Sort by the next column, with what one looks for first on top."""
        names = [*run_filter.SORTS, *self.columns]
        self.sort = following(names, self.sort)
        self.down = self.sort in ("#", "flags")

    def choose_columns(self, keys: tuple[str, ...]) -> None:
        self.columns = keys
        if self.sort not in (*run_filter.SORTS, *keys):
            self.sort, self.down = "#", True

    def reverse(self) -> None:
        self.down = not self.down


def _line_of(runs: list[Run]) -> Run:
    """The line that stands for a sweep: under the number of its run that goes on, else of its best. Steps are runs."""
    best, shown = run_groups.best_of(runs), run_groups.shown_of(runs)
    states = [run.state for run in runs]
    flagged = [run for run in runs if run.flags]
    return shown._replace(
        name=f"▸ {sweeps.name_of([run.name for run in runs])} · {sweeps.in_words(len(runs))}",
        state=sweeps.state_of(states),
        phase="",
        step=sweeps.ended(states),
        total_steps=len(runs),
        heldout=best.heldout_best if best else None,
        general=best.general if best else None,
        loss=best.loss if best else None,
        flags=len(flagged),
        flag_level="critical" if any(run.flag_level == "critical" for run in flagged) else "warn",
    )
