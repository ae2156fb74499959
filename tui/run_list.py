"""Which runs the table shows, in which order, and which one is under the cursor.

A sweep is one line until it is opened: that of its run that goes on, else of its best, with what all of them come to.
"""

from __future__ import annotations

from collections.abc import Iterator

from store.states import RunState
from tui import run_filter
from tui.lines import sweeps
from tui.lines.cycle import following
from tui.rows import Request, Run, Snapshot, ask


class RunList:
    """`select` is the run on which the cursor starts, where there is such a run."""

    def __init__(
        self, sort: str = "#", down: bool = True, select: int | None = None, columns: tuple[str, ...] = ()
    ) -> None:
        self.sort, self.down = sort, down
        self.columns = (
            columns  # keys of recipes and metrics that the user wants to see, beside the usual ones
        )
        self.filter = ""
        self.cursor: int | None = None  # number of the run under the cursor
        self.folded: dict[int, list[Run]] = {}  # number of the run whose line stands for a sweep → its runs
        self._opened: frozenset[str] = frozenset()  # sweeps
        self._select = select
        self._runs: list[Run] = []
        self._places: dict[int, int] = {}  # run number → index in _runs
        self._values: dict[str, dict[int, str]] = {}
        self._made_from: tuple[object, ...] | None = None

    def runs(self, snapshot: Snapshot) -> list[Run]:
        """The runs that pass the filter, in order; made again only when something of it has changed."""
        made_from = (snapshot, self.filter, self.sort, self.down, self._opened, self.columns)
        if self._made_from is None or any(
            a is not b for a, b in zip(made_from, self._made_from, strict=True)
        ):
            self._values = self._values_of(snapshot)
            self._made_from, self._runs = made_from, self._fold(self._arrange(snapshot))
            self._places = {run.number: at for at, run in enumerate(self._runs)}
            for number, members in self.folded.items():  # the line may be another one's of the sweep by now
                self._places |= {run.number: self._places[number] for run in members}
        return self._runs

    def _fold(self, runs: list[Run]) -> list[Run]:
        """Put one line in place of each sweep that is not open; a filter shows all that it finds."""
        self.folded = {}
        if self.filter:
            return runs
        members = sweeps.groups(runs, lambda run: run.sweep)
        names = {
            sweep: sweeps.name_of([run.name for run in members[sweep]])
            for sweep in self._opened & members.keys()
        }
        lines = []
        for run in runs:
            of_sweep = members.get(run.sweep)
            if of_sweep is None:
                lines.append(run)
            elif run.sweep in self._opened:  # what differs is its name
                lines.append(run._replace(name=run.name.removeprefix(f"{names[run.sweep]} ")))
            elif run is of_sweep[0]:
                line = _line_of(of_sweep)
                self.folded[line.number] = of_sweep
                lines.append(line)
        return lines

    def turn(self, snapshot: Snapshot) -> bool:
        """Open the sweep under the cursor, or close it; False where there is none."""
        run = self.target(snapshot)
        if run is None or not run.sweep:
            return False
        self._opened ^= {run.sweep}
        return True

    def _arrange(self, snapshot: Snapshot) -> list[Run]:
        params = self._params(snapshot)
        return run_filter.arrange(snapshot.runs, self.filter, self.sort, self.down, params, self._values)

    def values(self, snapshot: Snapshot) -> dict[str, dict[int, str]]:
        """What runs have in the columns that the user chose, as far as it has come."""
        self.runs(snapshot)
        return self._values

    def _values_of(self, snapshot: Snapshot) -> dict[str, dict[int, str]]:
        return {
            key: {row["run"]: str(row["value"]) for row in snapshot.rows(ask("column", key=key))}
            for key in self.columns
        }

    def unknown(self, snapshot: Snapshot) -> str:
        """What of the filter or the columns there is nowhere, in a sentence; empty where all of it is known."""
        missing = (key for key, values in self.values(snapshot).items() if not values)
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
        for key in self.columns:
            yield ask("column", key=key)

    # ---- the cursor -----------------------------------------------------------------------------

    def start(self, snapshot: Snapshot) -> None:
        """Put the cursor, where it is nowhere yet, on the run asked for, else on one that runs, else on top."""
        if self.cursor is not None or not snapshot.runs:
            return
        runs = self.runs(snapshot)
        asked = snapshot.run(self._select)
        running = next((run for run in runs if run.state == RunState.RUNNING), None)
        first = asked or running or next(iter(runs), None)
        self.cursor = first.number if first else None

    def index(self, snapshot: Snapshot) -> int:
        """Where the cursor is in `runs`; on top when its run is not among them."""
        self.runs(snapshot)
        return self._places.get(self.cursor, 0) if self.cursor is not None else 0

    def target(self, snapshot: Snapshot) -> Run | None:
        """The run under the cursor, or that whose line stands for its sweep."""
        runs = self.runs(snapshot)
        return snapshot.run(runs[self.index(snapshot)].number) if runs else None

    def place(self, snapshot: Snapshot, index: int) -> None:
        """Put the cursor on a place in `runs`, the nearest one that there is."""
        if runs := self.runs(snapshot):
            self.cursor = runs[max(0, min(len(runs) - 1, index))].number

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
    going = next((run for run in runs if run.state == RunState.RUNNING), None)
    scored = [run for run in runs if run.heldout_best is not None]
    best = min(scored, key=lambda run: run.heldout_best or 0.0, default=None)
    shown = going or best or runs[0]
    states = [run.state for run in runs]
    flagged = [run for run in runs if run.flags]
    return shown._replace(
        name=f"▸ {sweeps.name_of([run.name for run in runs])} · {len(runs)} runs",
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
