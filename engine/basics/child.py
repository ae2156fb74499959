"""A program of ours as a child of this process: forked from the pool where one is up, which spares it seconds of
imports, else started by exec. A pool is not started for it: those who queue runs do that.

Either way it has a session of its own: a Ctrl-C reaches this process alone, which ends the child.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import time
from pathlib import Path
from typing import IO, TYPE_CHECKING, NamedTuple

from engine.basics import pool
from engine.basics.cpu import spin_little
from engine.basics.process import Identity, alive, send, umask
from finetui.start import program

if TYPE_CHECKING:
    import subprocess

ANSWER_S = 15.0  # that a pool may take to fork: as long as the imports that it may still be at
LOOK_S = 0.05  # between looks at a process whose pool has ended


class Forked(NamedTuple):
    """A fork of the pool, with the names that `subprocess.Popen` has."""

    identity: Identity
    connection: socket.socket

    @property
    def pid(self) -> int:
        return self.identity.pid

    def wait(self) -> int:
        """Return the exit code, -N for signal N; 1 if the pool, which knows it, ended before."""
        code = self.exit_code()
        return 1 if code is None else code

    def exit_code(self) -> int | None:
        """Return the same once it has ended, and None if the pool ended before."""
        try:
            reply = pool.receive(self.connection)
        except OSError:
            reply = None
        self.connection.close()
        if reply is not None:
            return os.waitstatus_to_exitcode(int(reply["status"]))
        while alive(self.identity):
            time.sleep(LOOK_S)
        return None

    def send_signal(self, number: int) -> None:
        send(self.identity, signal.Signals(number))

    def terminate(self) -> None:
        send(self.identity, signal.SIGTERM)

    def kill(self) -> None:
        send(self.identity, signal.SIGKILL)


class Child(NamedTuple):
    """A program under way, and what it says on stdout."""

    process: Forked | subprocess.Popen[bytes]
    stdout: IO[str]

    def read(self) -> tuple[str, int]:
        """Return all that it says and its exit code, once it has ended. Whoever is interrupted waiting has no child
        left.
        """
        try:
            with self.stdout:
                return self.stdout.read(), self.process.wait()
        except BaseException:
            self.process.kill()
            raise


def start(module: str, *arguments: str, stdin: str = "", stderr: int | None = None) -> Child:
    """Start a module. `stdin` is all that it will read; `stderr` is a descriptor, which stays open here, or nowhere."""
    import subprocess  # not for those who only want a fork: commands that the pool runs
    import tempfile

    read, write = os.pipe()
    with tempfile.TemporaryFile() as given, Path(os.devnull).open("wb") as nowhere:
        given.write(stdin.encode())
        given.seek(0)
        try:
            streams = (given.fileno(), write, nowhere.fileno() if stderr is None else stderr)
            process = fork(module, arguments, streams) or subprocess.Popen(
                program(module, *arguments),
                stdin=given,
                stdout=write,
                stderr=streams[2],
                start_new_session=True,
            )
        except OSError:
            os.close(read)
            raise
        finally:
            os.close(write)
    return Child(process, os.fdopen(read, encoding="utf-8", errors="replace"))


def fork(
    module: str,
    arguments: tuple[str, ...],
    streams: tuple[int, int, int],
    *,
    exact: bool = False,
    answer_s: float = ANSWER_S,
) -> Forked | None:
    """Ask the pool for a fork; None where there is none to ask, or it cannot give one that is as good in `answer_s`
    seconds. `exact`: it gets this process's environment and nothing else, since it will pass it on.
    """
    try:
        connection = pool.connect(pool.place(pool.WORKER))
    except (OSError, ValueError):
        return None
    if connection is None:
        return None
    identity: Identity | None = None
    with contextlib.suppress(OSError):
        environment = os.environ if exact else spin_little(os.environ)
        folder = str(Path.cwd())
        body = pool.request(
            module, arguments, environment, folder=folder, umask=umask(), wait=True, exact=exact, confirm=True
        )
        connection.settimeout(answer_s)
        pool.send(connection, body, streams)
        reply = pool.receive(connection)
        if answered := Identity.from_dict(reply.get("process")) if reply else None:
            pool.send(connection, {"begin": True})
            identity = answered
    if identity is None:
        connection.close()  # an answer that comes too late finds nobody, and a fork that nobody waits for never begins
        return None
    connection.settimeout(None)
    return Forked(identity, connection)
