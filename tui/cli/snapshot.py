"""`finetui snapshot`: the database as a file for any other DuckDB tool."""

from __future__ import annotations

import time
from pathlib import Path

from engine.basics.wording import duration, moment, size
from finetui.daemon import connect
from finetui.errors import StoreError
from tui.cli.output import out_path, print_json, say, waiting
from tui.cli.shape import iso


def snapshot(path: Path, *, force: bool, as_json: bool) -> None:
    """Write the file, whole or not at all, with all that is in the logs by now, and print its path."""
    target = path.expanduser().absolute()
    _check(target, force=force)
    with connect() as client:
        client.drain(waiting())
        taken = client.snapshot(target, waiting())
    written = target.stat().st_size
    if as_json:
        print_json({"path": str(target), "bytes": written, "taken": taken, "taken_at": iso(taken)})
        return
    say(f"{size(written)}, as of {moment(taken)}")
    out_path(target)


def _check(target: Path, *, force: bool) -> None:
    """Raise StoreError where the file cannot be, or another one is there."""
    if target.is_dir():
        raise StoreError(f"{target} is a directory: name a file, as out.duckdb", "file")
    if not target.parent.is_dir():
        raise StoreError(f"there is no directory {target.parent}", "file")
    if target.exists() and not force:
        age = duration(max(0.0, time.time() - target.stat().st_mtime))
        raise StoreError(f"{target} is there already, written {age} ago; --force replaces it", "file")
