"""Writing a file or a directory whole or not at all: under a temporary name, synced, renamed, its directory
synced.

Killed at any moment, the old content is whole or the new one is. Whatever goes wrong is raised as it is, and nothing is
left behind then; a process that is killed may leave a file `.NAME.PID.tmp`.
"""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any


def write_whole_file(path: Path, content: bytes | str) -> None:
    """Write a file, text as UTF-8; replaces an existing one."""
    with whole_file(path) as temporary:
        temporary.write_bytes(content.encode() if isinstance(content, str) else content)


def write_json(path: Path, body: dict[str, Any]) -> None:
    """Write a JSON file; replaces an existing one."""
    write_whole_file(path, json.dumps(body, indent=1))


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
