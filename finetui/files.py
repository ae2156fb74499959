"""Writing a directory whole or not at all."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

from finetui.log import sync_directory


def write_whole(path: Path, fill: Callable[[Path], None]) -> None:
    """Make a directory: filled under a temporary name, synced, renamed. Replaces an existing one.

    Whatever goes wrong is raised as it is; nothing is left behind then, and an existing directory stays.
    """
    temporary, old = (path.with_name(f".{path.name}.{os.getpid()}.{end}") for end in ("tmp", "old"))
    try:
        shutil.rmtree(temporary, ignore_errors=True)
        temporary.mkdir(parents=True)
        fill(temporary)
        for inner in [*temporary.rglob("*"), temporary]:
            sync_directory(inner)  # fsync works on files opened for reading as well
        if path.exists():
            path.rename(old)  # at no moment is a half-deleted one there under the name
        temporary.rename(path)
        sync_directory(path.parent)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
        shutil.rmtree(old, ignore_errors=True)
