"""Append-only JSON Lines logs: the journal, a worker's events, the hardware sampler's samples.

One object a line, one `write()` a line on an `O_APPEND` descriptor, so that a reader never sees two lines
mixed and a killed writer leaves at most one torn last line. The format is in docs/architecture.md. JSON has no NaN and
no infinities; they are written as the strings "NaN", "Infinity" and "-Infinity", which `float` reads back.
"""

from __future__ import annotations

import codecs
import json
import math
import os
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from finetui.files import append_regular, open_regular

VERSION = 1
CUT_OFF = "cut off: its writer was killed, or the disk full"  # such a line was never acknowledged


class LogWriter:
    """Appends to one log; writes the header if the file is new. Not for use from several threads."""

    def __init__(self, path: Path, source: str, run: int | None = None, attempt: int | None = None) -> None:
        path.parent.mkdir(parents=True, exist_ok=True)
        self._torn = False
        self._fd = append_regular(path)
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
        self.append(line_of(kind, **fields), sync=sync)

    def append(self, line: bytes, *, sync: bool = False) -> None:
        """Append a line that `line_of` has made, or whoever is quicker at it. Raises OSError (disk full)."""
        # After a write that failed half way (disk full), start on a fresh line: only the torn one is lost.
        data = b"\n" + line if self._torn else line
        self._torn = True
        while data:  # a short write happens only when the disk is nearly full
            data = data[os.write(self._fd, data) :]
        self._torn = False
        if sync:
            os.fsync(self._fd)

    def close(self, *, sync: bool = True) -> None:
        """Without `sync`, whoever made the file sees to it that it comes to the disk."""
        if sync:
            os.fsync(self._fd)
        os.close(self._fd)
        self._fd = -1  # the number may soon be another file's

    def _end_torn_line(self, path: Path) -> None:
        """A writer killed inside a line left no newline; end it, so that ours starts on a fresh line."""
        with open_regular(path) as file:
            file.seek(-1, os.SEEK_END)
            if file.read(1) != b"\n":
                os.write(self._fd, b"\n")


def line_of(kind: str, **fields: Any) -> bytes:
    """Return a line of now, unless the fields have another `t`."""
    return (_dumped({"kind": kind, "t": time.time(), **fields}) + "\n").encode()


def _dumped(entry: dict[str, Any]) -> str:
    try:
        return json.dumps(entry, separators=(",", ":"), allow_nan=False)
    except ValueError:
        return json.dumps(spelled(entry), separators=(",", ":"))


def spelled(value: Any) -> Any:
    """The same with NaN and infinities as text."""
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, dict):
        return {key: spelled(inner) for key, inner in value.items()}
    return [spelled(inner) for inner in value] if isinstance(value, list | tuple) else value


def read_log(path: Path) -> Iterator[dict[str, Any]]:
    """Yield every whole, readable line of a log; a torn last line and unreadable ones are skipped."""
    return (entry for _, entry in numbered(path) if isinstance(entry, dict))


def numbered(path: Path) -> Iterator[tuple[int, dict[str, Any] | str]]:
    """Yield every whole line of a log: its number, from 1, and the object on it, or in words why there is none. A torn
    last line and empty ones are skipped; nothing where there is no file. Raises OSError where it cannot be read.
    """
    try:
        file = open_regular(path)
    except FileNotFoundError:
        return
    with file:
        for number, line in enumerate(file, 1):
            if line.endswith(b"\n") and line.strip():
                yield number, parse_line(line)


def last_entries(path: Path, window: int = 1 << 16) -> list[dict[str, Any]]:
    """Return the whole, readable lines in the last `window` bytes of a log, last one first."""
    data = tail(path, window)
    entries = map(parse_line, reversed(data[: data.rfind(b"\n") + 1].splitlines()))
    return [entry for entry in entries if isinstance(entry, dict)]


def parse_line(line: bytes) -> dict[str, Any] | str:
    """Return the object on a line of a log, or in words why there is none."""
    try:
        # As text, for of bytes json.loads guesses the encoding at every line; a rebuild reads millions.
        entry = json.loads(line.removeprefix(codecs.BOM_UTF8).decode("utf-8", "surrogatepass"))
    except (ValueError, RecursionError) as error:
        return f"not valid JSON: {error}" if line.rstrip().endswith(b"}") else CUT_OFF
    return entry if isinstance(entry, dict) else "not an object"


def tail(path: Path, window: int) -> bytes:
    """Return the last `window` bytes of a file, fewer if it is shorter; none if it cannot be read."""
    try:
        with open_regular(path) as file:
            file.seek(max(0, file.seek(0, os.SEEK_END) - window))
            return file.read(window)
    except OSError:
        return b""
