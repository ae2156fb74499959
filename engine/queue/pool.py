"""The daemon's side of the pool: it is started with the first run, asked for a shim, and done without where it fails.

Whatever goes wrong with it, the run is started by exec, as it would be without a pool, and the log says why. Should the
pool have forked a shim all the same, there are two for one attempt, of which one starts it (engine/attempt/shim.py).
"""

from __future__ import annotations

import contextlib
import fcntl
import logging
import os
import socket
import subprocess
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from engine.basics import pool
from engine.basics.cpu import THREAD_VARIABLES
from engine.basics.process import Identity, alive
from finetui.files import append_regular, read_json
from finetui.log import tail
from finetui.start import program

log = logging.getLogger("finetui.pool")

POOL, SHIM = "engine.attempt.pool", "engine.attempt.shim"
ROOM = 4400  # bytes of a command line for that of a fork: a path has 4,096 at most
ANSWER_S = 1.0  # that a pool takes to fork, on a machine that is busy
PATIENCE_S = 15.0  # that a pool which has answered before may take at most
IMPORTS_S = 180.0  # and one that may still import
MOST_FAILURES = 2  # in a row, without an answer between them, after which this daemon starts no more


@dataclass(frozen=True)
class Order:
    """A program that the pool was asked for."""

    module: str
    arguments: list[str]
    environment: dict[str, str]
    output: Path
    connection: socket.socket
    wait: bool  # for its end, which the connection tells
    deadline: float  # monotonic

    def drop(self) -> None:
        self.connection.close()


class Pool:
    """The pool of this user, as one daemon uses it. Not for use from several threads."""

    def __init__(self, on: bool) -> None:
        self.on = on
        self.problem: str | None = None  # why it was not used the last time
        self._children: list[subprocess.Popen[bytes]] = []
        self._place: pool.Place | None = None  # of the last order
        self._answered: str | None = None  # the key of a pool that has answered
        self._failures = 0
        self._forks = 0

    def order(
        self,
        arguments: list[str],
        environment: dict[str, str],
        output: Path,
        module: str = SHIM,
        wait: bool = False,
    ) -> Order | None:
        """Ask for a program; None where it has to be started otherwise."""
        if not self.on or self._failures >= MOST_FAILURES:
            return None
        try:
            place = self._place = pool.place(worker_module())
            connection = pool.connect(place) or self._begin(place, environment)
            if connection is None:
                self._fail("another process is just starting or ending it")
                return None
            patience = PATIENCE_S if place.key == self._answered else IMPORTS_S
            deadline = time.monotonic() + patience
            order = Order(module, arguments, environment, output, connection, wait, deadline)
            _send(order)
            return order
        except (OSError, ValueError) as error:
            self._fail(str(error))
            return None

    def answer(self, order: Order, wait_s: float) -> Identity | None:
        """Return the process. Raises TimeoutError while there is no answer, LookupError if there will be none."""
        order.connection.settimeout(max(wait_s, 0.001))
        try:
            reply = pool.receive(order.connection)
        except TimeoutError:
            if time.monotonic() < order.deadline:
                raise
            reply = {"refused": "it does not answer"}
        except OSError:
            reply = None
        if reply is None or "process" not in reply:
            order.drop()
            if reply is None:
                self._failures += 1
            why = str(reply.get("refused")) if reply else self._last_words()
            self._fail(why)
            raise LookupError(why)
        self._answered, self._failures, self.problem = self._place.key if self._place else None, 0, None
        self._forks += 1
        if not order.wait:
            order.drop()
        return Identity.from_dict(reply["process"])

    def reap(self) -> None:
        self._children = [child for child in self._children if child.poll() is None]

    def status(self) -> dict[str, Any]:
        """Return the pool's process, its memory and what it was good for: `{"on", "pid", "memory_mb", "forks"}`."""
        identity = self._identity()
        found = {
            "on": self.on and self._failures < MOST_FAILURES,
            "pid": identity.pid if identity else None,
            "memory_mb": _memory_mb(identity.pid) if identity else None,
            "forks": self._forks,
            "problem": self.problem,
        }
        return found

    def _last_words(self) -> str:
        """Return why the pool has ended, as far as it says."""
        lines = tail(self._place.log, 4096).decode(errors="replace").split("\n") if self._place else []
        printed = [line for line in lines if line.strip()]
        return f"it ended before it answered ({printed[-1]})" if printed else "it ended before it answered"

    def _identity(self) -> Identity | None:
        try:
            place = self._place or pool.place(worker_module())
            identity = Identity.from_dict(read_json(place.lock))
        except (OSError, ValueError):
            return None
        return identity if alive(identity) else None

    def _fail(self, why: str) -> None:
        if why != self.problem:
            log.warning("the pool is not used, the run is started without it: %s", why)
        self.problem = why

    def _begin(self, place: pool.Place, environment: dict[str, str]) -> socket.socket | None:
        """Start a pool and return a connection to it, on which requests wait while it imports; None where another
        process has the lock. Raises OSError.
        """
        place.create()
        lock = os.open(place.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        server = socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                return pool.connect(place)
            with contextlib.suppress(FileNotFoundError):
                place.socket.unlink()
            server.bind(str(place.socket))
            place.socket.chmod(0o600)
            server.listen(64)
            self._children.append(_start(place, server.fileno(), lock, environment))
            log.info("a pool was started, process %d", self._children[-1].pid)
            return pool.connect(place)
        finally:  # the pool has both, too
            server.close()
            os.close(lock)


def _send(order: Order) -> None:
    """Send the request, with what the program is to print to. Raises OSError."""
    body = pool.request(
        order.module, order.arguments, order.environment, folder="/", umask=pool.PRIVATE, wait=order.wait
    )
    order.connection.settimeout(ANSWER_S)
    try:
        with Path(os.devnull).open("rb") as nothing, os.fdopen(append_regular(order.output), "wb") as output:
            pool.send(order.connection, body, (nothing.fileno(), output.fileno(), output.fileno()))
    except OSError:
        order.drop()
        raise


def worker_module() -> str:
    """Return what is run as a worker: another one in tests of the queue."""
    return os.environ.get("FINETUI_WORKER_MODULE", pool.WORKER)


def _start(
    place: pool.Place, listening: int, lock: int, environment: dict[str, str]
) -> subprocess.Popen[bytes]:
    command = [*program(POOL, str(listening), str(lock), place.key, worker_module()), " " * ROOM]
    output = os.open(place.log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        return subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd="/",
            env={**environment, **dict.fromkeys(THREAD_VARIABLES, "1")},
            start_new_session=True,
            pass_fds=(listening, lock),
        )
    finally:
        os.close(output)


def _memory_mb(pid: int) -> float | None:
    try:
        return round(psutil.Process(pid).memory_info().rss / (1 << 20), 1)
    except (psutil.Error, ValueError):
        return None
