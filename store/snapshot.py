"""A copy of the database for other tools: whole, of one moment, and it says of which (`meta`, key `snapshot`)."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import duckdb

from finetui.errors import StoreError, first_line
from finetui.files import whole_file
from store.projection import Projection

LOOK_S = 0.1  # between looks at how far the copy is


def write(
    projection: Projection, target: Path, tell: Callable[[int, int], object] = lambda copied, of: None
) -> float:
    """Write the copy, whole or not at all, in place of an older file; return the moment it is of, in Unix seconds.
    `tell` is called with the bytes copied, and how many there are; what it raises ends the copying. Raises StoreError.
    """
    store = projection.path
    if target.resolve() in (store.resolve(), _log_of(store).resolve()):
        raise StoreError(f"{target} is the database itself: name another file", "refused")
    try:
        with whole_file(target) as temporary:
            with projection.at_rest(lambda: tell(0, 0)) as path:
                taken = time.time()
                copy_file(path, temporary, tell)
            _mark(temporary, taken)
        _log_of(target).unlink(missing_ok=True)  # of the older file, left by whoever changed it
    except OSError as error:
        raise StoreError(f"{target} was not written: {error.strerror or error}", "disk") from None
    except duckdb.Error as error:
        raise StoreError(f"{target} was not written: {first_line(error)}", "disk") from None
    return taken


def copy_file(path: Path, copy: Path, tell: Callable[[int, int], object]) -> None:
    """Copy a database at rest, by a process of its own: see `Projection.at_rest`. Raises OSError, and what `tell`
    raises.
    """
    of = path.stat().st_size
    tell(0, of)
    command = ["cp", "--", str(path), str(copy)]
    with subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE) as copying:
        try:
            while copying.poll() is None:
                tell(copy.stat().st_size if copy.exists() else 0, of)
                try:
                    copying.wait(LOOK_S)
                except subprocess.TimeoutExpired:
                    continue
        except BaseException:
            copying.kill()
            raise
        assert copying.stderr is not None
        said = copying.stderr.read().decode(errors="replace").strip()
    if copying.returncode != 0:
        raise OSError(0, said.rpartition(": ")[2] or "it was not copied", str(copy))


def _mark(copy: Path, taken: float) -> None:
    moment = datetime.fromtimestamp(taken, UTC).isoformat(timespec="seconds")
    try:
        with duckdb.connect(str(copy), config={"memory_limit": "256MB", "threads": "1"}) as connection:
            connection.execute("DELETE FROM meta WHERE key = 'snapshot'")
            connection.execute(f"INSERT INTO meta VALUES ('snapshot', '{moment}')")
    finally:
        _log_of(copy).unlink(missing_ok=True)


def _log_of(path: Path) -> Path:
    return path.with_name(f"{path.name}.wal")
