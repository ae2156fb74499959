"""Rows of a query, fetched as far as there is room for them."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Protocol

import duckdb
import pyarrow as pa

from finetui.errors import StoreError
from store.database_errors import interrupted
from store.limits import LargeAnswers, Limits

BATCH_ROWS = 2048  # what DuckDB works on at a time; long texts take much memory together
COUNT_S = 1.0  # for counting the rows that are left out
LOOK_S = 0.05


class Batches(Protocol):
    """Rows as they come, in batches."""

    @property
    def schema(self) -> pa.Schema: ...
    def __iter__(self) -> Iterator[pa.RecordBatch]: ...
    def close(self) -> None: ...


class Answering(Protocol):
    """What answers a statement: a cursor here, or a process (store/query_process.py)."""

    def reader(self) -> Batches: ...


@dataclass(frozen=True)
class Statement:
    """One statement, answered by a cursor."""

    cursor: duckdb.DuckDBPyConnection
    sql: str
    parameters: dict[str, Any] | None = None

    def reader(self) -> pa.RecordBatchReader:
        """The rows as they are asked for: DuckDB 2 makes all of them first, beyond any limit of memory, where they are
        those of `execute` (findings/duckdb_arrow_collected.sh).
        """
        if duckdb.__version__.startswith("1."):
            return self.cursor.execute(self.sql, self.parameters).to_arrow_reader(BATCH_ROWS)
        try:
            relation = self.cursor.sql(self.sql, params=self.parameters)
        except (duckdb.BinderException, duckdb.CatalogException):
            self.cursor.execute(self.sql, self.parameters)  # fails in the same way, and says in which line
            raise
        return relation.to_arrow_reader(BATCH_ROWS)


@dataclass(frozen=True)
class Result:
    """The rows, and a note where something was left out; `is_cut`: whether rows were. `sent`, of a large answer: to be
    called when it is.
    """

    table: pa.Table
    note: str | None = None
    sent: Callable[[], None] | None = None
    is_cut: bool = False


@dataclass(frozen=True)
class Room:
    """For one answer: its own limit, the places of large ones, and whether nobody wants it any more."""

    limits: Limits
    large: LargeAnswers
    is_stopped: Callable[[], bool] = lambda: False

    def take_place(self) -> Callable[[], None]:
        """Wait for a place. Raises StoreError."""
        until = time.monotonic() + self.limits.seconds
        while not self.is_stopped() and time.monotonic() < until:
            if give_back := self.large.take(LOOK_S):
                return give_back
        if self.is_stopped():
            raise interrupted()
        raise StoreError("other large answers are being sent; ask again, or for less", "refused")


def fetch(answering: Answering, limit: int | None, room: Room) -> Result:
    """Return the rows of a statement: as many as are wanted, and have room. Raises duckdb.Error,
    whose class is lost on the way through Arrow, and StoreError.
    """
    sent: list[Callable[[], None]] = []
    try:
        with closing(answering.reader()) as reader:  # until it is closed, DuckDB 2 ends no transaction
            result = _fetch(reader, limit, room, sent)
    except BaseException as error:
        for give_back in sent:
            give_back()
        if isinstance(error, pa.ArrowException | OSError):
            raise of_database(str(error)) from None
        raise
    for give_back in sent:
        timer = threading.Timer(room.large.SEND_S, give_back)
        timer.daemon = True
        timer.start()
    return Result(result.table, result.note, sent[0] if sent else None)


def _fetch(reader: Batches, limit: int | None, room: Room, sent: list[Callable[[], None]]) -> Result:
    batches, rows, left = list[pa.RecordBatch](), 0, room.limits.answer_bytes
    coming = iter(reader)
    for batch in coming:
        kept = batch if limit is None else batch.slice(0, limit - rows)
        kept = _within(kept, left)
        batches.append(kept)
        rows, left = rows + kept.num_rows, left - kept.nbytes
        if not sent and room.limits.answer_bytes - left > room.large.LARGE:
            sent.append(room.take_place())
        if kept.num_rows < batch.num_rows:
            left_out = batch.num_rows - kept.num_rows
            break
    else:
        return Result(pa.Table.from_batches(batches, schema=reader.schema))
    more, counted = _count(coming)
    total = f"{rows + left_out + more:,}"
    note = f"only the first {rows:,} of {total if counted else f'more than {total}'} rows are shown"
    if limit is None or rows < limit:
        if not rows:
            raise StoreError(
                f"a row of the answer has more than {room.limits.answer_mb} MiB; ask for a part of it",
                "refused",
            )
        note += (
            f", since the answer has more than {room.limits.answer_mb} MiB; ask for it in parts, by run or with"
            " LIMIT and OFFSET"
        )
    return Result(pa.Table.from_batches(batches, schema=reader.schema), note)


def of_database(text: str) -> duckdb.Error:
    """DuckDB's error again, from its text."""
    if text.startswith("INTERRUPT Error"):
        return duckdb.InterruptException(text)
    if text.startswith("Out of Memory Error"):
        return duckdb.OutOfMemoryException(text)
    return duckdb.DatabaseError(text)  # no duckdb.Error, which DuckDB 2 raises of a damaged file


def _within(batch: pa.RecordBatch, room: int) -> pa.RecordBatch:
    """As many of its rows, from the first one on, as have at most `room` bytes."""
    if batch.nbytes <= room:
        return batch
    low, high = 0, batch.num_rows
    while low < high:
        middle = (low + high + 1) // 2
        low, high = (middle, high) if batch.slice(0, middle).nbytes <= room else (low, middle - 1)
    return batch.slice(0, low)


def _count(coming: Iterator[pa.RecordBatch]) -> tuple[int, bool]:
    """How many rows come yet, and whether these are all: counting ends after a moment."""
    rows, deadline = 0, time.monotonic() + COUNT_S
    for batch in coming:
        rows += batch.num_rows
        if time.monotonic() > deadline:
            return rows, False
    return rows, True
