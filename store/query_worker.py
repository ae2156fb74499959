"""The process that answers one statement over a copy of the database, for the daemon (store/query_process.py), which
kills it when it is to stop.

Reads one line of JSON, writes an Arrow stream; an error comes as JSON on stderr, with exit code 1. It gives way to
other processes, holds itself to the memory that it may have, is the first that a system without memory kills, and ends
when its input does.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from contextlib import suppress
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa

from finetui.errors import StoreError
from store.answers import Statement, of_database
from store.guard import check, nested_too_deeply, told
from store.memory_limit import MemoryLimit
from store.no_pandas import keep_pandas_out

GIVES_WAY = 10  # of 19


def main() -> int:
    """Answer the one request; returns the exit code."""
    keep_pandas_out()
    request = json.loads(_read_line())
    threading.Thread(target=_end_with_input, daemon=True).start()
    _give_way(request["memory"])
    try:
        _answer(request)
    except BrokenPipeError:
        return 1  # nobody wants more
    except StoreError as error:
        _tell(error)
        return 1
    except RecursionError:
        _tell(nested_too_deeply())
        return 1
    except (duckdb.Error, pa.ArrowException, OSError, MemoryError) as error:
        _tell(told(_of_database(error)))
        return 1
    return 0


def _answer(request: dict[str, Any]) -> None:
    with duckdb.connect(request["database"], read_only=True, config=request["settings"]) as connection:
        connection.execute("SET enable_external_access = false; SET lock_configuration = true")
        check(connection, request["sql"])  # of a long one it is the first time
        reader = Statement(connection, request["sql"]).reader()
        with pa.ipc.new_stream(sys.stdout.buffer, reader.schema) as stream:
            for batch in reader:
                stream.write_batch(batch)
        sys.stdout.buffer.flush()


def _of_database(error: Exception) -> duckdb.Error:
    """Classes are lost on the way through Arrow, and not all that allocates is the database."""
    if isinstance(error, duckdb.Error):
        return error
    return duckdb.OutOfMemoryException() if isinstance(error, MemoryError) else of_database(str(error))


def _tell(error: StoreError) -> None:
    sys.stderr.write(json.dumps({"kind": error.kind, "message": str(error)}))
    sys.stderr.flush()


def _give_way(memory: int) -> None:
    os.nice(GIVES_WAY)
    with suppress(OSError):
        Path("/proc/self/oom_score_adj").write_text("1000")
    MemoryLimit(memory)


def _read_line() -> bytes:
    line = bytearray()
    while not line.endswith(b"\n"):
        if not (more := os.read(0, 1 << 16)):
            sys.exit(1)
        line += more
    return bytes(line)


def _end_with_input() -> None:
    os.read(0, 1)
    os._exit(1)


if __name__ == "__main__":
    os._exit(main())  # all is written; a thread still waits for the input
