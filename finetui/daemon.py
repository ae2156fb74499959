"""Connect to the daemon of a home, and start it where none answers."""

from __future__ import annotations

import os
import select
import socket as sockets
import subprocess
import time
from collections.abc import Callable, MutableMapping
from pathlib import Path
from typing import TYPE_CHECKING

from finetui.errors import ExitCode, StoreError, Unavailable
from finetui.home import Home
from finetui.home import home as default_home
from finetui.lock import Lock
from finetui.start import program

if TYPE_CHECKING:
    from finetui.client import Client

DAEMON = "engine.queue.daemon"  # the module that is started: in a process of its own, never imported here
AGENT_VARIABLE = (
    "FINETUI_AGENT"  # the name of the assistant whose shell this is; a client names it with every request
)
ALREADY_RUNNING = 75  # exit code of a daemon that finds another one
READY = "ready"  # a starting daemon says this on stderr, or else what is wrong, in one sentence
ALLOCATOR, ALLOCATOR_IS_OURS = "ARROW_DEFAULT_MEMORY_POOL", "FINETUI_SET_ALLOCATOR"
START_S = 60.0  # a home with many runs and no database yet takes a while

# What a program has for itself alone that logs its own run; a daemon goes on after it.
OF_ONE_PROGRAM = (
    "RANK", "LOCAL_RANK", "GROUP_RANK", "WORLD_SIZE", "LOCAL_WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT",
    "OMP_NUM_THREADS",
)  # fmt: skip

# Kept so that a daemon that ends during this process's life is reaped.
_started: list[subprocess.Popen[bytes]] = []


def connect(home: Home | str | Path | None = None, starting: Callable[[], object] = lambda: None) -> Client:
    """Return a client of the home's daemon, started first if nobody answers. Raises StoreError with the reason.

    `home`: a directory; `$FINETUI_HOME`, or the user's own, if not given. `starting` is called before a start.
    """
    if home is None:
        home = default_home()
    elif not isinstance(home, Home):
        home = Home(Path(home).expanduser().absolute())
    if client := answering(home):
        return client
    try:
        home.create()
        starting()
        return _start(home)
    except OSError as error:
        where = f" ({error.filename})" if error.filename not in (None, str(home.path)) else ""
        raise StoreError(f"the home {home.path} cannot be used: {error.strerror}{where}", "home") from None


def answering(home: Home) -> Client | None:
    """Return a client of the home's daemon; None if nobody answers. No daemon is started. Raises StoreError where
    somebody else might answer.
    """
    from finetui.client import Client  # imports pyarrow

    home.check_socket_place()
    try:
        return Client(home.socket)
    except Unavailable:
        return None


def start_in_background(home: Home) -> None:
    """Start a daemon where nobody answers, and do not wait for it. Raises OSError, StoreError."""
    home.check_socket_place()
    with sockets.socket(sockets.AF_UNIX, sockets.SOCK_STREAM) as probe:
        if probe.connect_ex(str(home.socket)) == 0:
            return
    environment = {key: value for key, value in os.environ.items() if key not in OF_ONE_PROGRAM}
    if "SLURM_JOB_ID" not in environment:  # which would have chosen the GPUs for all that runs in it
        environment.pop("CUDA_VISIBLE_DEVICES", None)
    # Through a shell, so that it is no child of a program that may wait for its own.
    subprocess.run(
        ["sh", "-c", '"$@" &', "sh", *program(DAEMON)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd="/",
        env={**environment, "FINETUI_HOME": str(home.path)},
        start_new_session=True,
        check=True,
        timeout=10,
    )


def code_version() -> str:
    """Return the version of this process's code; a daemon may still run an older one."""
    from importlib.metadata import PackageNotFoundError, version  # a seventh of what `finetui ls` imports

    try:
        return version("finetui")
    except PackageNotFoundError:
        return "unknown"


def _start(home: Home) -> Client:
    """Start a daemon, unless another command is doing so: then use that one."""
    deadline = time.monotonic() + START_S
    starting = Lock(home.path / "start.lock")
    if not starting.acquire(wait_s=START_S):
        raise StoreError(
            f"another command has been starting the daemon for {START_S:g} s; see {home.daemon_log}", "home"
        )
    try:
        while True:
            if client := answering(home):
                return client
            if time.monotonic() > deadline:
                raise StoreError(
                    f"the daemon runs but does not answer at {home.socket}; see {home.daemon_log}", "home"
                )
            _launch(home, deadline)
    finally:
        starting.release()


def environment(home: Home) -> dict[str, str]:
    """Return what a daemon is started with: ours, but for what is not for all that it serves."""
    ours = {name: value for name, value in os.environ.items() if name != AGENT_VARIABLE}
    if ALLOCATOR not in ours:
        # Arrow's own reserves 1 GiB and keeps what is freed, and the daemon has a limit. Its runs have none of this.
        ours |= {ALLOCATOR: "system", ALLOCATOR_IS_OURS: "1"}
    return {**ours, "FINETUI_HOME": str(home.path)}


def forget_allocator(environ: MutableMapping[str, str]) -> None:
    """In the daemon: what it starts, and the pool, are to have the environment that a command has."""
    if environ.pop(ALLOCATOR_IS_OURS, None):
        environ.pop(ALLOCATOR, None)


def _launch(home: Home, deadline: float) -> None:
    """Start the daemon, detached, and wait until it is ready. Raises StoreError with the daemon's own message."""
    child = subprocess.Popen(
        program(DAEMON),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        cwd="/",
        env=environment(home),
        start_new_session=True,
    )
    _started.append(child)
    assert child.stderr is not None
    with child.stderr:
        output = _read_until_closed(child.stderr.fileno(), deadline)
    lines = [line for line in output.decode(errors="replace").splitlines() if line.strip()]
    if lines and lines[-1] == READY:
        return
    code = child.wait(timeout=10)
    if code == ALREADY_RUNNING:  # another daemon has the home: it is starting, or just leaving
        return
    kind = "config" if code == ExitCode.BAD_INPUT else "home"
    raise StoreError(lines[-1] if lines else f"the daemon ended at once; see {home.daemon_log}", kind)


def _read_until_closed(fd: int, deadline: float) -> bytes:
    output = b""
    while True:
        left = deadline - time.monotonic()
        if left <= 0 or not select.select([fd], [], [], left)[0]:
            raise StoreError(
                "the daemon is still starting (a large store is rebuilt?); try again in a minute", "home"
            )
        data = os.read(fd, 4096)
        if not data:
            return output
        output += data
