"""Files of a cache: whole or not at all, with a checksum, and no more than so many.

One that is missing or damaged costs its computation, nothing else; a full disk is no reason to stop.
"""

from __future__ import annotations

import os
import zlib
from contextlib import suppress
from pathlib import Path

from finetui.files import make_private, read_regular, write_whole_file


def read(path: Path) -> bytes:
    """Read a file; empty where there is none, or where it has changed since it was written."""
    try:
        content = read_regular(path)
        os.utime(path)  # the files not used for longest are deleted first
    except OSError:
        return b""
    if _has_checksums(path):
        return content
    checksum, _, rest = content.partition(b"\n")
    return rest if checksum == _checksum(rest) else b""


def write(path: Path, content: bytes, max_files: int, max_bytes: int | None = None) -> None:
    """Write a file, and delete those not used for longest until the directory has no more than `max_files` and
    `max_bytes`; one that is larger than that is not written.
    """
    if max_bytes is not None and len(content) > max_bytes:
        return
    with suppress(OSError):
        make_private(path.parent)  # a command may make a home before a daemon does
        write_whole_file(path, content if _has_checksums(path) else _checksum(content) + b"\n" + content)
        _delete_old(path.parent, max_files, max_bytes)


def _delete_old(directory: Path, max_files: int, max_bytes: int | None) -> None:
    found = {file: file.stat() for file in directory.glob("*")}
    taken = 0
    for place, file in enumerate(sorted(found, key=lambda file: -found[file].st_mtime)):
        taken += found[file].st_size
        if place >= max_files or (max_bytes is not None and taken > max_bytes and place > 0):
            file.unlink(missing_ok=True)


def _has_checksums(path: Path) -> bool:
    """Whether the format has checksums of its own."""
    return path.suffix == ".npz"


def _checksum(content: bytes) -> bytes:
    return b"%08x" % zlib.crc32(content)
