"""The file without what it no longer needs: DuckDB uses the space of deleted rows again, but never gives it back
(findings/duckdb_delete_grows.sh). So everything is written to a new file beside it, which takes its place.
"""

from __future__ import annotations

import shutil
from pathlib import Path

import duckdb

from finetui.errors import StoreError
from finetui.files import sync

WORTH_IT = 16 << 20  # bytes that hold nothing
_ALIAS = "compacted"


def new_path(path: Path) -> Path:
    return path.with_name(f"{path.name}.compact")


def paths_of(path: Path) -> list[str]:
    """Every name that DuckDB uses while it writes the new file."""
    return [f"{new_path(path)}{end}" for end in ("", ".wal", ".wal.checkpoint", ".wal.recovery")]


def spare(cursor: duckdb.DuckDBPyConnection) -> tuple[int, int]:
    """Return how many bytes of the file hold nothing, and how many it has."""
    sql = (
        "SELECT free_blocks * block_size, total_blocks * block_size FROM pragma_database_size()"
        " WHERE database_name = current_database()"
    )
    free, total = cursor.execute(sql).fetchall()[0]
    return free, total


def is_due(free: int, total: int) -> bool:
    """Whether it is worth doing unasked: more than half of the file holds nothing."""
    return free > WORTH_IT and 2 * free > total


def write(cursor: duckdb.DuckDBPyConnection, path: Path) -> Path:
    """Write all rows of a file at rest to the new one. Raises StoreError where there is no room, or it is not whole."""
    new = new_path(path)
    clear(path)
    free, total = spare(cursor)
    if (room := shutil.disk_usage(path.parent).free) < total - free:
        raise StoreError(
            f"the new file would have {(total - free) >> 20:,} MiB, and {room >> 20:,} are free on the disk",
            "disk",
        )
    name = cursor.execute("SELECT current_database()").fetchall()[0][0]
    try:
        cursor.execute(f"ATTACH '{str(new).replace(chr(39), chr(39) * 2)}' AS {_ALIAS}")
        try:
            cursor.execute(f'COPY FROM DATABASE "{name}" TO {_ALIAS}')
            cursor.execute(f"DELETE FROM {_ALIAS}.meta WHERE key = 'words'")  # comments do not come along
            _compare(cursor, name)
        finally:
            cursor.execute(f"DETACH {_ALIAS}")
    except BaseException:
        clear(path)
        raise
    return new


def put_in_place(new: Path, path: Path) -> None:
    """The old file is closed. Without its log it is a little behind, and with the new one the log would be wrong."""
    path.with_name(path.name + ".wal").unlink(missing_ok=True)
    new.chmod(path.stat().st_mode & 0o777)
    new.replace(path)
    sync(path.parent)


def clear(path: Path) -> None:
    """Delete what a process that was killed has left."""
    for left in paths_of(path):
        Path(left).unlink(missing_ok=True)


def _compare(cursor: duckdb.DuckDBPyConnection, name: str) -> None:
    sql = f"SELECT table_name FROM duckdb_tables() WHERE database_name = '{name}' AND table_name <> 'meta'"
    for (table,) in cursor.execute(sql).fetchall():
        counts = [
            cursor.execute(f'SELECT count(*) FROM "{one}"."{table}"').fetchall() for one in (name, _ALIAS)
        ]
        if counts[0] != counts[1]:
            raise StoreError(f"the new file lacks rows of {table}; the old one is kept", "internal")
