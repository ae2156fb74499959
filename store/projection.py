"""The DuckDB file: opened once, by the daemon; rebuilt from the logs whenever it cannot be used."""

from __future__ import annotations

import logging
import os
import re
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import duckdb

from finetui.errors import StoreError
from store import compaction, schema
from store.database_errors import is_corruption, is_fatal, is_of_another_duckdb
from store.limits import Limits

log = logging.getLogger(__name__)

# Statements running on the old instance get this long to end after it has failed.
REOPEN_PATIENCE_S = 5.0
LOOK_S = 0.1  # between looks whether somebody still waits for the file
_WAL = ".wal"
LIMITS = Limits()


@dataclass(frozen=True)
class Notice:
    """What was done to the file, for the user, and when (Unix seconds)."""

    text: str
    t: float


class Projection:
    """One writer, many readers, over one DuckDB file. Thread-safe.

    `with projection.read() as cursor:` gives a cursor of its own; `with projection.write() as cursor:` a
    transaction, one at a time. A file that is corrupt, or of another schema version, is moved aside
    (`store.duckdb.aside-…`, the last one is kept) and an empty one made; `generation` then goes up, on which Ingest
    reads every log from its beginning. One of a later DuckDB is left as it is, and another one used. `notice` says to
    the user what was done. Raises StoreError `locked` when another process holds the file.
    """

    def __init__(self, path: Path, limits: Limits = LIMITS) -> None:
        self.path = path
        self.generation = 0
        self.notice: Notice | None = None
        self._settings = limits.of_database
        self._write_lock = threading.RLock()
        self._readers = threading.Condition()
        self._cursors: set[duckdb.DuckDBPyConnection] = set()
        self._reopening = False
        self._closed = False
        self.stuck = False  # the failed instance cannot be closed: only a new process opens the file again
        self._waiting: dict[int, str] = {}
        # None while the file cannot be opened (a full disk, say); every use tries again.
        self._root: duckdb.DuckDBPyConnection | None = self._open_or_rebuild()

    # ---- use -------------------------------------------------------------------------------------

    @contextmanager
    def read(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """A cursor of its own, closed afterwards. DuckDB's errors pass through; a FATAL one reopens."""
        root, cursor = self._cursor()
        fatal = None
        try:
            yield cursor
        except duckdb.Error as error:
            if is_fatal(error) or is_corruption(error):
                fatal = error
            raise
        finally:
            self._release(cursor)
            if fatal is not None:
                self._reopen(root, fatal)

    @contextmanager
    def write(self) -> Iterator[duckdb.DuckDBPyConnection]:
        """A transaction: committed at the end, rolled back on any error. A FATAL error reopens the file."""
        with self._write_lock:
            fatal = None
            root, cursor = self._cursor()
            try:
                cursor.begin()
                yield cursor
                cursor.commit()
            except BaseException as error:
                if isinstance(error, duckdb.Error) and (is_fatal(error) or is_corruption(error)):
                    fatal = error
                else:
                    _rollback(cursor)
                raise
            finally:
                self._release(cursor)
                if fatal is not None:
                    self._reopen(root, fatal)

    def known_dirs(self) -> dict[int, Path]:
        """Return the directory of every run that is in the tables."""
        sql = "SELECT run, dir FROM runs"
        try:
            with self.read() as cursor:
                found = cursor.execute(sql).fetchall()
        except duckdb.Error:  # a damaged file shows at its first use, and is made again
            with self.read() as cursor:
                found = cursor.execute(sql).fetchall()
        return {run: Path(path) for run, path in found}

    def set_waiting(self, waiting: Mapping[int, str]) -> None:
        """Say what each queued run waits for; runs not named wait for nothing. Cheap when unchanged."""
        wanted = dict(waiting)
        with self._write_lock:
            if wanted == self._waiting:
                return
            with self.write() as cursor:
                cursor.execute(
                    "UPDATE runs SET waiting_for = u.text"
                    " FROM (SELECT unnest($runs::INTEGER[]) AS run, unnest($texts::VARCHAR[]) AS text) u"
                    " WHERE runs.run = u.run AND waiting_for IS DISTINCT FROM u.text",
                    {"runs": list(wanted), "texts": list(wanted.values())},
                )
                cursor.execute(
                    "UPDATE runs SET waiting_for = NULL"
                    " WHERE waiting_for IS NOT NULL AND NOT list_contains($runs::INTEGER[], run)",
                    {"runs": list(wanted)},
                )
                missing = set(wanted) - {run for (run,) in cursor.execute("SELECT run FROM runs").fetchall()}
            # A run that ingest has not seen yet is tried again next time.
            self._waiting = {} if missing else wanted

    @contextmanager
    def at_rest(self, while_waiting: Callable[[], object] = lambda: None) -> Iterator[Path]:
        """The file, with all that is committed in it: writing waits meanwhile, reading does not. Only another process
        may open it, for a process that closes a file gives up its locks on it, and DuckDB's are among them
        (findings/duckdb_lock_lost.sh). What `while_waiting` raises ends the waiting for what is being written.
        """
        while not self._write_lock.acquire(timeout=LOOK_S):
            while_waiting()
        try:
            with self.read() as cursor:
                cursor.execute("CHECKPOINT")
            yield self.path
        finally:
            self._write_lock.release()

    def rebuild(self) -> None:
        """Start over with an empty file; Ingest then reads every log again."""
        with self._write_lock:
            self._replace_instance(lambda: self._start_over("asked to rebuild"))

    def compact(self) -> tuple[int, int]:
        """Put a new file with the same rows in the place of this one, which never gets smaller; returns the bytes of
        both. Writing waits meanwhile; reading waits for the exchange alone, and what is being read then is to be asked
        for again. Raises StoreError, and leaves the file as it is.
        """
        with self._write_lock:
            with self.read() as cursor:
                cursor.execute("CHECKPOINT")
                before = self.path.stat().st_size
                new = compaction.write(cursor, self.path)
            self._replace_instance(lambda: self._take(new), if_stuck=f"{self.path.name} is left as it is")
            return before, self.path.stat().st_size

    def _take(self, new: Path) -> duckdb.DuckDBPyConnection:
        compaction.put_in_place(new, self.path)
        return self._open_or_rebuild()

    def close(self) -> bool:
        """Close the file. False if a query that cannot be interrupted keeps it open: then only the end of the process
        does, which loses nothing.
        """
        with self._write_lock:
            self._closed = True
            return self._close_instance()

    # ---- cursors -------------------------------------------------------------------------------------

    def _cursor(self) -> tuple[duckdb.DuckDBPyConnection, duckdb.DuckDBPyConnection]:
        """The instance and a cursor on it."""
        with self._readers:
            self._readers.wait_for(lambda: not self._reopening or self._closed)
            if self._closed:
                raise StoreError("the store is closed", "unavailable")
            root, cursor = self._root, None
            try:
                if root is not None:
                    cursor = root.cursor()
                    self._cursors.add(cursor)
            except duckdb.Error as error:
                if not is_fatal(error):
                    raise
        if root is None or cursor is None:
            self._reopen(root, None)
            return self._cursor()
        return root, cursor

    def _release(self, cursor: duckdb.DuckDBPyConnection) -> None:
        with self._readers:
            self._cursors.discard(cursor)
            self._readers.notify_all()
        try:
            cursor.close()
        except duckdb.Error:
            log.debug("closing a cursor failed", exc_info=True)

    # ---- opening, reopening ----------------------------------------------------------------------------

    def _reopen(self, failed: duckdb.DuckDBPyConnection | None, cause: duckdb.Error | None) -> None:
        """Close the failed instance and open the file again: what was committed comes back."""
        with self._write_lock:
            if self._root is not failed or self._closed:
                return  # another thread has done it
            log.error("the database failed and is reopened: %s", cause)
            corrupt = cause is not None and is_corruption(cause)
            self._replace_instance(
                (lambda: self._start_over(str(cause), damaged=True)) if corrupt else self._open_or_rebuild
            )

    def _replace_instance(
        self, opener: Callable[[], duckdb.DuckDBPyConnection], if_stuck: str | None = None
    ) -> None:
        """`if_stuck`: what to say, where the old instance may go on."""
        with self._readers:
            self._reopening = True
        try:
            if not self._close_instance():
                if if_stuck:
                    raise StoreError(f"a query runs that cannot be stopped; {if_stuck}, ask again", "refused")
                self.stuck = True
                raise StoreError(
                    "the database failed while a query ran that cannot be stopped; ask again", "restarted"
                )
            self._root = opener()
            self._waiting = {}
        finally:
            with self._readers:
                self._reopening = False
                self._readers.notify_all()

    def _close_instance(self) -> bool:
        """Every connection has to go, or the file stays open under the failed instance. False if one is still in use:
        to close it would wait for its statement.
        """
        with self._readers:
            for cursor in self._cursors:
                cursor.interrupt()
            if not self._readers.wait_for(lambda: not self._cursors, timeout=REOPEN_PATIENCE_S):
                return False
            root, self._root = self._root, None
        try:
            if root is not None:
                root.close()
        except duckdb.Error:
            log.debug("closing the database failed", exc_info=True)
        return True

    def _open_or_rebuild(self) -> duckdb.DuckDBPyConnection:
        existed = self.path.exists()
        for path in (self.path, self._wal):
            if path.exists() and not path.is_file():  # DuckDB would wait for the other end of a pipe
                raise StoreError(
                    f"{path} is no file: move it away, the database is made from the logs", "home"
                )
        try:
            root = self._connect()
        except duckdb.Error as error:
            self._raise_if_not_ours_to_move(error)
            if is_of_another_duckdb(error):
                return self._open_beside()
            return self._start_over(str(error), damaged=True)
        if not existed:
            return self._make(root)
        try:
            found = dict(
                root.execute("SELECT key, value FROM meta WHERE key IN ('schema', 'words')").fetchall()
            )
            if found.get("schema") == schema.version():
                if found.get("words") != schema.version_of_words():
                    _replace_words(root)
                root.execute("SET lock_configuration = true")
                return root
        except duckdb.Error as error:
            root.close()
            return self._start_over(str(error), damaged=True)
        root.close()
        return self._start_over(f"its schema is {found.get('schema')}, not {schema.version()}")

    def _open_beside(self) -> duckdb.DuckDBPyConnection:
        """Use a file of our own beside one that a later DuckDB has written: it may be used again."""
        left, ours = self.path, ".".join(duckdb.__version__.split(".")[:2])
        self.path = left.with_name(f"{left.stem}-for-duckdb-{ours}{left.suffix}")
        sentence = (
            f"{left.name} was written by a later DuckDB than this one ({duckdb.__version__}): it is left as it is, and"
            f" {self.path.name} used instead, made from the logs"
        )
        self.notice = Notice(sentence, time.time())
        log.warning("%s", sentence)
        return self._open_or_rebuild()

    def _start_over(self, why: str, *, damaged: bool = False) -> duckdb.DuckDBPyConnection:
        aside = f"{self.path.name}.aside-{time.strftime('%Y%m%d-%H%M%S')}"
        for older in self.path.parent.glob(f"{self.path.name}.aside-*"):  # one is enough to look into
            older.unlink()
        for suffix in ("", _WAL):
            old = self.path.with_name(self.path.name + suffix)
            if old.exists():
                old.replace(self.path.with_name(aside + suffix))
        log.warning("%s is moved to %s and rebuilt from the logs: %s", self.path.name, aside, why)
        if damaged:
            kept = f"the old file is kept as {aside}"
            self.notice = Notice(
                f"the database was damaged and is made again from the logs; {kept}", time.time()
            )
        return self._make(self._connect())

    @property
    def _wal(self) -> Path:
        return self.path.with_name(self.path.name + _WAL)

    def _connect(self) -> duckdb.DuckDBPyConnection:
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        compaction.clear(self.path)
        root = duckdb.connect(
            str(self.path),
            config={
                **self._settings,
                "python_enable_replacements": "false",
                "autoinstall_known_extensions": "false",
                "autoload_known_extensions": "false",
                "allow_community_extensions": "false",
                "checkpoint_threshold": "256MB",
            },
        )
        # It reaches no file but its own, and the one that takes its place.
        root.execute(
            f"SET allowed_paths = {compaction.paths_of(self.path)}; SET enable_external_access = false"
        )
        return root

    def _make(self, root: duckdb.DuckDBPyConnection) -> duckdb.DuckDBPyConnection:
        # The first parameter that DuckDB binds in a process makes it import pandas, where that is installed (for
        # `datasets`): three times as long as all of these statements. So there is none here.
        version = f"INSERT INTO meta VALUES ('schema', '{schema.version()}')"
        root.execute(
            ";\n".join(["BEGIN", *schema.tables(), version, *schema.words(), _words_version(), "COMMIT"])
        )
        # Replaying a log that mixes DDL with data has had bugs; from here on it holds data alone.
        root.execute("CHECKPOINT")
        root.execute("SET lock_configuration = true")
        self.generation += 1
        return root

    def _raise_if_not_ours_to_move(self, error: duckdb.Error) -> None:
        message = str(error)
        if "Could not set lock" in message:
            holder = re.search(r"PID (\d+)", message)
            who = f"process {holder[1]}" if holder else "another process"
            raise StoreError(
                f"{self.path} is held by {who}; stop it, or ask it through its socket", "locked"
            ) from None
        if self.path.exists() and not os.access(self.path, os.R_OK | os.W_OK):
            raise StoreError(f"{self.path} cannot be read and written; check its owner and mode", "refused")
        if "No space left" in message:
            raise StoreError(f"the disk of {self.path} is full; free some space", "internal")


def _words_version() -> str:
    return f"INSERT INTO meta VALUES ('words', '{schema.version_of_words()}')"


def _replace_words(root: duckdb.DuckDBPyConnection) -> None:
    """Put the views, macros and comments of this version in the place of others; rows stay."""
    sql = "SELECT view_name FROM duckdb_views() WHERE NOT internal"
    old = [f"DROP VIEW {name}" for (name,) in root.execute(sql).fetchall()]
    sql = "SELECT DISTINCT function_name FROM duckdb_functions() WHERE NOT internal"
    old += [f"DROP MACRO TABLE {name}" for (name,) in root.execute(sql).fetchall()]
    root.execute(
        ";\n".join(
            [
                "BEGIN",
                *old,
                *schema.words(),
                "DELETE FROM meta WHERE key = 'words'",
                _words_version(),
                "COMMIT",
            ]
        )
    )
    root.execute("CHECKPOINT")


def _rollback(cursor: duckdb.DuckDBPyConnection) -> None:
    try:
        cursor.rollback()
    except duckdb.Error:
        log.debug("rolling back failed", exc_info=True)
