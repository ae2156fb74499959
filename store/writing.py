"""Commits what ingest has read, and moves the metrics of ended runs to where they are read fastest."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import duckdb
import pyarrow as pa

from store import settling
from store.batch import Batch
from store.known import Known
from store.projection import Projection

# Rows of ended runs that may wait in metrics_live before they are moved.
SETTLE_ROWS = 1_000_000
# Rows after which it is seen which run that goes on has half of them: every curve reads what waits there.
LIVE_ROWS = 100_000
# What the database says of rows that it cannot take.
OF_DATA = (
    pa.ArrowException,
    duckdb.DataError,
    duckdb.InvalidInputException,
    OverflowError,
    TypeError,
    ValueError,
)


class Halted(Exception):  # noqa: N818
    """The daemon stops."""


class Outdated(Exception):  # noqa: N818
    """Another file is in the place of the one that was read from: what is in memory is the end of something."""


class Writer:
    """Holds the batch in memory. `careful`: one line a batch, so that the one is found that the database refuses."""

    def __init__(self, projection: Projection, batch_rows: int) -> None:
        self.batch = Batch()
        self.careful = False
        self.halted = False
        self.written = 0
        self.generation = 0  # of the file that the batch goes on from
        self._projection = projection
        self._batch_rows = batch_rows
        self._unsettled: dict[int, None] = {}
        self._unsettled_rows = 0
        self._live_rows = 0  # written since a look at how many there are of each run that goes on

    def forget(self) -> None:
        """Drop what is in memory."""
        self.batch = Batch()
        self._unsettled, self._unsettled_rows = {}, 0

    def found_unsettled(self, runs: list[int]) -> None:
        """These have ended, and their metrics have not been moved: soon."""
        self._unsettled = dict.fromkeys(runs)
        self._unsettled_rows = SETTLE_ROWS + 1 if runs else 0

    def forget_run(self, run: int) -> None:
        self._unsettled.pop(run, None)

    def has_ended(self, run: int) -> None:
        """All that there is of it has been read."""
        if run in self.batch.new:
            self.batch.whole.add(run)
        else:
            self._unsettled[run] = None

    @property
    def is_full(self) -> bool:
        return self.batch.n_rows >= self._batch_rows or self.careful

    @property
    def is_half_full(self) -> bool:
        """Between two runs it is committed then: runs that are whole in a batch are written once, where they stay."""
        return self.batch.n_rows >= self._batch_rows // 2

    @property
    def has_to_settle(self) -> bool:
        return self._unsettled_rows > SETTLE_ROWS

    def flush(self, known: Known, set_aside: Callable[[], None] | None = None) -> None:
        """Commit the batch. In careful mode a line that is refused is set aside."""
        if self.halted:
            raise Halted
        batch, self.batch = self.batch, Batch()
        if not batch:
            return
        try:
            self._apply(batch)
        except OF_DATA:
            if not (self.careful and set_aside):
                raise
            set_aside()
            self.batch.offsets, self.batch.anew = batch.offsets, batch.anew
            aside, self.batch = self.batch, Batch()
            self._apply(aside)
            self.careful = False
            batch = aside
        known.damaged = {**batch.damaged, **known.damaged}
        self.written += batch.n_rows
        if batch.is_settled:
            self._unload(batch.whole, known)
        else:
            self._unsettled.update(dict.fromkeys(batch.whole))
        if self._unsettled:
            self._unsettled_rows += batch.n_rows
        self._live_rows += batch.n_rows
        if self._live_rows >= LIVE_ROWS:
            self._live_rows = 0
            self._move_live()

    def _apply(self, batch: Batch) -> None:
        with self._projection.write() as cursor:
            if self._projection.generation != self.generation:
                raise Outdated
            batch.apply(cursor)

    def settle(self, known: Known) -> None:
        """Move the metrics of ended runs to the clustered table."""
        runs = [run for run in self._unsettled if known.is_final(run)]
        self._unsettled, self._unsettled_rows = {}, 0
        if not runs:
            return
        with self._projection.write() as cursor:
            settling.settle(cursor, runs)
        self._unload(runs, known)

    def _move_live(self) -> None:
        """A run that goes on for long is settled in parts, for what is in metrics_live is read whole at every look."""
        many = f"SELECT run FROM metrics_live GROUP BY run HAVING count(*) >= {LIVE_ROWS // 2}"
        with self._projection.write() as cursor:
            if runs := [run for (run,) in cursor.execute(many).fetchall()]:
                settling.move(cursor, runs)

    def _unload(self, runs: Iterable[int], known: Known) -> None:
        """Few of them are ever needed again."""
        for run in runs:
            known.states[run].summaries = None
