"""What the daemon tells people who are away, and when: of runs that end, of the queue, of flags, stalls and money."""

from __future__ import annotations

import time
from typing import Any

import duckdb

from engine.queue.config import Config
from engine.queue.money import spent
from engine.queue.notices import Event, Notice, Notices
from engine.queue.watch import Watch
from engine.runs.home import RunDir
from engine.runs.journal import RunRecord
from finetui.home import Home
from store.states import RunState

LOOK_S = 2.0  # between looks at the store
_ENDS: dict[str, Event] = {
    RunState.FINISHED: "finished",
    RunState.FAILED: "failed",
    RunState.PAUSED: "paused",
}


class Teller:
    """Remembers what was so before, so that only changes are told. Each method is called from one thread only."""

    def __init__(self, home: Home, config: Config) -> None:
        self.config = config
        self._home = home
        self._notices = Notices(config.ways)
        self._watch = Watch()
        self._was_busy = self._was_full = False
        self._looked = 0.0  # monotonic
        self._spent: float | None = None

    def configure(self, config: Config) -> None:
        self.config, self._notices.ways = config, config.ways

    @property
    def problem(self) -> str | None:
        return self._notices.problem

    def run_ended(self, run: RunDir, record: RunRecord) -> None:
        """An attempt has ended, and the run with it, or has paused; who asked for that is not told."""
        if (event := _ENDS.get(record.state)) and record.request is None:
            name = run.path.name.partition("-")[2]
            self._notices.tell(Notice(event, record.reason or event, record.number, name))

    def queue_is(self, running: int, waiting: int, disk_full: str | None) -> None:
        """Tell when the last run has ended, and when the disk has become full."""
        if self._was_busy and not running:
            left = f", {waiting} wait for something else" if waiting else ""
            self._notices.tell(Notice("queue_empty", f"nothing runs any more{left}"))
        if disk_full and not self._was_full:
            self._notices.tell(Notice("disk_full", disk_full))
        self._was_busy, self._was_full = bool(running), bool(disk_full)

    def look(self, cursor: duckdb.DuckDBPyConnection) -> float:
        """Look for flags and for runs that no longer get on; return what all runs have cost so far."""
        if self._spent is not None and time.monotonic() - self._looked < LOOK_S:
            return self._spent
        self._looked = time.monotonic()
        found: list[Notice] = []
        if self._notices.ways.any:
            found = [*self._watch.flags(cursor), *self._watch.stalls(cursor, self.config.stalled_after)]
        now = spent(cursor, self._home)
        found += self.config.money.notices(now if self._spent is None else self._spent, now)
        self._spent = now
        for notice in found:
            self._notices.tell(notice)
        return now


def settings_shown(config: Config, total: float) -> dict[str, Any]:
    """Return what `daemon status` says of money; nothing where no price is set."""
    if config.price_per_hour is None and not total:
        return {}
    return {"spent": round(total, 2), "budget": config.budget}
