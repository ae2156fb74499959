"""The door of the daemon: Arrow Flight over a Unix socket that only its owner can open.

A ticket is JSON: `{"sql", "limit", "timeout_s", "id"}` or `{"named", "args", "id"}`. An action's type is
its name and its body JSON; `ping` and `cancel_query` are answered here, all others by the callable given.
Errors cross as JSON `{"kind", "message"}` in the Flight error's extra information.
"""

from __future__ import annotations

import json
import logging
import threading
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import duckdb
import pyarrow.flight as flight

from finetui.errors import StoreError
from store import guard
from store.projection import Projection
from store.queries import NAMED

log = logging.getLogger(__name__)

Actions = Callable[[str, dict[str, Any]], dict[str, Any]]
NAMED_TIMEOUT_S = 30.0


class Server:
    """Answers clients until stopped.

    `actions(name, body)` runs in one of the server's threads and returns what the client gets; it raises
    StoreError for whatever a person should read. Only one daemon may serve a path: an old socket there is
    removed, so hold the home's lock first.
    """

    def __init__(self, socket: Path, projection: Projection, actions: Actions) -> None:
        self.socket = socket
        self._projection = projection
        self._actions = actions
        self._flight: _Flight | None = None
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Listen, and return once clients can connect."""
        self.socket.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        self.socket.parent.chmod(0o700)  # before there is a socket in it
        self.socket.unlink(missing_ok=True)
        self._flight = _Flight(f"grpc+unix://{self.socket}", self._projection, self._actions)
        self.socket.chmod(0o600)
        self._thread = threading.Thread(target=self._flight.serve, name="flight", daemon=True)
        self._thread.start()

    @property
    def reachable(self) -> bool:
        """Whether the socket is still there: what clears up /tmp may have removed it."""
        return self.socket.exists()

    def stop(self) -> None:
        """Stop running queries, finish what is being answered, close the socket."""
        if self._flight is not None:
            self._flight.running.stop_all()
            self._flight.shutdown()
        if self._thread is not None:
            self._thread.join(timeout=10)
        self.socket.unlink(missing_ok=True)


class _Flight(flight.FlightServerBase):
    def __init__(self, location: str, projection: Projection, actions: Actions) -> None:
        super().__init__(location)
        self._projection = projection
        self._actions = actions
        self.running = guard.Running()

    def do_get(self, context: Any, ticket: Any) -> Any:
        with _told():
            request = json.loads(ticket.ticket)
            result = self._named(request) if "named" in request else self._sql(request)
            table = result.table
            if result.note:
                table = table.replace_schema_metadata({**(table.schema.metadata or {}), "note": result.note})
            return flight.RecordBatchStream(table)

    def do_action(self, context: Any, action: Any) -> Iterator[Any]:
        with _told():
            body = json.loads(action.body.to_pybytes() or b"{}")
            reply = self._act(action.type, body)
            return iter([flight.Result(json.dumps(reply).encode())])

    def _act(self, name: str, body: dict[str, Any]) -> dict[str, Any]:
        if name == "ping":
            return {}
        if name == "cancel_query":
            return {"cancelled": self.running.stop(str(body.get("id")))}
        return self._actions(name, body)

    def _sql(self, request: dict[str, Any]) -> guard.Result:
        return guard.run(
            self._projection,
            request["sql"],
            limit=request.get("limit"),
            timeout_s=request.get("timeout_s"),
            running=self.running,
            query_id=request.get("id") or str(uuid.uuid4()),
        )

    def _named(self, request: dict[str, Any]) -> guard.Result:
        query = NAMED.get(request["named"])
        if query is None:
            known = ", ".join(sorted(NAMED))
            raise StoreError(f"there is no query named {request['named']!r}; known: {known}", "not_found")
        try:
            sql, parameters = query(**request.get("args") or {})
        except TypeError as error:
            raise StoreError(f"{request['named']}: {error}", "refused") from None
        try:
            with (
                self._projection.read() as cursor,
                self.running.watch(request.get("id") or str(uuid.uuid4()), cursor, NAMED_TIMEOUT_S),
            ):
                return guard.Result(cursor.execute(sql, parameters).to_arrow_table())
        except duckdb.Error as error:
            raise guard.told(error) from None


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
