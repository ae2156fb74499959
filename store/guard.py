"""A user's SQL: one statement that only reads, limited in length, time and size of its answer, cancellable.

What the database may not interrupt (a function over two very long texts) is answered by a process of its own, which is
killed (store/query_process.py). What slips through goes on in a thread: nobody waits for it, and a daemon that has
waited long enough starts afresh (engine/queue/daemon.py).
"""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from typing import Protocol

import duckdb

from finetui.errors import StoreError
from store.answers import Result, Room, Statement, fetch
from store.database_errors import is_fatal
from store.described import spelled_out
from store.explain import explain
from store.functions import QUICK_LENGTH, read_calls
from store.limits import LargeAnswers, Limits, give_back_memory, resident_bytes
from store.projection import Projection
from store.query_process import QueryProcess

LONGEST_S = 600.0  # that a client may ask for
INSIST_S = 0.05  # between interrupts of a query that is to stop
PATIENCE_S = 2.0  # until one that is to stop is given up
LEAST_S = 0.2  # that a query has gone on before memory is laid to its charge
PROCESSES = 2  # of queries, at a time
LONGEST_STATEMENT = 100_000  # characters

_EXPLAIN = re.compile(r"(?is)^(?:\s|--[^\n]*\n|/\*.*?\*/)*explain(?:\s+analyze)?(?:\s*\([^)]*\))?\s")


# Why a query was stopped, other than by time.
_WORDS = {
    "cancelled": "was cancelled",
    "memory": "was stopped, for it took more memory than is left for queries; ask for less",
}
_KINDS = {"memory": "refused"}


class Stoppable(Protocol):
    """What works on a query: a cursor, or a process of its own."""

    def interrupt(self) -> None: ...


@dataclass
class _Work:
    """Of one query, first by a cursor and then, perhaps, by a process."""

    by: Stoppable

    def interrupt(self) -> None:
        self.by.interrupt()


class Running:
    """The queries running now, by id, so that one can be cancelled. Thread-safe."""

    def __init__(self, limits: Limits | None = None) -> None:
        self.limits = limits or Limits()
        self.large = LargeAnswers()
        self.processes = threading.Semaphore(PROCESSES)
        self._most = resident_bytes() + self.limits.resident_bytes
        self._of_users: dict[str, None] = {}  # the oldest first
        self._lock = threading.Lock()
        self._work: dict[str, Stoppable] = {}
        self._stopped: dict[str, tuple[str, float]] = {}  # why, and when (monotonic)
        self._calls = 0
        self._given_up: dict[object, float] = {}  # queries that nobody waits for any more, since when

    def use(self, limits: Limits) -> None:
        """Let these hold for queries from now on; those that DuckDB keeps hold once it is opened again."""
        self._most += limits.resident_bytes - self.limits.resident_bytes
        self.limits = limits

    def call(
        self, query_id: str, timeout_s: float, work: Callable[[], Result], *, limited: bool = True
    ) -> Result:
        """Return the result of `work`, which watches a query of this id, in a thread of its own. Raises what it raises,
        and StoreError soon after a query that does not stop was to stop. `limited`: only so many of these at once.
        """
        with self._lock:
            if limited and self._calls >= self.limits.at_once:
                raise StoreError(
                    f"{self.limits.at_once} queries are running already; ask again when one has ended",
                    "refused",
                )
            self._calls += limited
            if limited:
                self._of_users[query_id] = None
        done, outcome, key = threading.Event(), list[Result | BaseException](), object()

        def body() -> None:
            try:
                outcome.append(work())
            except BaseException as error:
                outcome.append(error)
            finally:
                with self._lock:
                    self._calls -= limited
                    self._of_users.pop(query_id, None)
                    self._given_up.pop(key, None)
                done.set()
                if limited and resident_bytes() > self._most - self.limits.resident_bytes // 2:
                    give_back_memory()

        threading.Thread(target=body, name="query", daemon=True).start()
        began = time.monotonic()
        deadline = began + timeout_s
        while not done.wait(INSIST_S):
            if limited and time.monotonic() > began + LEAST_S and self._takes_too_much(query_id):
                self.stop(query_id, "memory")
            why, since = self._stopped.get(query_id) or ("timeout", deadline)
            if time.monotonic() > since + PATIENCE_S:
                with self._lock:
                    if not outcome:
                        self._given_up[key] = time.monotonic()
                took = f"took longer than {timeout_s:g} s" if why == "timeout" else _WORDS[why]
                raise StoreError(
                    f"the query {took}, and the database cannot interrupt it; ask for less",
                    _KINDS.get(why, why),
                )
        if isinstance(outcome[0], BaseException):
            raise outcome[0]
        return outcome[0]

    @property
    def stuck_s(self) -> float:
        """For how many seconds a query that was given up has gone on; 0 without one."""
        with self._lock:
            return max((time.monotonic() - since for since in self._given_up.values()), default=0.0)

    @contextmanager
    def watch(self, query_id: str, work: Stoppable, timeout_s: float) -> Iterator[None]:
        """Interrupt the work when time is up or `stop` is called. Raises StoreError then."""
        timer = threading.Timer(timeout_s, self.stop, (query_id, "timeout"))
        timer.daemon = True
        with self._lock:
            self._work[query_id] = work
        timer.start()
        try:
            yield
        except duckdb.InterruptException:
            why, _ = self._stopped.get(query_id, (None, 0.0))
            if why == "timeout":
                raise StoreError(
                    f"the query took longer than {timeout_s:g} s and was stopped; ask for less", "timeout"
                ) from None
            if why is not None:
                raise StoreError(f"the query {_WORDS[why]}", _KINDS.get(why, why)) from None
            raise _reopened() from None
        finally:
            timer.cancel()
            with self._lock:
                self._work.pop(query_id, None)
                self._stopped.pop(query_id, None)

    def stop(self, query_id: str, why: str = "cancelled") -> bool:
        """Interrupt a running query; False if there is none of that id."""
        with self._lock:
            work = self._work.get(query_id)
            if work is None:
                return False
            if query_id in self._stopped:
                return True
            self._stopped[query_id] = (why, time.monotonic())
        threading.Thread(target=self._insist, args=(query_id, work), daemon=True).start()
        return True

    def _insist(self, query_id: str, work: Stoppable) -> None:
        """Interrupt until the query has gone: DuckDB forgets an interrupt that comes just before a statement."""
        while True:
            with self._lock:
                if self._work.get(query_id) is not work:
                    return
                work.interrupt()
            time.sleep(INSIST_S)

    def takes_no_memory(self, query_id: str) -> None:
        """Say that a process of its own answers this query: memory of this one is not laid to its charge."""
        with self._lock:
            self._of_users.pop(query_id, None)

    def is_stopped(self, query_id: str) -> bool:
        """Whether nobody waits for its answer any more."""
        return query_id in self._stopped

    def _takes_too_much(self, query_id: str) -> bool:
        """Whether there is too little memory left, and this is the query that has taken it for longest."""
        with self._lock:
            oldest = next((one for one in self._of_users if one not in self._stopped), None)
        return oldest == query_id and resident_bytes() > self._most

    def stop_users(self) -> bool:
        """Interrupt users' queries, which have taken the memory; False if there are none."""
        with self._lock:
            ids = list(self._of_users)
        stopped = [self.stop(query_id, "memory") for query_id in ids]
        return any(stopped)

    def stop_all(self) -> None:
        """Interrupt every running query."""
        for query_id in list(self._work):
            self.stop(query_id)


def run(
    projection: Projection,
    sql: str,
    *,
    limit: int | None = None,
    timeout_s: float | None = None,
    running: Running | None = None,
    query_id: str = "",
) -> Result:
    """Run a user's statement on a cursor of its own, in a read-only transaction. `limit`: rows; all if not given.
    Raises StoreError.
    """
    running = running or Running()
    timeout_s = running.limits.seconds if timeout_s is None else timeout_s
    room = Room(running.limits, running.large, lambda: running.is_stopped(query_id))
    if len(sql) > LONGEST_STATEMENT:
        raise StoreError(
            f"the statement has {len(sql):,} characters; {LONGEST_STATEMENT:,} are allowed", "refused"
        )

    sql = spelled_out(sql)

    rows = None if limit is None else max(0, limit)

    def work() -> Result:
        process = QueryProcess(projection, sql, running.limits)
        doing = _Work(process)
        with running.watch(query_id, doing, timeout_s):
            if len(sql) <= QUICK_LENGTH:
                with projection.read() as cursor:
                    doing.by = cursor
                    if not check(cursor, sql):
                        return _read(cursor, sql, rows, room)
                    doing.by = process
            running.takes_no_memory(query_id)
            with process.started(running.processes):
                return fetch(process, rows, room)

    try:
        return running.call(query_id, timeout_s, work)
    except duckdb.Error as error:
        raise told(error) from None
    except RecursionError:
        raise nested_too_deeply() from None


def _read(cursor: duckdb.DuckDBPyConnection, sql: str, rows: int | None, room: Room) -> Result:
    cursor.execute("BEGIN TRANSACTION READ ONLY")
    try:
        return fetch(Statement(cursor, sql), rows, room)
    finally:
        with suppress(duckdb.Error):
            cursor.rollback()


# ---- what is allowed -------------------------------------------------------------------------------------


def check(cursor: duckdb.DuckDBPyConnection, sql: str) -> bool:
    """Return whether the database may work on it for long without looking at an interrupt. Raises StoreError `refused`
    unless `sql` is exactly one statement that only reads.
    """
    statements = cursor.extract_statements(sql)
    if not statements:
        raise StoreError("there is no statement; write one, such as SELECT * FROM leaderboard", "sql")
    if len(statements) > 1:
        raise StoreError(f"one statement at a time: this is {len(statements)}", "refused")
    kind = _kind(statements[0])
    if kind == duckdb.StatementType.EXPLAIN:
        inner = _EXPLAIN.sub("", sql, count=1)
        if inner == sql:
            raise StoreError("write EXPLAIN or EXPLAIN ANALYZE, then a SELECT", "refused")
        return check(cursor, inner)
    if kind != duckdb.StatementType.SELECT:
        raise StoreError(
            f"{kind.name if kind else 'this'} is not allowed here: the store is only read; use SELECT, WITH, FROM,"
            " DESCRIBE, SHOW, SUMMARIZE or EXPLAIN",
            "refused",
        )
    calls = read_calls(cursor, sql)
    if refused := calls.refused:
        raise StoreError(f"{refused} is not allowed here", "refused")
    return calls.may_hold


def _kind(statement: duckdb.Statement) -> duckdb.StatementType | None:
    """None of one that DuckDB has and its Python has no name for, as CONNECT (findings/duckdb_kind_without_name.sh)."""
    try:
        return statement.type
    except ValueError:
        return None


# ---- errors for people -----------------------------------------------------------------------------------


def told(error: duckdb.Error) -> StoreError:
    """A database error for people."""
    if isinstance(error, duckdb.OutOfMemoryException):
        return StoreError(
            "the query needs more memory than there is for all queries together (`sql_memory_mb` in config.toml);"
            " ask for less",
            "refused",
        )
    return _reopened() if is_fatal(error) else StoreError(explain(error), "sql")


def nested_too_deeply() -> StoreError:
    return StoreError("the statement is nested too deeply; write it flatter", "sql")


def _reopened() -> StoreError:
    return StoreError("the database was opened again meanwhile; nothing is lost, ask again", "restarted")
