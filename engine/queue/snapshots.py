"""Copies of the database that clients ask for, each made in a thread of its own, since a large one takes longer than a
client waits for an answer. The client asks again and again; a copy that nobody asks for any more is given up.
"""

from __future__ import annotations

import logging
import threading
import time
from pathlib import Path
from typing import Any

from finetui.errors import StoreError
from store import snapshot
from store.projection import Projection

log = logging.getLogger(__name__)

LEFT_S = 15.0  # after which a copy that nobody asks for any more is given up
MOST_WAIT_S = 10.0


class Snapshots:
    """Answers the action `snapshot`, in several threads at once."""

    def __init__(self, projection: Projection) -> None:
        self._projection = projection
        self._lock = threading.Lock()
        self._turn = threading.Lock()  # one at a time, as two may be meant for one file
        self._copies: dict[str, _Copy] = {}
        self._halted = threading.Event()

    def halt(self) -> None:
        """Give up the copies under way, for the daemon stops."""
        self._halted.set()

    def ask(self, body: dict[str, Any]) -> dict[str, Any]:
        """`path`, absolute, and `id`, which is the same each time: how far the copy is (`copied` of `bytes`), or, once
        it is done, the moment it is of (`taken`, Unix seconds). Raises StoreError, also with why there is none.
        """
        path, name, wait_s = body.get("path"), str(body.get("id")), body.get("wait_s")
        if not isinstance(path, str) or not Path(path).is_absolute():
            raise StoreError(f"snapshot: `path` has to be an absolute path, not {path!r}", "refused")
        with self._lock:
            self._copies = {key: copy for key, copy in self._copies.items() if not copy.is_left}
            copy = self._copies.get(name)
            if copy is None:
                copy = self._copies[name] = _Copy(self._projection, Path(path), self._turn, self._halted)
        reply = copy.look(min(wait_s, MOST_WAIT_S) if isinstance(wait_s, int | float) else 0.0)
        if "taken" in reply:
            with self._lock:
                self._copies.pop(name, None)
        return reply


class _Copy:
    def __init__(
        self, projection: Projection, target: Path, turn: threading.Lock, halted: threading.Event
    ) -> None:
        self._projection, self._target, self._turn, self._halted = projection, target, turn, halted
        self._asked = time.monotonic()
        self._copied = self._of = 0
        self._taken: float | None = None
        self._error: StoreError | None = None
        self._thread = threading.Thread(target=self._make, name="snapshot", daemon=True)
        self._thread.start()

    @property
    def is_left(self) -> bool:
        return time.monotonic() - self._asked > LEFT_S

    def look(self, wait_s: float) -> dict[str, Any]:
        self._asked = time.monotonic()
        self._thread.join(wait_s)
        if self._error is not None:
            raise self._error
        if self._taken is None:
            return {"copied": self._copied, "bytes": self._of}
        return {"taken": self._taken, "bytes": self._of}

    def _make(self) -> None:
        try:
            with self._turn:
                self._taken = snapshot.write(self._projection, self._target, self._tell)
                self._of = self._target.stat().st_size
        except StoreError as error:
            self._error = error
        except Exception as error:
            log.error("the snapshot %s failed", self._target, exc_info=True)
            self._error = StoreError(f"{self._target} was not written: {error}", "internal")

    def _tell(self, copied: int, of: int) -> None:
        self._copied, self._of = copied, of
        if self.is_left or self._halted.is_set():
            why = "the daemon stops" if self._halted.is_set() else "nobody waited for it"
            raise StoreError(f"{self._target} was not written: {why}", "unavailable")
