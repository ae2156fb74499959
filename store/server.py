"""The door of the daemon: Arrow Flight over a Unix socket that only its owner can open.

A ticket is JSON: `{"sql", "limit", "timeout_s", "id"}` or `{"named", "args", "id"}`. An action's type is
its name and its body JSON; `ping` and `cancel_query` are answered here, all others by the callable given.
Errors cross as JSON `{"kind", "message"}` in the Flight error's extra information.
"""

from __future__ import annotations

import json
import logging
import stat
import threading
import time
import uuid
import weakref
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.flight as flight

from finetui.errors import StoreError
from store import guard, query_process
from store.answers import Result, Room, Statement, fetch
from store.limits import Limits
from store.projection import Projection
from store.queried import resolved
from store.queries import NAMED

log = logging.getLogger(__name__)

Actions = Callable[[str, dict[str, Any]], dict[str, Any]]
NAMED_TIMEOUT_S = 30.0
LARGEST_REQUEST = 16 << 20  # bytes
STOP_S = 5.0  # for answers that are under way
CATCH_UP_S = 5.0  # that a query waits for logs that are still being read


class Server:
    """Answers clients until stopped.

    `actions(name, body)` runs in one of the server's threads and returns what the client gets; it raises
    StoreError for whatever a person should read. `reading(wait_s)` waits so long at most for the logs to be read, and
    says what is still missing then. `marks()` is what every table carries besides its rows, as metadata. Only one
    daemon may serve a path: an old socket there is removed, and anything else there renamed, so hold the home's lock
    first.
    """

    def __init__(
        self,
        socket: Path,
        projection: Projection,
        actions: Actions,
        reading: Callable[[float], str | None] = lambda wait_s: None,
        marks: Callable[[], dict[str, str]] = dict,
        limits: Limits | None = None,
    ) -> None:
        self._limits = limits
        self.socket = socket
        self._projection = projection
        self._actions = actions
        self._reading = reading
        self._marks = marks
        self._flight: _Flight | None = None
        self._thread: threading.Thread | None = None
        self._inode = 0
        query_process.clear(projection.path)

    def use(self, limits: Limits) -> None:
        """Let other limits hold for queries from now on."""
        self._limits = limits
        if self._flight:
            self._flight.running.use(limits)

    def start(self) -> None:
        """Listen, and return once clients can connect. Raises OSError."""
        self.socket.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        # The end of an old server removes whatever is at its path, so it has to come first.
        self._flight = None
        self._clear()
        # The daemon's umask leaves no moment in which others could connect.
        self._flight = _Flight(
            f"grpc+unix://{self.socket}",
            self._projection,
            self._actions,
            self._reading,
            self._marks,
            self._limits,
        )
        self.socket.chmod(0o600)
        self._inode = self.socket.lstat().st_ino
        self._thread = threading.Thread(target=self._flight.serve, name="flight", daemon=True)
        self._thread.start()

    @property
    def reachable(self) -> bool:
        """Whether the socket is still there: what clears up /tmp may have removed it, or a file taken its place."""
        try:
            found = self.socket.lstat()
            return stat.S_ISSOCK(found.st_mode) and found.st_ino == self._inode
        except OSError:
            return False

    @property
    def stuck_s(self) -> float:
        """For how long a query that cannot be interrupted has gone on after its time; 0 without one."""
        return self._flight.running.stuck_s if self._flight else 0.0

    @property
    def last_request(self) -> float:
        """When a client last asked for something, monotonic seconds; an open screen does all the time."""
        return self._flight.last_request if self._flight else 0.0

    def stop(self) -> bool:
        """Stop running queries, finish what is being answered, close the socket. False if something does not end."""
        ended = True
        if self._flight is not None:
            self._flight.running.stop_all()
            closing = threading.Thread(target=self._flight.shutdown, name="shutdown", daemon=True)
            closing.start()
            closing.join(timeout=STOP_S)  # a client that does not read its answer would hold it up for ever
            if self._thread is not None and not closing.is_alive():
                self._thread.join(timeout=STOP_S)
            ended = not closing.is_alive() and self._flight.running.stuck_s == 0
        if self.reachable:
            self.socket.unlink(missing_ok=True)
        return ended

    def _clear(self) -> None:
        """Make room for the socket: an old one goes, somebody's file or directory is kept under another name."""
        try:
            mode = self.socket.lstat().st_mode
        except FileNotFoundError:
            return
        if stat.S_ISSOCK(mode) or stat.S_ISFIFO(mode) or stat.S_ISLNK(mode):
            self.socket.unlink()
            return
        aside = self.socket.with_name(f"{self.socket.name}.aside-{time.time_ns()}")
        self.socket.rename(aside)
        log.warning("%s was no socket; it is kept as %s", self.socket, aside.name)


class _Flight(flight.FlightServerBase):
    def __init__(
        self,
        location: str,
        projection: Projection,
        actions: Actions,
        reading: Callable[[float], str | None],
        marks: Callable[[], dict[str, str]],
        limits: Limits | None,
    ) -> None:
        super().__init__(location)
        self._projection = projection
        self._actions = actions
        self._reading = reading
        self._marks = marks
        self.running = guard.Running(limits)
        self.last_request = time.monotonic()

    def do_get(self, context: Any, ticket: Any) -> Any:
        self.last_request = time.monotonic()
        with _told():
            request = _object(ticket.ticket)
            marks = (
                self._marks()
            )  # as they were before the query: it may have seen less than there is after it
            result = self._named(request) if "named" in request else self._sql(request)
            table = result.table
            if result.note:
                marks["note"] = result.note
            if result.is_cut:
                marks["cut"] = "true"
            if marks:
                table = table.replace_schema_metadata({**(table.schema.metadata or {}), **marks})
            if result.sent is None:
                return flight.RecordBatchStream(table)
            return flight.GeneratorStream(table.schema, _Batches(table, result.sent))

    def do_action(self, context: Any, action: Any) -> Iterator[Any]:
        self.last_request = time.monotonic()
        with _told():
            body = _object(action.body.to_pybytes() or b"{}")
            reply = self._act(action.type, body)
            return iter([flight.Result(json.dumps(reply).encode())])

    def _act(self, name: str, body: dict[str, Any]) -> dict[str, Any]:
        if name == "ping":
            return {}
        if name == "cancel_query":
            return {"cancelled": self.running.stop(str(body.get("id")))}
        return self._actions(name, body)

    def _sql(self, request: dict[str, Any]) -> Result:
        sql, limit, timeout_s = (request.get(key) for key in ("sql", "limit", "timeout_s"))
        if not isinstance(sql, str):
            raise StoreError(f"`sql` has to be text, not {type(sql).__name__}", "refused")
        if not (limit is None or type(limit) is int):
            raise StoreError(f"`limit` has to be a whole number, not {limit!r}", "refused")
        if not (timeout_s is None or type(timeout_s) in (int, float)):
            raise StoreError(f"`timeout_s` has to be a number, not {timeout_s!r}", "refused")
        missing = self._reading(CATCH_UP_S)
        result = guard.run(
            self._projection,
            sql,
            limit=limit,
            timeout_s=None if timeout_s is None else min(max(0.0, timeout_s), guard.LONGEST_S),
            running=self.running,
            query_id=str(request.get("id") or uuid.uuid4()),
        )
        notes = [result.note, missing and f"{missing}; a part is still missing here"]
        return replace(result, note="; ".join(filter(None, notes)) or None, is_cut=result.note is not None)

    def _named(self, request: dict[str, Any]) -> Result:
        query = NAMED.get(request["named"])
        if query is None:
            known = ", ".join(sorted(NAMED))
            raise StoreError(f"there is no query named {request['named']!r}; known: {known}", "not_found")
        try:
            asked = query(**request.get("args") or {})
        except TypeError as error:
            raise StoreError(f"{request['named']}: {error}", "refused") from None
        query_id = str(request.get("id") or uuid.uuid4())
        room = Room(self.running.limits, self.running.large, lambda: self.running.is_stopped(query_id))

        def work() -> Result:
            with (
                self._projection.read() as cursor,
                self.running.watch(query_id, cursor, NAMED_TIMEOUT_S),
            ):
                return fetch(Statement(cursor, *resolved(asked, cursor)), None, room)

        try:
            try:
                return self.running.call(query_id, NAMED_TIMEOUT_S, work, limited=False)
            except duckdb.OutOfMemoryException:  # what the screen needs comes before users' SQL
                if not self.running.stop_users():
                    raise
                time.sleep(guard.INSIST_S)
                return self.running.call(query_id, NAMED_TIMEOUT_S, work, limited=False)
        except duckdb.Error as error:
            raise guard.told(error) from None


class _Batches:
    """The batches of a large answer, whose place is free once they are sent, or nobody holds them any more."""

    def __init__(self, table: pa.Table, sent: Callable[[], None]) -> None:
        self._batches = iter(table.to_batches())
        self._sent = sent
        weakref.finalize(self, sent)

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        return self

    def __next__(self) -> pa.RecordBatch:
        try:
            return next(self._batches)
        except StopIteration:
            self._sent()
            raise


def _object(content: bytes) -> dict[str, Any]:
    """The JSON object of a request. Raises StoreError."""
    if len(content) > LARGEST_REQUEST:
        raise StoreError(
            f"the request has {len(content):,} bytes; {LARGEST_REQUEST:,} are allowed", "refused"
        )
    try:
        body = json.loads(content)
    except (ValueError, RecursionError):
        body = None
    if not isinstance(body, dict):
        raise StoreError("the request is no JSON object", "refused")
    return body


class _told:  # noqa: N801 (used as a statement)
    """Turn any error into one that the client can show."""

    def __enter__(self) -> None:
        pass

    def __exit__(self, kind: Any, error: BaseException | None, trace: Any) -> None:
        if error is None or not isinstance(error, Exception):
            return
        if not isinstance(error, StoreError):
            log.error("a request failed", exc_info=error)
            error = StoreError(f"the daemon failed at this: {type(error).__name__}: {error}", "internal")
        said = json.dumps({"kind": error.kind, "message": str(error)})
        raise flight.FlightServerError(str(error), extra_info=said.encode()) from None
