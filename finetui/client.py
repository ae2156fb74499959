"""The daemon's client: queries as Arrow tables, actions as dictionaries. Imports pyarrow, never DuckDB."""

from __future__ import annotations

import json
import os
import socket as sockets
import struct
import uuid
import warnings
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Any

import pyarrow as pa
import pyarrow.flight as flight

from finetui.daemon import AGENT_VARIABLE
from finetui.errors import PartialResult, StoreError, Unavailable, first_line
from finetui.progress import Progress

# A reply later than this will not come: the daemon itself stops a query long before.
REPLY_TIMEOUT_S = 120.0
GREETING_TIMEOUT_S = 30.0
BYTES_OF_CREDENTIALS = struct.calcsize("3i")  # pid, uid, gid
TELL_S = 1.0  # between looks at how far the logs are read

_OPTIONS = [
    # Without a pool of its own, a new client would wait out the old one's pause between attempts.
    ("grpc.use_local_subchannel_pool", 1),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
]


def note(table: pa.Table) -> str | None:
    """Return what a query's result lacks (rows beyond the limit, logs that are still being read), in words; None if it
    lacks nothing.
    """
    text = (table.schema.metadata or {}).get(b"note")
    return text.decode() if text else None


def progress(table: pa.Table) -> Progress | None:
    """Return how far the logs were read when this was answered; None where it lacks nothing."""
    text = (table.schema.metadata or {}).get(b"reading")
    return Progress.of_json(text) if text else None


def notice(table: pa.Table) -> str:
    """Return what the daemon did to the database of late that its user should know; empty: nothing."""
    return bytes((table.schema.metadata or {}).get(b"notice", b"")).decode()


def _in_utc(table: pa.Table) -> pa.Table:
    """The same moments, whatever time zone the daemon is in."""
    zones = [getattr(kind, "tz", None) for kind in table.schema.types]
    if not any(zones):
        return table
    fields = [
        field.with_type(pa.timestamp(field.type.unit, "UTC")) if zone else field
        for field, zone in zip(table.schema, zones, strict=True)
    ]
    return table.cast(pa.schema(fields, table.schema.metadata))


class Client:
    """Asks the daemon that listens at `socket`; may be used from several threads at once.

    Raises Unavailable when nobody answers, StoreError when another user does.
    """

    def __init__(self, socket: str | Path) -> None:
        self._path = str(socket)
        self.pid = self._check()  # of the daemon
        # The assistant that asks for whatever is asked here; its rights are in config.toml.
        self.by = os.environ.get(AGENT_VARIABLE) or None
        self._flight = flight.connect(f"grpc+unix://{self._path}", generic_options=_OPTIONS)
        self._act("ping", {}, GREETING_TIMEOUT_S)

    def query(
        self,
        sql: str,
        limit: int | None = None,
        timeout_s: float | None = None,
        query_id: str | None = None,
    ) -> pa.Table:
        """Run one statement that only reads, and return all rows, or the first `limit` as far as 128 MiB hold them.
        `note(table)` says what is missing then, or of logs that are still being read; without `limit`, the latter is a
        warning, too (PartialResult). Moments (TIMESTAMPTZ) are in UTC. Raises StoreError (`sql`, `refused`, `timeout`,
        `cancelled`; `too_large`: not all rows fit and there is no `limit`) or Unavailable.
        """
        body = {"sql": sql, "limit": limit, "timeout_s": timeout_s, "id": query_id or str(uuid.uuid4())}
        table = _in_utc(self._get(body))
        if limit is None and (missing := note(table)):
            if b"cut" in (table.schema.metadata or {}):
                raise StoreError(f"not all rows fit: {missing}; say a limit, or ask for less", "too_large")
            warnings.warn(missing, PartialResult, stacklevel=2)
        return table

    def named(self, name: str, /, **args: Any) -> pa.Table:
        """Run one of the queries of store/queries.py."""
        return self._get({"named": name, "args": args, "id": str(uuid.uuid4())})

    def action(self, name: str, /, **body: Any) -> dict[str, Any]:
        """Send the daemon an action and return its reply. Raises StoreError with the daemon's reason."""
        return self._act(name, {**body, "by": self.by} if self.by else body, REPLY_TIMEOUT_S)

    def drain(self, tell: Callable[[str], object] = lambda sentence: None) -> list[str]:
        """Wait until every log is in the database, as far as it is written now. `tell` is called, while that takes,
        with how far it is, and with "" when it is over. Returns the daemon's problems, in sentences.
        """
        reported = None
        while True:
            reply = self.action("drain", wait_s=TELL_S)
            reading = reply.get("reading")
            if reading is None:
                if reported:
                    tell("")
                return list(reply.get("problems", []))
            if reading != reported:
                tell(reported := reading)

    def snapshot(self, path: str | Path, tell: Callable[[str], object] = lambda sentence: None) -> float:
        """Have a copy of the database written for other tools, whole or not at all, in place of an older file; return
        the moment it is of, in Unix seconds. `tell` is called as in `drain`. Raises StoreError.
        """
        body = {"path": str(Path(path).expanduser().absolute()), "id": str(uuid.uuid4()), "wait_s": TELL_S}
        reported = False
        while "taken" not in (reply := self.action("snapshot", **body)):
            reported = True
            tell(f"the database is copied: {reply['copied'] >> 20:,} of {reply['bytes'] >> 20:,} MiB")
        if reported:
            tell("")
        return float(reply["taken"])

    def _act(self, name: str, body: dict[str, Any], timeout_s: float) -> dict[str, Any]:
        request = flight.Action(name, json.dumps(body).encode())
        try:
            results = list(self._flight.do_action(request, flight.FlightCallOptions(timeout=timeout_s)))
        except Exception as error:
            raise self._to_error(error, timeout_s) from None
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
            return self._flight.do_get(ticket, flight.FlightCallOptions(timeout=REPLY_TIMEOUT_S)).read_all()
        except Exception as error:
            raise self._to_error(error, REPLY_TIMEOUT_S) from None

    def _check(self) -> int:
        """Try a plain connection, which fails at once and with a message where gRPC would retry; see who listens.
        Returns the process.
        """
        with sockets.socket(sockets.AF_UNIX, sockets.SOCK_STREAM) as probe:
            try:
                probe.connect(self._path)
            except OSError as error:
                raise Unavailable(f"no daemon answers at {self._path} ({error.strerror or error})") from None
            credentials = probe.getsockopt(sockets.SOL_SOCKET, sockets.SO_PEERCRED, BYTES_OF_CREDENTIALS)
        pid, user, _ = struct.unpack("3i", credentials)
        if user != os.geteuid():
            raise StoreError(
                f"the server at {self._path} is that of another user ({user}) and is not trusted", "home"
            )
        return int(pid)

    def _to_error(self, error: Exception, timeout_s: float) -> Exception:
        if isinstance(error, flight.FlightUnavailableError):
            return Unavailable(f"the daemon at {self._path} has stopped answering")
        if isinstance(error, flight.FlightTimedOutError):
            return StoreError(
                f"the daemon, process {self.pid}, did not answer within {timeout_s:g} s; if it is stuck, kill -9"
                f" {self.pid} ends it: runs go on, and the next command starts another",
                "timeout",
            )
        try:
            reply = json.loads(error.extra_info)  # type: ignore[attr-defined]
            return StoreError(reply["message"], reply["kind"])
        except (AttributeError, ValueError, KeyError, TypeError):
            if isinstance(error, pa.ArrowException):
                return StoreError(first_line(error))
            return error
