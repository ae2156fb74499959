"""The daemon's client: queries as Arrow tables, actions as dictionaries. Imports pyarrow, never DuckDB."""

from __future__ import annotations

import json
import socket as sockets
import uuid
from pathlib import Path
from types import TracebackType
from typing import Any

import pyarrow as pa
import pyarrow.flight as flight

from finetui.errors import StoreError, Unavailable, first_line

# A reply later than this will not come: the daemon itself stops a query long before.
REPLY_TIMEOUT_S = 120.0

_OPTIONS = [
    # Without a pool of its own, a new client would wait out the old one's pause between attempts.
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
]


def note(table: pa.Table) -> str | None:
    """Return what was left out of a query's result (rows beyond the limit), in words; None if nothing."""
    text = (table.schema.metadata or {}).get(b"note")
    return text.decode() if text else None


class Client:
    """Asks the daemon that listens at `socket`; may be used from several threads at once.

    Raises Unavailable when nobody answers.
    """

    def __init__(self, socket: str | Path) -> None:
        self._path = str(socket)
        self._check()
        self._flight = flight.connect(f"grpc+unix://{self._path}", generic_options=_OPTIONS)
        self.action("ping")

    def query(
        self,
        sql: str,
        limit: int | None = None,
        timeout_s: float | None = None,
        query_id: str | None = None,
    ) -> pa.Table:
        """Run one statement that only reads. `note(table)` says whether rows were cut at `limit`
        (default 10,000). Raises StoreError (`sql`, `refused`, `timeout`, `cancelled`) or Unavailable."""
        body = {"sql": sql, "limit": limit, "timeout_s": timeout_s, "id": query_id or str(uuid.uuid4())}
        return self._get(body)

    def named(self, name: str, /, **args: Any) -> pa.Table:
        """Run one of the queries of store/queries.py."""
        return self._get({"named": name, "args": args, "id": str(uuid.uuid4())})

    def action(self, name: str, /, **body: Any) -> dict[str, Any]:
        """Send the daemon an action and return its reply. Raises StoreError with the daemon's reason."""
        request = flight.Action(name, json.dumps(body).encode())
        try:
            results = list(self._flight.do_action(request, _call()))
        except Exception as error:
            raise self._to_error(error) from None
        return json.loads(results[0].body.to_pybytes()) if results else {}

    def cancel_query(self, query_id: str) -> bool:
        """Stop a running query by the id it was given; False if it is not running."""
        return bool(self.action("cancel_query", id=query_id).get("cancelled"))

    def close(self) -> None:
        self._flight.close()

    def __enter__(self) -> Client:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _get(self, body: dict[str, Any]) -> pa.Table:
        ticket = flight.Ticket(json.dumps(body).encode())
        try:
            return self._flight.do_get(ticket, _call()).read_all()
        except Exception as error:
            raise self._to_error(error) from None

    def _check(self) -> None:
        """Try a plain connection, which fails at once and with a message where gRPC would retry."""
        with sockets.socket(sockets.AF_UNIX, sockets.SOCK_STREAM) as probe:
            try:
                probe.connect(self._path)
            except OSError as error:
                raise Unavailable(f"no daemon answers at {self._path} ({error.strerror or error})") from None

    def _to_error(self, error: Exception) -> Exception:
        if isinstance(error, flight.FlightUnavailableError):
            return Unavailable(f"the daemon at {self._path} has stopped answering")
        if isinstance(error, flight.FlightTimedOutError):
            return StoreError(f"the daemon did not answer within {REPLY_TIMEOUT_S:g} s", "timeout")
        try:
            reply = json.loads(error.extra_info)  # type: ignore[attr-defined]
            return StoreError(reply["message"], reply["kind"])
        except (AttributeError, ValueError, KeyError, TypeError):
            if isinstance(error, pa.ArrowException):
                return StoreError(first_line(error))
            return error


def _call() -> Any:
    return flight.FlightCallOptions(timeout=REPLY_TIMEOUT_S)
