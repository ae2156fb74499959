"""Reaching the daemon of a home, and starting it where none answers."""

from __future__ import annotations

import os
import select
import subprocess
import sys
import time
from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

import store
from engine.basics.process import alive, identify
from engine.runs.home import Home
from engine.runs.home import home as default_home
from finetui.lock import Lock
from store.errors import StoreError, Unavailable

if TYPE_CHECKING:
    from finetui.client import Client

ALREADY_RUNNING = 75  # exit code of a daemon that finds another one
READY = "ready"  # a starting daemon says this on stderr, or else what is wrong, in one sentence
START_S = 60.0  # a home with many runs and no database yet takes a while
STOP_S = 30.0

# Kept so that a daemon that ends during this process's life is reaped.
_started: list[subprocess.Popen[bytes]] = []


def connect(home: Home | None = None) -> Client:
    """A client of the home's daemon, started first if nobody answers. Raises StoreError with the reason."""
    home = home or default_home()
    client = answering(home)
    if client is not None:
        return client
    try:
        home.create()
        return _start(home)
    except OSError as error:
        raise StoreError(f"the home {home.path} cannot be used: {error.strerror}", "home") from None


def running(home: Home | None = None) -> bool:
    """Whether a daemon answers; none is started."""
    client = answering(home or default_home())
    if client is None:
        return False
    client.close()
    return True


def status(home: Home | None = None) -> dict[str, Any] | None:
    """What the daemon says of itself; None if none answers. `client_version` is this process's code."""
    client = answering(home or default_home())
    if client is None:
        return None
    with client:
        said = client.action("status")
    return {**said, "client_version": code_version(), "same_version": said.get("version") == code_version()}


def stop(home: Home | None = None) -> bool:
    """Ask the daemon to leave and wait until it has; active runs go on. False if none answers."""
    client = answering(home or default_home())
    if client is None:
        return False
    with client:
        daemon = identify(client.action("stop")["pid"])
    deadline = time.monotonic() + STOP_S
    while alive(daemon):
        if time.monotonic() > deadline:
            pid = daemon.pid if daemon else "?"
            raise StoreError(
                f"the daemon (process {pid}) has not stopped in {STOP_S:g} s; see daemon.log", "home"
            )
        time.sleep(0.02)
    return True


def code_version() -> str:
    """The version of this process's code; a daemon may still run that of yesterday."""
    try:
        return version("finetui")
    except PackageNotFoundError:
        return "unknown"


def answering(home: Home) -> Client | None:
    """A client of the home's daemon; None if nobody answers. None is started."""
    try:
        return store.connect(home.socket)
    except Unavailable:
        return None


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
            client = answering(home)
            if client is not None:
                return client
            if time.monotonic() > deadline:
                raise StoreError(
                    f"the daemon runs but does not answer at {home.socket}; see {home.daemon_log}", "home"
                )
            _launch(home, deadline)
    finally:
        starting.release()


def _launch(home: Home, deadline: float) -> None:
    """Start the daemon, detached, and wait until it is ready. Raises StoreError with the daemon's own words."""
    child = subprocess.Popen(
        [sys.executable, "-P", "-m", "engine.queue.daemon"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        cwd="/",
        env={**os.environ, "FINETUI_HOME": str(home.path)},
        start_new_session=True,
    )
    _started.append(child)
    assert child.stderr is not None
    with child.stderr:
        words = _read_until_closed(child.stderr.fileno(), deadline)
    lines = [line for line in words.decode(errors="replace").splitlines() if line.strip()]
    if lines and lines[-1] == READY:
        return
    if (
        child.wait(timeout=10) == ALREADY_RUNNING
    ):  # another daemon has the home: it is starting, or just leaving
        return
    raise StoreError(lines[-1] if lines else f"the daemon ended at once; see {home.daemon_log}", "home")


def _read_until_closed(fd: int, deadline: float) -> bytes:
    words = b""
    while True:
        left = deadline - time.monotonic()
        if left <= 0 or not select.select([fd], [], [], left)[0]:
            raise StoreError(
                "the daemon is still starting (a large store is rebuilt?); try again in a minute", "home"
            )
        data = os.read(fd, 4096)
        if not data:
            return words
        words += data
