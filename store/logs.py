"""Reading the append-only logs from a byte offset on: whole lines only."""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

from finetui.files import open_regular
from finetui.log import parse_line
from store.line_fields import BadLine

CHUNK = 4 << 20
LONGEST_LINE = 128 << 20  # bytes; none that finetui writes comes near
_LONGEST_HEADER = 4096


class Line(NamedTuple):
    """One whole line of a log (without its newline) and the byte offset just after it."""

    text: bytes
    end: int

    @property
    def start(self) -> int:
        return self.end - len(self.text) - 1


def header_id(path: Path) -> str | None:
    """The identity in the log's first line; None while there is no whole line, '' where it has no identity."""
    try:
        with open_regular(path) as file:
            first = file.readline(_LONGEST_HEADER)
    except FileNotFoundError:
        return None
    if not first.endswith(b"\n"):
        return None if len(first) < _LONGEST_HEADER else ""
    try:
        identity = json.loads(first).get("log")
    except (ValueError, AttributeError, RecursionError):
        return ""
    return identity if isinstance(identity, str) else ""


def whole_lines(path: Path, offset: int) -> Iterator[Line]:
    """Every whole line after `offset` up to the file's present end; a torn last line is left for later."""
    with open_regular(path) as file:
        file.seek(offset)
        end = os.fstat(file.fileno()).st_size
        rest = b""
        while offset + len(rest) < end:
            data = rest + file.read(CHUNK)
            if len(data) == len(rest):
                return  # the file has shrunk
            *lines, rest = data.split(b"\n")
            if len(rest) > LONGEST_LINE:
                raise OSError(errno.EFBIG, f"a line has more than {LONGEST_LINE >> 20} MiB", str(path))
            for text in lines:
                offset += len(text) + 1
                yield Line(text, offset)


def parse(text: bytes) -> dict[str, Any]:
    """The object on a line. Raises BadLine."""
    entry = parse_line(text)
    if isinstance(entry, str):
        raise BadLine(entry)
    if not isinstance(entry.get("kind"), str):
        raise BadLine("not an object with a kind")
    # JSON can spell half a surrogate pair, which no database takes.
    return well_formed(entry) if b"\\ud" in text or b"\\uD" in text else entry


def well_formed(value: Any) -> Any:
    """The same without half surrogate pairs."""
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return _mended(value)
    return value


def _mended(value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, dict):
        return {_mended(key): _mended(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_mended(inner) for inner in value]
    return value


def time_before(path: Path, offset: int) -> float:
    """The time on the last readable line before `offset`, so that a rebuild says the same; else 0."""
    start = max(0, offset - 65_536)
    with open_regular(path) as file:
        file.seek(start)
        before = file.read(offset - start)
    for text in reversed(before.split(b"\n")):
        try:
            return float(parse(text)["t"])
        except (BadLine, KeyError, TypeError, ValueError):
            continue
    return 0.0
