"""Writing a file or a directory whole or not at all: under a temporary name, synced, renamed, its directory
synced. And opening files that somebody may have replaced by something else: a pipe, a directory.

Killed at any moment, the old content is whole or the new one is. Whatever goes wrong is raised as it is, and nothing is
left behind then; a process that is killed may leave a file `.NAME.PID.tmp`.
"""

from __future__ import annotations

import errno
import json
import os
import shutil
import stat
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

LARGEST_JSON = 64 << 20  # bytes; run.json and its like have some thousand
_KINDS = {
    stat.S_IFIFO: "a pipe", stat.S_IFDIR: "a directory", stat.S_IFSOCK: "a socket",
    stat.S_IFCHR: "a device", stat.S_IFBLK: "a device",
}  # fmt: skip


def open_regular(path: Path) -> BinaryIO:
    """Open a file for reading. Raises OSError at once for what is no regular file, where opening might wait."""
    return os.fdopen(_regular(path, os.O_RDONLY), "rb")


def read_regular(path: Path) -> bytes:
    """Return a file's content. Raises OSError as `open_regular` does."""
    with open_regular(path) as file:
        return file.read()


def append_regular(path: Path) -> int:
    """Return a descriptor that appends to a file, made if missing, for its owner alone. Raises OSError at once for what
    is no regular file.
    """
    return _regular(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)


def _regular(path: Path, flags: int) -> int:
    try:
        fd = os.open(path, flags | os.O_NONBLOCK | os.O_CLOEXEC, 0o600)
    except OSError as error:
        if error.errno == errno.ENXIO:  # a pipe that nobody reads, or a socket
            raise _irregular(path, path.stat().st_mode) from None
        raise
    mode = os.fstat(fd).st_mode
    if not stat.S_ISREG(mode):
        os.close(fd)
        raise _irregular(path, mode)
    return fd


def _irregular(path: Path, mode: int) -> OSError:
    kind = _KINDS.get(stat.S_IFMT(mode), "something else")
    return OSError(errno.EINVAL, f"it is {kind}, not a file: move it away", str(path))


def read_json(path: Path) -> dict[str, Any]:
    """Return the object in a JSON file. Raises OSError, and ValueError where it has none."""
    with open_regular(path) as file:
        content = file.read(LARGEST_JSON + 1)
    if len(content) > LARGEST_JSON:
        raise ValueError(f"it has more than {LARGEST_JSON >> 20} MiB")
    try:
        body = json.loads(content)
    except RecursionError:
        raise ValueError("it is nested too deeply") from None
    if not isinstance(body, dict):
        raise ValueError("it holds no object")
    return body


def write_whole_file(path: Path, content: bytes | str) -> None:
    """Write a file, text as UTF-8; replaces an existing one."""
    with whole_file(path) as temporary:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)


def write_json(path: Path, body: dict[str, Any]) -> None:
    """Write a JSON file; replaces an existing one."""
    write_whole_file(path, json.dumps(body, indent=1))


def make_private(directory: Path) -> None:
    """Make a directory and those above it that are missing, closed to other users: `mkdir` closes the last one alone.
    Raises OSError.
    """
    for path in (*reversed(directory.parents), directory):
        if not path.is_dir():
            path.mkdir(mode=0o700, exist_ok=True)


@contextmanager
def whole_file(path: Path) -> Iterator[Path]:
    """The temporary name to write to, for what is not in memory as a whole. It becomes `path` at the end."""
    temporary = _beside(path, "tmp")
    try:
        yield temporary
        sync(temporary)
        temporary.replace(path)
        sync(path.parent)
    finally:
        temporary.unlink(missing_ok=True)


def write_directory(path: Path, fill: Callable[[Path], None]) -> None:
    """Make a directory, with what `fill` writes into the one that it is given; replaces an existing one."""
    temporary, old = _beside(path, "tmp"), _beside(path, "old")
    try:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        fill(temporary)
        for inner in [*temporary.rglob("*"), temporary]:
            sync(inner)
        if path.exists():
            path.rename(old)  # at no moment is a half-deleted one there under the name
        temporary.rename(path)
        sync(path.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)


def sync(path: Path) -> None:
    """Make a file's content, or a rename or a new entry in a directory, durable."""
    fd = os.open(path, os.O_RDONLY)  # fsync works on files opened for reading as well
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _beside(path: Path, end: str) -> Path:
    return path.with_name(f".{path.name}.{os.getpid()}.{end}")
