"""A log that never fails: while its disk is full, lines wait in memory, and are written when there is room again."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from pathlib import Path

from finetui.log import LogWriter, line_of

MOST_WAITING = 10_000  # lines; the oldest go first


class PatientLog:
    """Appends to a worker's log. Not for use from several threads."""

    def __init__(self, path: Path, run: int, warn: Callable[[str], None]) -> None:
        """`warn` gets each problem in a sentence. Raises OSError where the log cannot be made."""
        self._log = LogWriter(path, "worker", run, 1)
        self._warn = warn
        self._waiting: deque[bytes] = deque(maxlen=MOST_WAITING)
        self._lost = 0

    def append(self, line: bytes, *, sync: bool = False) -> None:
        """Append a line, after those that wait; it waits as well if it cannot be written."""
        if self._waiting:
            self._wait(line)
            self._write_waiting()
            return
        try:
            self._log.append(line, sync=sync)
        except OSError as error:
            self._wait(line)
            self._warn(
                f"its log cannot be written ({error.strerror}); the last {MOST_WAITING:,} lines are kept until it can"
            )

    def close(self) -> None:
        """Write what waits, if that can be done, and close the log."""
        self._write_waiting()
        if self._waiting:
            self._lost += len(self._waiting)
            self._warn(f"its log cannot be written: {self._lost:,} lines are lost")
        try:
            self._log.close()
        except OSError as error:
            self._warn(f"its log may not be on the disk: {error.strerror}")

    def _wait(self, line: bytes) -> None:
        self._lost += len(self._waiting) == MOST_WAITING
        self._waiting.append(line)

    def _write_waiting(self) -> None:
        try:
            while self._waiting:
                self._log.append(self._waiting[0])
                self._waiting.popleft()
            if self._lost:
                loss = f"{self._lost:,} lines were lost while the disk was full"
                self._log.append(line_of("log", level="warning", message=loss))
                self._lost = 0
        except OSError:
            return
