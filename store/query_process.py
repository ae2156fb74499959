"""One statement in a process of its own (store/query_worker.py), over a copy of the database, since DuckDB lets no
other process open the file. It can be killed at any moment, and costs the daemon nothing but the copy.
"""

from __future__ import annotations

import json
import logging
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pyarrow as pa

from finetui.errors import StoreError
from finetui.start import program
from store import snapshot
from store.database_errors import interrupted
from store.limits import MIB, Limits
from store.projection import Projection

log = logging.getLogger(__name__)

LOOK_S = 0.05  # between looks whether it is to stop
SPARE_DISK = 1 << 30  # bytes that a copy has to leave


class QueryProcess:
    """`with process.started(places): process.reader()` as of a statement. `interrupt`, from any thread and at
    any time, ends it: duckdb.InterruptException is raised then.
    """

    def __init__(self, projection: Projection, sql: str, limits: Limits) -> None:
        self._projection, self._sql, self._limits = projection, sql, limits
        self._stopped = threading.Event()
        self._process: subprocess.Popen[bytes] | None = None

    def interrupt(self) -> None:
        self._stopped.set()
        if self._process is not None:
            self._process.kill()

    @contextmanager
    def started(self, places: threading.Semaphore) -> Iterator[None]:
        """Wait for a place, copy the database and start the process; it is gone afterwards. Raises StoreError."""
        while not places.acquire(timeout=LOOK_S):
            self._raise_if_stopped()
        try:
            with _folder(self._projection.path) as folder:
                copy = folder / self._projection.path.name
                self._copy(copy)
                with self._run(copy, folder):
                    yield
        finally:
            places.release()

    def reader(self) -> _Batches:
        """The rows as they come. Raises StoreError, where the statement fails."""
        assert self._process is not None
        assert self._process.stdout is not None
        try:
            reader = pa.ipc.open_stream(self._process.stdout)
        except (pa.ArrowException, OSError):
            self._raise_if_failed()
            raise
        return _Batches(reader, self)

    def _raise_if_stopped(self) -> None:
        if self._stopped.is_set():
            raise interrupted()

    def _raise_if_failed(self) -> None:
        """Once its output has ended: the statement's own error, or that it was killed."""
        assert self._process is not None
        assert self._process.stderr is not None
        told = self._process.stderr.read()
        code = self._process.wait()
        self._raise_if_stopped()
        if code == 0:
            return
        if code < 0:
            raise StoreError(
                f"the process of the query ended with signal {-code}, as one does that has no memory left; ask for"
                " less",
                "refused",
            )
        try:
            error = json.loads(told)
        except ValueError:
            log.error("the process of a query failed: %s", told.decode(errors="replace"))
            raise StoreError("the process of the query failed; daemon.log says how", "internal") from None
        raise StoreError(error["message"], error["kind"])

    def _copy(self, copy: Path) -> None:
        path = self._projection.path
        size = path.stat().st_size
        free = shutil.disk_usage(copy.parent).free
        if free < size + SPARE_DISK:
            raise StoreError(
                f"this query needs a copy of the database ({size // MIB:,} MiB), and {free // MIB:,} MiB are free on"
                " the disk; free some space, or ask without functions such as replace",
                "disk",
            )
        try:
            with self._projection.at_rest(self._raise_if_stopped) as path:
                snapshot.copy_file(path, copy, lambda copied, of: self._raise_if_stopped())
        except OSError as error:
            raise StoreError(f"the database was not copied: {error.strerror or error}", "disk") from None

    @contextmanager
    def _run(self, copy: Path, folder: Path) -> Iterator[None]:
        request = {
            "sql": self._sql,
            "database": str(copy),
            "settings": {**self._limits.of_database, "temp_directory": str(folder / "temporary")},
            "memory": self._limits.resident_bytes,
        }
        self._process = process = subprocess.Popen(
            program("store.query_worker"),
            stdin=subprocess.PIPE,  # stays open: it ends where the daemon does
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd="/",
            start_new_session=True,
        )
        assert process.stdin is not None
        try:
            self._raise_if_stopped()
            process.stdin.write(json.dumps(request).encode() + b"\n")
            process.stdin.flush()
            yield
        except BrokenPipeError:
            self._raise_if_failed()
            raise
        finally:
            process.kill()
            process.wait()
            for pipe in (process.stdin, process.stdout, process.stderr):
                with suppress(OSError):
                    assert pipe is not None
                    pipe.close()


class _Batches:
    """The batches of the answer; where there are no more, whether it is whole."""

    def __init__(self, reader: pa.RecordBatchStreamReader, process: QueryProcess) -> None:
        self.schema: pa.Schema = reader.schema
        self._reader, self._process = reader, process

    def __iter__(self) -> Iterator[pa.RecordBatch]:
        try:
            yield from self._reader
        except (pa.ArrowException, OSError):  # cut off
            self._process._raise_if_failed()
            raise
        self._process._raise_if_failed()

    def close(self) -> None:
        self._reader.close()


def folder_of(database: Path) -> Path:
    """Where the copies of a database lie."""
    return database.with_name(f"{database.name}.queries")


@contextmanager
def _folder(database: Path) -> Iterator[Path]:
    parent = folder_of(database)
    parent.mkdir(mode=0o700, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=parent, ignore_cleanup_errors=True) as folder:
        yield Path(folder)


def clear(database: Path) -> None:
    """Delete what a daemon that was killed has left."""
    shutil.rmtree(folder_of(database), ignore_errors=True)
