"""Which runs the table shows, in which order, and which one is under the cursor."""

from __future__ import annotations

from collections.abc import Iterator

from store.states import RunState
from tui import run_filter
from tui.rows import Request, Run, Snapshot, ask


class RunList:
    """`select` is the run on which the cursor starts, where there is such a run."""

    def __init__(self, sort: str = "#", down: bool = True, select: int | None = None) -> None:
        self.sort, self.down = sort, down
        self.filter = ""
        self.cursor: int | None = None  # number of the run under the cursor
        self._select = select
        self._runs: list[Run] = []
        self._places: dict[int, int] = {}  # run number → index in _runs
        self._made_from: tuple[object, ...] | None = None

    def runs(self, snapshot: Snapshot) -> list[Run]:
        """The runs that pass the filter, in order; made again only when something of it has changed."""
        made_from = (snapshot, self.filter, self.sort, self.down)
        if self._made_from is None or any(
            a is not b for a, b in zip(made_from, self._made_from, strict=True)
        ):
            self._made_from, self._runs = made_from, self._arrange(snapshot)
            self._places = {run.number: at for at, run in enumerate(self._runs)}
        return self._runs

    def _arrange(self, snapshot: Snapshot) -> list[Run]:
        params = {
            key: {row["run"]: row["value"] for row in snapshot.rows(ask("parameter", key=key))}
            for key in run_filter.parameters(self.filter)
        }
        return run_filter.arrange(snapshot.runs, self.filter, self.sort, self.down, params)

    def wants(self) -> Iterator[Request]:
        """The answers that the filter needs: values of keys of the recipe."""
        for key in run_filter.parameters(self.filter):
            yield ask("parameter", key=key)

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
        """The run under the cursor."""
        runs = self.runs(snapshot)
        return runs[self.index(snapshot)] if runs else None

    def place(self, snapshot: Snapshot, index: int) -> None:
        """Put the cursor on a place in `runs`, the nearest one that there is."""
        if runs := self.runs(snapshot):
            self.cursor = runs[max(0, min(len(runs) - 1, index))].number

    # ---- the order ------------------------------------------------------------------------------

    def sort_by_next(self) -> None:
        """Sort by the next column, with what one looks for first on top."""
        names = list(run_filter.SORTS)
        self.sort = names[(names.index(self.sort) + 1) % len(names)]
        self.down = self.sort in ("#", "flags")

    def reverse(self) -> None:
        self.down = not self.down
