"""Databases of other tools, SQLite files, opened to be read alone."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any
from urllib.parse import quote

from engine.importing.foreign import Unusable

WAIT_S = 10.0  # for a tool that is writing


class Database:
    """One such file, while it is open."""

    def __init__(self, path: Path, connection: sqlite3.Connection) -> None:
        self.path, self._connection = path, connection

    def rows(self, sql: str, *values: Any) -> Iterator[sqlite3.Row]:
        """Yield rows. Raises Unusable."""
        with _told(self.path):
            yield from self._connection.execute(sql, values)

    def columns(self, table: str) -> set[str]:
        """Return the columns of a table, which differ between versions of a tool; none where it has no such table."""
        return {row["name"] for row in self.rows(f"PRAGMA table_info({table})")}


@contextmanager
def opened(path: Path) -> Iterator[Database]:
    """Open a database, in which nothing is changed. Raises Unusable."""
    with _told(path):
        connection = sqlite3.connect(f"file:{quote(str(path))}?mode=ro", uri=True, timeout=WAIT_S)
    with closing(connection):
        connection.row_factory = sqlite3.Row
        connection.text_factory = lambda data: data.decode("utf-8", "replace")
        yield Database(path, connection)


@contextmanager
def _told(path: Path) -> Iterator[None]:
    try:
        yield
    except sqlite3.Error as error:
        raise Unusable(f"{path}: {error}") from None


def is_database(path: Path) -> bool:
    """Whether a file begins as SQLite's do."""
    try:
        with path.open("rb") as file:
            return file.read(16) == b"SQLite format 3\0"
    except OSError:
        return False
