"""`when_idle`: a command of the user, such as one that stops a rented machine, once nothing is left to do."""

from __future__ import annotations

import logging
import threading
import time
from dataclasses import dataclass

from engine.queue.notices import ended, run

log = logging.getLogger("finetui.idle")


@dataclass(frozen=True)
class WhenIdle:
    """From config.toml."""

    command: str = ""
    minutes: float = 30.0


class Idle:
    """How long nothing has happened. `begun`: when the daemon began, monotonic seconds."""

    def __init__(self, begun: float) -> None:
        self._busy_until = begun
        self._done = False

    def look(self, when: WhenIdle, *, work: bool, last_request: float, now: float) -> bool:
        """Whether the command is due. `work`: a run goes on, waits, or is held; `last_request`: when a screen or a
        command last asked for something. It is due once, until there has been work again.
        """
        if work:
            self._busy_until, self._done = now, False
            return False
        idle_s = now - max(self._busy_until, last_request)
        if self._done or not when.command or idle_s < 60 * when.minutes:
            return False
        self._done = True
        return True


def begin(when: WhenIdle) -> None:
    """Run the command in a thread of its own; it may well be the last thing that happens here."""
    log.info("nothing to do for %g minutes: when_idle_command is run", when.minutes)
    threading.Thread(target=_run, args=(when.command,), name="idle", daemon=True).start()


def _run(command: str) -> None:
    began = time.monotonic()
    code = run(["sh", "-c", command], "", {})
    log.info("when_idle_command %s after %.1f s", ended(code), time.monotonic() - began)
