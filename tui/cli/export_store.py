"""`finetui export-store`: the store as Parquet files, a folder for each table and in it one for each run."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

from engine.basics.wording import moment, size
from finetui.daemon import connect
from finetui.errors import StoreError
from finetui.home import home
from finetui.lock import Lock
from finetui.start import program
from store import export_list
from tui.cli.output import out_path, print_json, say, waiting
from tui.cli.shape import iso

LEFT = (".*.parquet.*.tmp", ".*snapshot-*", "*/*/.*.parquet.*.tmp")  # by exports that were killed


def export_store(folder: Path, *, as_json: bool) -> None:
    """Bring a folder up to date with the store, from a snapshot that is removed again, and print its path."""
    folder = folder.expanduser().absolute()
    if not folder.parent.is_dir():
        raise StoreError(f"there is no directory {folder.parent}", "file")
    try:
        folder.mkdir(exist_ok=True)
        export_list.take(folder, str(home().path))
        lock = Lock(folder / export_list.LOCK)
        alone = lock.acquire()
    except OSError as error:
        raise StoreError(f"{folder} cannot be written: {error.strerror}", "file") from None
    if not alone:
        raise StoreError(f"another export is writing {folder}: wait for it, or name another folder", "file")
    snapshot = folder / f".snapshot-{os.getpid()}"
    try:
        for pattern in LEFT:
            for path in folder.glob(pattern):
                path.unlink()
        with connect() as client:
            client.drain(waiting())
            taken = client.snapshot(snapshot, waiting())
        done = _work(snapshot, folder)
    finally:
        snapshot.unlink(missing_ok=True)
        lock.release()
    if as_json:
        print_json({"path": str(folder), "taken": taken, "taken_at": iso(taken), **done})
        return
    removed = f", {done['removed']:,} removed" if done["removed"] else ""
    say(
        f"{done['written']:,} files written ({size(done['bytes'])}), {done['unchanged']:,} as they were{removed};"
        f" as of {moment(taken)}"
    )
    out_path(folder)


def _work(snapshot: Path, folder: Path) -> dict[str, Any]:
    """Have the files written by a process, since this one imports no DuckDB. Raises StoreError."""
    command = program("store.parquet_export", str(snapshot), str(folder), str(home().path))
    tell, told = waiting(), False
    with subprocess.Popen(
        command,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,  # a Ctrl-C reaches this process alone, which ends the other one
    ) as process:
        assert process.stdout is not None
        try:
            for line in process.stdout:
                entry = json.loads(line)
                if "error" in entry:
                    raise StoreError(entry["error"], "file")
                if "result" in entry:
                    return dict(entry["result"])
                tell(f"{entry['done']:,} of {entry['of']:,} files are written")
                told = True
        except BaseException:
            process.terminate()
            raise
        finally:
            if told:
                tell("")
    raise StoreError(f"{folder} is not complete: the process that writes it has ended; call it again", "file")
