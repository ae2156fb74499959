"""A home for chaos.py: its processes, its workers, and what its store holds."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil

from benchmarks import chaos_faults
from finetui.home import Home
from store import Projection

ROOT = Path(__file__).parent.parent


def tables(projection: Projection) -> dict[str, list[str]]:
    """The rows of every table as text, in order; what says when something was read is left out."""
    found: dict[str, list[str]] = {}
    with projection.read() as cursor:
        names = [row[0] for row in cursor.execute("SELECT table_name FROM duckdb_tables()").fetchall()]
        for name in sorted(set(names) - {"log_offsets", "logs", "meta", "system_metrics"}):
            found[name] = sorted(map(repr, cursor.execute(f'SELECT * FROM "{name}"').fetchall()))
    return found


def ours(home: Home) -> list[psutil.Process]:
    """The living processes that belong to a home: by their arguments, or by their environment."""
    found = []
    for one in psutil.process_iter():
        with suppress(psutil.Error):
            if one.pid == os.getpid() or one.status() == psutil.STATUS_ZOMBIE:
                continue
            places = {one.environ().get("FINETUI_HOME"), one.environ().get("FINETUI_POOL")}
            if (
                str(home.path) in " ".join(one.cmdline())
                or str(home.path) in places
                or str(home.path / "pool") in places
            ):
                found.append(one)
    return found


@contextmanager
def at_home(kind: str, path: Path) -> Iterator[tuple[Home, chaos_faults.Clock | None]]:
    """A home of its own, with its pool, its clock, and workers that are real or made up."""
    home = Home(path)
    os.environ.update(FINETUI_HOME=str(path), FINETUI_POOL=str(path / "pool"), OMP_NUM_THREADS="1")
    os.environ["PYTHONPATH"] = os.pathsep.join([str(ROOT / "tests" / "engine"), str(ROOT)])
    os.environ.pop("FINETUI_WORKER_MODULE", None)
    if kind == "made up":
        os.environ["FINETUI_WORKER_MODULE"] = "fake_worker"
    home.create()
    home.config.write_text("concurrency = 3\nretry_wait_seconds = 0\ngrace_s = 5\n")
    clock = chaos_faults.Clock(path.with_name(f"{path.name}-clock"))
    faked = clock.environment()
    os.environ.update(faked)
    try:
        yield home, clock if faked else None
    finally:
        for name in faked:
            del os.environ[name]
        for one in ours(home):
            with suppress(psutil.Error):
                one.kill()
