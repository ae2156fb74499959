"""`… -m finetui.start engine.attempt.pool SOCKET_FD LOCK_FD KEY WORKER`: forks programs of ours on request.

What takes longest of a small run is to import what it needs. The pool has done that, once for all, and nothing else: it
has one thread, has asked no driver, and trains nothing, so that a fork is as good as a process started anew. Whoever
starts it has bound the socket and taken the lock, which it holds while it lives; requests wait while it imports.

A connection carries one request: {"module", "arguments", "environment", "circumstances", "folder", "umask", "wait", …},
and with it descriptors for stdin, stdout and stderr. The answer is {"process"} (the identity of the fork), or
{"refused"}: why the program has to be started by exec. With `wait`, a second message {"status"} says how the fork
ended, as os.waitpid has it; a command (`exact`) may say that itself, once nothing of it is left to be seen. With
`confirm`, the fork begins once it has been sent a message more.

It ends when nobody has asked for a while, when code, libraries or its socket are no longer those that it began with, or
when it holds too much memory. Its forks do not notice.
"""

from __future__ import annotations

import contextlib
import gc
import importlib
import json
import os
import select
import signal
import socket
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil

from engine.attempt import fork
from engine.basics import pool
from engine.basics.process import identify, set_command_line
from finetui.start import program
from store import memory_limit

# Worker → the modules that have its imports, and those of commands, which lie above and are named for that alone; other
# workers are executed.
PRELOAD = {pool.WORKER: ("engine.attempt.warm", "tui.cli.preload")}
IDLE_S = 600.0  # without a request, after which it ends
LOOK_S = 20.0  # between looks at code, libraries and socket
REQUEST_S = 5.0  # that a client may take to say what it wants
LARGEST_BYTES = 2 << 30  # resident; what torch, transformers and PEFT need is about a quarter


@dataclass(frozen=True)
class Order:
    """What a fork is to become."""

    module: str
    arguments: list[str]
    environment: dict[str, str]
    streams: tuple[int, ...]  # stdin, stdout and stderr
    folder: str  # that it works in
    umask: int
    exact: bool  # the environment is all that the fork is to have


class Pool:
    """The parent of the forks."""

    def __init__(
        self, server: socket.socket, place: pool.Place, worker: str, environment: dict[str, str]
    ) -> None:
        """`environment`: what the imports were done in."""
        self._server, self._place, self._worker = server, place, worker
        self._environment = environment
        self._socket_file = place.socket.stat()
        self._children: dict[int, socket.socket | None] = {}  # process → who waits for its end
        self._last_request = time.monotonic()
        self._ending = False
        self._wake, written = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
        self._own = [self._wake, written]  # descriptors that no fork shall have
        signal.set_wakeup_fd(written, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)
        signal.signal(signal.SIGTERM, lambda *_: setattr(self, "_ending", True))
        server.setblocking(False)

    def serve(self) -> Order | None:
        """Fork whenever somebody asks. Returns None when the pool is to end, and the order in each fork."""
        looked = time.monotonic()
        while not self._ending:
            ready, _, _ = select.select([self._server.fileno(), self._wake], [], [], LOOK_S)
            if self._wake in ready:
                with contextlib.suppress(BlockingIOError):
                    os.read(self._wake, 4096)
            self._reap()
            if self._server.fileno() in ready and (order := self._accept()):
                return order
            if time.monotonic() - looked > LOOK_S:
                looked = time.monotonic()
                if self._is_over():  # not assigned: a SIGTERM may have come meanwhile
                    self._ending = True
        self._remove_socket()
        while self._waits():  # those who connected before it was removed
            if order := self._accept():
                return order
        return None

    def _waits(self) -> bool:
        return bool(select.select([self._server], [], [], 0)[0])

    def _accept(self) -> Order | None:
        """Answer one client; the order in the fork, None in the pool."""
        try:
            connection, _ = self._server.accept()
        except OSError:
            return None
        connection.settimeout(REQUEST_S)
        streams: list[int] = []
        order = None
        try:
            pool.check_user(connection)
            request = pool.receive(connection, streams)
            # A daemon that was killed meanwhile, or has started the program otherwise, wants nothing any more.
            if request is None or _has_hung_up(connection):
                connection.close()
                return None
            order = self._answer(connection, request, tuple(streams))
        except (OSError, KeyError, TypeError, ValueError) as error:
            with contextlib.suppress(OSError):
                pool.send(connection, {"refused": f"the pool has failed: {type(error).__name__}: {error}"})
            connection.close()
        finally:
            if order is None:  # in the pool, which keeps nothing of a fork's
                for descriptor in streams:
                    os.close(descriptor)
        return order

    def _answer(
        self, connection: socket.socket, request: dict[str, Any], streams: tuple[int, ...]
    ) -> Order | None:
        self._last_request = time.monotonic()
        order = Order(
            str(request["module"]),
            [str(argument) for argument in request["arguments"]],
            {str(name): str(value) for name, value in request["environment"].items()},
            streams,
            str(request["folder"]),
            int(request["umask"]),
            bool(request["exact"]),
        )
        different = pool.difference(pool.circumstances(self._environment), request["circumstances"])
        if different:
            pool.send(connection, {"refused": f"{different} is not that of the pool"})
            connection.close()
            return None
        # A SIGTERM that comes before the fork has handlers of its own is not to be taken by the pool's.
        before, pid = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals()), -1
        try:
            pid = os.fork()  # this process has one thread, so a fork is safe
        finally:
            if pid != 0:
                signal.pthread_sigmask(signal.SIG_SETMASK, before)
        if pid == 0:
            self._leave(connection)
            if request.get("confirm"):
                _await_confirmation(connection)
            if order.exact and request.get("wait"):  # a command: whoever typed it waits
                fork.waits_for_end = connection
            else:
                connection.close()
            return order
        self._children[pid] = connection if request.get("wait") else None
        identity = identify(pid)
        pool.send(connection, {"process": identity.to_dict() if identity else None})
        if not request.get("wait"):
            connection.close()
        return None

    def _leave(self, connection: socket.socket) -> None:
        """In a fork: keep nothing that is the pool's, or of others who wait."""
        signal.set_wakeup_fd(-1)
        others = [other for other in self._children.values() if other is not None]
        for held in (self._server, *others):
            held.close()
        for descriptor in self._own:
            os.close(descriptor)

    def holds(self, descriptor: int) -> None:
        """Keep a descriptor open in the pool, and in no fork."""
        self._own.append(descriptor)

    def _reap(self) -> None:
        with contextlib.suppress(ChildProcessError):
            while (ended := os.waitpid(-1, os.WNOHANG))[0]:
                pid, status = ended
                connection = self._children.pop(pid, None)
                if connection is not None:
                    with contextlib.suppress(OSError):
                        pool.send(connection, {"status": status})
                    connection.close()

    def _is_over(self) -> bool:
        """Whether the pool is of no more use."""
        waited_for = any(connection is not None for connection in self._children.values())
        if not waited_for and time.monotonic() - self._last_request > IDLE_S:
            return True
        if psutil.Process().memory_info().rss > LARGEST_BYTES:
            return True
        try:
            same_socket = os.path.samestat(self._place.socket.stat(), self._socket_file)
            return not same_socket or pool.key(self._worker) != self._place.key
        except OSError:
            return True

    def _remove_socket(self) -> None:
        with contextlib.suppress(OSError):
            if os.path.samestat(self._place.socket.stat(), self._socket_file):
                for path in (self._place.socket, self._place.log, self._place.lock):
                    path.unlink(missing_ok=True)


def main() -> int:
    listening, lock, key, worker = int(sys.argv[1]), int(sys.argv[2]), sys.argv[3], sys.argv[4]
    memory_limit.lift()  # that of the daemon that started it
    os.umask(pool.PRIVATE)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    set_command_line(program("engine.attempt.pool", key))
    server = socket.socket(fileno=listening)
    place = pool.Place(pool.directory(), key)
    for descriptor in (listening, lock):
        os.set_inheritable(descriptor, False)
    environment = dict(os.environ)
    identity = identify(os.getpid())
    os.ftruncate(lock, 0)
    os.pwrite(lock, json.dumps(identity.to_dict() if identity else {}).encode(), 0)
    for module in PRELOAD.get(worker, ()):
        importlib.import_module(module)
    if problem := unfit(place, worker):
        print(f"the pool is not used: {problem}", file=sys.stderr)
        return 1
    fork.thread_setters()
    gc.collect()
    gc.freeze()  # a collection in a fork would copy all that it looks at
    changed = {name: value for name, value in os.environ.items() if environment.get(name) != value}
    set_by_imports = {name: value for name, value in changed.items() if name not in pool.SET_ANEW}
    parent = Pool(server, place, worker, environment)
    parent.holds(lock)
    order = parent.serve()
    if order is None:
        return 0
    begin(order, set_by_imports)
    fork.run(order.module, *order.arguments)


def begin(order: Order, set_by_imports: dict[str, str]) -> None:
    """In a fork: take over what the order says. What goes wrong is as when a program cannot be started."""
    try:
        for place, descriptor in enumerate(order.streams):
            fork.redirect(descriptor, place)
        environment = order.environment if order.exact else {**order.environment, **set_by_imports}
        fork.begin(environment, order.folder, order.umask)
    except BaseException as error:
        os.write(2, f"the fork cannot begin: {error}\n".encode())
        os._exit(127)


def unfit(place: pool.Place, worker: str) -> str | None:
    """Return why this process must not fork; None if it may."""
    if len(list(Path("/proc/self/task").iterdir())) > 1:
        return "an import has started a thread"
    maps = Path("/proc/self/maps").read_text()
    if "libcuda.so" in maps or "/dev/nvidia" in maps:
        return "an import has opened the GPU's driver"
    if psutil.Process().memory_info().rss > LARGEST_BYTES:
        return f"it takes {psutil.Process().memory_info().rss >> 20} MiB"
    if pool.key(worker) != place.key:
        return "code or libraries have changed while it imported them"
    return None


def _await_confirmation(connection: socket.socket) -> None:
    """In a fork: wait until whoever asked says that it may begin; end where they have not waited for the answer, since
    they do it otherwise then, and what it does must not be done twice.
    """
    select.select([connection], [], [])
    if pool.receive(connection) is None:
        os._exit(0)


def _has_hung_up(connection: socket.socket) -> bool:
    poll = select.poll()
    poll.register(connection, select.POLLHUP | select.POLLRDHUP)
    return bool(poll.poll(0))


if __name__ == "__main__":
    sys.exit(main())
