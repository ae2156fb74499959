"""A thread that does one step again and again, and survives what goes wrong in it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable

log = logging.getLogger("finetui.daemon")

PAUSE_AFTER_ERROR_S = 1.0


class Repeater:
    """Calls `step` every `every()` seconds, or at once after `wake`. An exception is logged and kept as `problem`."""

    def __init__(self, name: str, step: Callable[[], object], every: Callable[[], float]) -> None:
        self._name, self._step, self._every = name, step, every
        self._wake = threading.Event()
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)
        self.problem: str | None = None  # what the last step failed with, None after a good one

    def start(self) -> None:
        self._thread.start()

    def wake(self) -> None:
        self._wake.set()

    def stop(self, wait_s: float | None = None) -> bool:
        """Let the step that is under way end, then stop. False if it does not end within `wait_s` seconds."""
        self._stopping.set()
        self._wake.set()
        if self._thread.is_alive():
            self._thread.join(wait_s)
        return not self._thread.is_alive()

    def _run(self) -> None:
        while not self._stopping.is_set():
            self._wake.clear()
            self._once()
            if self.problem is None:
                self._wake.wait(self._every())
            else:
                self._stopping.wait(PAUSE_AFTER_ERROR_S)

    def _once(self) -> None:
        try:
            self._step()
        except Exception as error:
            message = f"{self._name}: {type(error).__name__}: {error}"
            if message != self.problem:  # the same error again and again is logged once
                log.exception("unexpected in the thread %s", self._name)
            self.problem = message
        else:
            if self.problem:
                log.info("%s: works again", self._name)
            self.problem = None
