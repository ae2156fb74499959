"""The way to the daemon: connecting where needed, and what there is to say while no answer comes."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, NamedTuple

from finetui.errors import StoreError
from finetui.home import Home

SILENT_S = 5.0  # without an answer until that is said
STUCK_S = 30.0  # until it is also said how to end the daemon: on a busy machine it may only be slow


class Trouble(NamedTuple):
    """Why there are no fresh answers. `starting`: a daemon is being started, so that they will come."""

    sentence: str
    starting: bool = False


class Connection:
    """`say` is called with every trouble, from several threads. `connect` gives a client; without one the home's daemon
    is started if it does not run.
    """

    def __init__(self, home: Home, connect: Callable[[], Any] | None, say: Callable[[Trouble], None]) -> None:
        self._home, self._connect, self._say = home, connect, say
        self._client: Any = None
        self._lock = threading.Lock()
        self._starting = False
        self._start_failed = False  # why has been said, and stays until a retry does better
        self._since: float | None = None  # when the daemon was first found to be gone, Unix seconds
        self._silent_since: float | None = None

    def client(self) -> Any:
        """The connected client, connecting if needed (slow: not in the screen's thread)."""
        with self._lock:
            if self._client is None:
                try:
                    self._client = self._connect() if self._connect else self._default()
                finally:
                    self._starting = False
            return self._client

    def _default(self) -> Any:
        from finetui.daemon import connect

        return connect(self._home, self._start)

    def _start(self) -> None:
        self._starting = True
        if self._start_failed:
            return
        if self._since is None:
            self._say(Trouble("starting the daemon …", starting=True))
        else:
            self._say(Trouble(f"the daemon is gone since {_clock(self._since)}; starting another …", True))

    def answered(self) -> None:
        self._since = self._silent_since = None
        self._start_failed = False

    def lost(self, client: Any) -> None:
        """The client has no daemon any more: the next caller connects again."""
        with self._lock:
            if self._client is client:
                self._client = None
        self._start_failed = False
        if self._since is None:
            self._since = time.time()
        self._say(Trouble(f"the daemon is gone since {_clock(self._since)}; another is started"))

    def failed(self, error: Exception) -> None:
        """There is no answer for a reason that there are words for."""
        if isinstance(error, StoreError) and error.kind == "timeout" and self._silent_since:
            return  # it has been said, with more
        self._start_failed = self._client is None
        text = str(error) if isinstance(error, StoreError) else f"{type(error).__name__}: {error}"
        gone = self._since is not None and self._client is None
        self._say(Trouble(f"the daemon is gone since {_clock(self._since or 0)}: {text}" if gone else text))

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Say so if what is asked meanwhile is not answered for some seconds: a daemon that is stopped, say."""
        answered = threading.Event()
        threading.Thread(target=self._watch, args=(answered, time.time()), daemon=True).start()
        try:
            yield
        finally:
            answered.set()

    def _watch(self, answered: threading.Event, since: float) -> None:
        for seconds in (SILENT_S, STUCK_S):
            if answered.wait(seconds):
                return
            self._is_silent(since)

    def _is_silent(self, since: float) -> None:
        if self._starting:
            return
        self._silent_since = self._silent_since or since
        pid = getattr(self._client, "pid", None)
        is_stuck = time.time() - self._silent_since >= STUCK_S
        how = f"; kill -9 {pid} ends it, runs go on" if pid and is_stuck else ""
        self._say(Trouble(f"the daemon has not answered since {_clock(self._silent_since)}{how}"))


def _clock(t: float) -> str:
    return time.strftime("%H:%M:%S %Z", time.localtime(t))
