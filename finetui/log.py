"""Append-only JSON Lines logs: the journal, a worker's events, the hardware sampler's samples.

One object a line, one `write()` a line on an `O_APPEND` descriptor, so that a reader never sees two lines
mixed and a killed writer leaves at most one torn last line. The format is in docs/architecture.md.
"""

from __future__ import annotations

import json
import os
import time
import uuid
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

VERSION = 1


class LogWriter:
    """Appends to one log; writes the header if the file is new. Not for use from several threads."""

    def __init__(self, path: Path, source: str, run: int | None = None, attempt: int | None = None) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._torn = False
        self._fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            if os.fstat(self._fd).st_size == 0:
                self.write(
                    "header", log=str(uuid.uuid4()), version=VERSION, source=source, run=run, attempt=attempt
                )
            else:
                self._end_torn_line(path)
        except OSError:  # disk full: whoever tries again opens the file again
            os.close(self._fd)
            raise

    def write(self, kind: str, *, sync: bool = False, **fields: Any) -> None:
        """Append one line; with `sync`, return only when it is on disk. Raises OSError (disk full)."""
        line = json.dumps({"kind": kind, "t": time.time(), **fields}, separators=(",", ":")) + "\n"
        # After a write that failed half way (disk full), start on a fresh line: only the torn one is lost.
        data = (b"\n" if self._torn else b"") + line.encode()
        self._torn = True
        while data:  # a short write happens only when the disk is nearly full
            data = data[os.write(self._fd, data) :]
        self._torn = False
        if sync:
            os.fsync(self._fd)

    def close(self) -> None:
        os.fsync(self._fd)
        os.close(self._fd)
        self._fd = -1  # the number may soon be another file's

    def _end_torn_line(self, path: Path) -> None:
        """A writer killed inside a line left no newline; end it, so that ours starts on a fresh line."""
        with path.open("rb") as file:
            file.seek(-1, os.SEEK_END)
            if file.read(1) != b"\n":
                os.write(self._fd, b"\n")


def read_log(path: Path) -> Iterator[dict[str, Any]]:
    """Yield every whole, readable line of a log; a torn last line and unreadable ones are skipped."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return
    yield from _readable(data[: data.rfind(b"\n") + 1].splitlines())


def last_entries(path: Path, window: int = 1 << 16) -> list[dict[str, Any]]:
    """Return the whole, readable lines in the last `window` bytes of a log, last one first."""
    data = tail(path, window)
    return list(_readable(reversed(data[: data.rfind(b"\n") + 1].splitlines())))


def _readable(lines: Iterable[bytes]) -> Iterator[dict[str, Any]]:
    for line in lines:
        try:
            entry = json.loads(line)
        except ValueError:
            continue
        if isinstance(entry, dict):
            yield entry


def tail(path: Path, window: int) -> bytes:
    """Return the last `window` bytes of a file, fewer if it is shorter; none if it does not exist."""
    try:
        with path.open("rb") as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - window))
            return file.read()
    except FileNotFoundError:
        return b""
