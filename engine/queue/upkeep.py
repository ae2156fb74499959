"""The database's file, looked after: made again from the logs, and written anew without what it no longer needs."""

from __future__ import annotations

import logging
import threading
from typing import Any

import duckdb

from finetui.errors import StoreError
from store import compaction
from store.explain import explain
from store.projection import Projection

log = logging.getLogger("finetui.daemon")

LONGEST_WAIT_S = 100.0  # of a client, which may ask again


class Upkeep:
    """At most one compaction at a time; those who ask while one goes on get its result."""

    def __init__(self, projection: Projection) -> None:
        self._projection = projection
        self._lock = threading.Lock()
        self._going_on: _Compaction | None = None

    def compact(self, wait_s: Any) -> dict[str, Any]:
        """Have the file written anew, and return `before` and `after`, in bytes; nothing where that takes longer than
        `wait_s`. Raises StoreError.
        """
        with self._lock:
            if self._going_on is None:
                self._going_on = _Compaction(self._projection)
            asked = self._going_on
        wait_s = float(wait_s) if isinstance(wait_s, int | float) else LONGEST_WAIT_S
        if not asked.done.wait(min(max(0.0, wait_s), LONGEST_WAIT_S)):
            return {}
        with self._lock:
            if self._going_on is asked:
                self._going_on = None
        if asked.error is not None:
            raise asked.error
        before, after = asked.sizes
        return {"before": before, "after": after}

    def look(self, *, idle: bool) -> None:
        """While nothing goes on: see whether more than half of the file holds nothing, and write it anew then."""
        if not idle:
            return
        with self._projection.read() as cursor:
            due = compaction.is_due(*compaction.spare(cursor))
        if due:
            self.compact(LONGEST_WAIT_S)


class _Compaction:
    """One, in a thread of its own."""

    def __init__(self, projection: Projection) -> None:
        self.done = threading.Event()
        self.sizes = (0, 0)
        self.error: StoreError | None = None
        self._projection = projection
        threading.Thread(target=self._run, name="compaction", daemon=True).start()

    def _run(self) -> None:
        try:
            self.sizes = self._projection.compact()
            log.info("the database had %d bytes, and has %d now", *self.sizes)
        except StoreError as error:
            self.error = error
        except (duckdb.Error, OSError) as error:
            self.error = StoreError(
                f"the database could not be compacted: {explain(error)}; it is as it was", "internal"
            )
        finally:
            if self.error:
                log.warning("%s", self.error)
            self.done.set()
