"""A snapshot as Parquet files for DuckDB, Spark or a lake, of which only those are written that have changed. It is a
process of its own, since the command line imports no DuckDB:

    python -m finetui.start store.parquet_export SNAPSHOT FOLDER HOME

prints a line of JSON each time that there is something: `{"done", "of"}`, and last `{"result"}` or `{"error"}`.
"""

from __future__ import annotations

import json
import signal
import sys
import threading
import time
from collections import defaultdict
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import duckdb

from finetui.errors import StoreError, first_line
from finetui.files import whole_file
from store import export_list, schema

# Tables with much for each run: a file for each, which does not change any more once the run has ended.
BY_RUN = ("metrics", "evals", "eval_examples", "samples", "drift_answers", "choice_answers", "events")
BY_DAY = "system_metrics"
# Parts of `metrics`, and what only finetui itself needs.
LEFT_OUT = ("metrics_live", "metrics_cold", "rollups", "ingest", "meta")
SAVE_S = 5.0  # between two writings of the list, which says after a kill what is done
TELL_S = 0.2
_UNIX = "Unix seconds"
_MOMENT = "CASE WHEN {0} BETWEEN -62135596800 AND 253402300799 THEN to_timestamp({0}) END"  # years 1 to 9999
_NULL = "__HIVE_DEFAULT_PARTITION__"  # what readers take for NULL in the name of a folder
_DAY = f"coalesce(strftime({_MOMENT.format('t')}, '%Y-%m-%d'), '{_NULL}')"


@dataclass(frozen=True)
class Part:
    """A file of the export: the rows of a table, or those for which `where` holds."""

    table: str
    path: str  # below the folder
    where: str | None
    without: str | None  # the column that is in the path
    stamp: str  # of its content


def export(
    snapshot: Path, folder: Path, home: str, tell: Callable[[int, int], object] = lambda done, of: None
) -> dict[str, Any]:
    """Bring a folder up to date; return what was done. The files of a run take their places together, once all of them
    are whole. The folder is one that `export_list.take` has taken. Raises StoreError, OSError, duckdb.Error.
    """
    written = export_list.read(folder, home)
    with duckdb.connect(config={"memory_limit": "1GB", "threads": "2"}) as connection:
        connection.execute(f"SET TimeZone = 'UTC'; ATTACH {_text(snapshot)} AS store (READ_ONLY); USE store")
        parts = _parts(connection)
        new = [
            part
            for part in parts
            if written.get(part.path) != part.stamp or not (folder / part.path).is_file()
        ]
        runs: defaultdict[str, list[Part]] = defaultdict(list)
        for part in new:
            runs[part.where or part.path].append(part)
        size, done, saved = 0, 0, time.monotonic()
        for together in runs.values():
            tell(done, len(new))
            size += _write(connection, folder, together)
            done += len(together)
            written.update({part.path: part.stamp for part in together})
            if time.monotonic() - saved > SAVE_S:
                export_list.save(folder, home, written)
                saved = time.monotonic()
        gone = _remove(folder, written.keys() - {part.path for part in parts})
    if new or gone:
        export_list.save(folder, home, {part.path: part.stamp for part in parts})
    return {"written": len(new), "unchanged": len(parts) - len(new), "removed": gone, "bytes": size}


def _parts(connection: duckdb.DuckDBPyConnection) -> list[Part]:
    """All files that belong to the export; those of runs first, and the table of runs last, so that whoever finds a run
    there finds its rows, too.
    """
    parts = []
    for table in BY_RUN:
        for run, stamp in _stamps(connection, table, "run"):
            name, where = (run, f"run = {run}") if run is not None else (_NULL, "run IS NULL")
            parts.append(Part(table, f"{table}/run={name}/data.parquet", where, "run", stamp))
    for day, stamp in _stamps(connection, BY_DAY, _DAY):
        parts.append(Part(BY_DAY, f"{BY_DAY}/day={day}/data.parquet", f"{_DAY} = '{day}'", None, stamp))
    whole = [name for name in schema.TABLES if name not in (*BY_RUN, BY_DAY, *LEFT_OUT, "runs")]
    for table in (*whole, "runs"):
        ((_, stamp),) = _stamps(connection, table, None)
        parts.append(Part(table, f"{table}.parquet", None, None, stamp))
    return parts


def _stamps(connection: duckdb.DuckDBPyConnection, table: str, by: str | None) -> list[tuple[Any, str]]:
    """Return what tells the content of a table from another, for each value of `by`."""
    grouped = "GROUP BY 1 ORDER BY 1" if by else ""
    sql = f"SELECT {by or 'NULL'}, count(*), coalesce(sum(hash(r)), 0) FROM {table} r {grouped}"
    form = schema.version()
    return [
        (value, f"{form}-{count}-{total:x}") for value, count, total in connection.execute(sql).fetchall()
    ]


def _write(connection: duckdb.DuckDBPyConnection, folder: Path, parts: list[Part]) -> int:
    """Return the bytes written."""
    with ExitStack() as stack:
        for part in parts:
            path = folder / part.path
            path.parent.mkdir(parents=True, exist_ok=True)
            temporary = stack.enter_context(whole_file(path))
            order = "ORDER BY key, step, attempt" if part.table == "metrics" else ""
            sql = f"SELECT {_columns(part)} FROM {part.table} WHERE {part.where or True} {order}"
            connection.execute(f"COPY ({sql}) TO {_text(temporary)} (FORMAT parquet, COMPRESSION zstd)")
    return sum((folder / part.path).stat().st_size for part in parts)


def _columns(part: Part) -> str:
    """The columns, with times as moments."""
    described = schema.TABLES.get(part.table, schema.TABLES["metrics_live"])[1]
    return ", ".join(
        f"{_MOMENT.format(name)} AS {name}" if _UNIX in comment else name
        for name, _, comment in described
        if name != part.without
    )


def _remove(folder: Path, paths: set[str]) -> int:
    """Remove the files of runs that are not there any more; return how many there were."""
    for path in paths:
        file = folder / path
        file.unlink(missing_ok=True)
        if file.parent != folder and file.parent.is_dir() and not any(file.parent.iterdir()):
            file.parent.rmdir()
    return len(paths)


def _text(path: Path) -> str:
    return "'" + str(path).replace("'", "''") + "'"


def main(snapshot: str, folder: str, home: str) -> int:
    told, stopping = time.monotonic(), threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stopping.set())

    def tell(done: int, of: int) -> None:
        nonlocal told
        if stopping.is_set():  # between the files of two runs: nothing half written is left
            sys.exit(1)
        if done and time.monotonic() - told > TELL_S:
            told = time.monotonic()
            print(json.dumps({"done": done, "of": of}))

    try:
        print(json.dumps({"result": export(Path(snapshot), Path(folder), home, tell)}))
        return 0
    except StoreError as error:
        said = str(error)
    except OSError as error:
        said = f"{error.filename or folder} cannot be written: {error.strerror or error}"
    except duckdb.Error as error:
        said = f"{folder} was not written: {first_line(error)}"
    print(json.dumps({"error": said}))
    return 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
