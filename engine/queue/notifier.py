"""When the daemon sends a notice: of runs that end, of the queue, of flags, stalls and money."""

from __future__ import annotations

import time

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


class Notifier:
    """Remembers what was so before, so that only changes are told."""

    def __init__(self, home: Home, config: Config) -> None:
        self.config = config
        self._home = home
        self._notices = Notices(config.channels)
        self._watch = Watch()
        self._was_busy = self._was_full = False
        self._looked = 0.0  # monotonic
        self._spent: float | None = None  # unknown until the first look

    def configure(self, config: Config) -> None:
        self.config, self._notices.channels = config, config.channels

    @property
    def problem(self) -> str | None:
        return self._notices.problem

    def run_ended(self, run: RunDir, record: RunRecord) -> None:
        """An attempt has ended, and the run with it, or has paused; who asked for that is not told."""
        if (event := _ENDS.get(record.state)) and record.request is None:
            name = run.path.name.partition("-")[2]
            self._notices.send(Notice(event, record.reason or event, record.number, name))

    def queue_changed(self, running: int, waiting: int, disk_full: str | None) -> None:
        """Tell when the last run has ended, and when the disk has become full."""
        if self._was_busy and not running:
            left = f", {waiting} wait for something else" if waiting else ""
            self._notices.send(Notice("queue_empty", f"nothing runs any more{left}"))
        if disk_full and not self._was_full:
            self._notices.send(Notice("disk_full", disk_full))
        self._was_busy, self._was_full = bool(running), bool(disk_full)

    @property
    def due(self) -> bool:
        """Whether there is something to look for in the store, and it is time to."""
        spending = self.config.spending
        money = spending.price_per_hour is not None or spending.most is not None or bool(self._spent)
        return (money or self._notices.channels.any) and time.monotonic() - self._looked >= LOOK_S

    def look(self, cursor: duckdb.DuckDBPyConnection) -> float:
        """Look for flags and for runs that no longer get on; return what all runs have cost so far."""
        self._looked = time.monotonic()
        notices: list[Notice] = []
        if self._notices.channels.any:
            notices = [*self._watch.flags(cursor), *self._watch.stalls(cursor, self.config.stalled_after)]
        now = spent(cursor, self._home)
        notices += self.config.spending.notices(now if self._spent is None else self._spent, now)
        self._spent = now
        for notice in notices:
            self._notices.send(notice)
        return now
