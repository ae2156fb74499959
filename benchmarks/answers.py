"""Whether one client's query keeps others waiting: `python -m benchmarks.answers [--points 5000000] [--seconds 8]`.

A home of ten series of --points / 10 points, and a daemon of its own. Each query is asked again and again for --seconds
by one client, or by eight; three others ask meanwhile for the run table, for the status and for a small query, five
times a second, and it is told how long they waited, and how much memory the daemon had at most.
"""

from __future__ import annotations

import argparse
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path

from engine.client import service
from finetui.client import Client
from finetui.daemon import connect
from finetui.errors import StoreError
from finetui.home import Home
from store.projection import Projection

QUERIES = {
    "nothing": None,
    "computes for long": "SELECT sum(a.range * b.range) FROM range(10000000) a, range(10000000) b",
    "a large answer": "SELECT * FROM metrics, range(100)",
    "a large sort": "SELECT * FROM metrics, range(10) ORDER BY hash(step, key, range)",
    "all the memory of the database": "SELECT list(range) FROM range(1000000000)",
    "long texts": "SELECT repeat('x', 100000) FROM range(100000)",
    "one function for long": "SELECT levenshtein(repeat('a', 200000), repeat('b', 200000))",
    "a join of 60 tables": "SELECT count(*) FROM "
    + ", ".join(f"runs r{i}" for i in range(60))
    + " WHERE "
    + " AND ".join(f"r{i}.run = r{i + 1}.run" for i in range(59)),
}
EACH_S = 0.2


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--points", type=int, default=5_000_000)
    parser.add_argument("--seconds", type=float, default=8.0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="finetui-") as scratch:
        home = Home(Path(scratch) / "home")
        home.create()
        fill(home, options.points)
        connect(home).close()
        try:
            print(
                "| one client asks | clients | others wait, median s | longest s | errors | peak MiB | told |"
            )
            print("|---|---|---|---|---|---|---|")
            for name, sql in QUERIES.items():
                for clients in (1, 8) if sql else (1,):
                    print(
                        f"| {name} | {clients} | {measure(home, sql, clients, options.seconds)} |", flush=True
                    )
        finally:
            service.stop(home)


def fill(home: Home, points: int) -> None:
    projection = Projection(home.store)
    with projection.write() as cursor:
        cursor.execute(
            "INSERT INTO metrics_cold SELECT 1, 1, s.range, 'train/metric_' || k.range, random(), 1.7e9 + s.range"
            " FROM range(10) k, range($n) s",
            {"n": points // 10},
        )
        cursor.execute(
            "INSERT INTO runs BY NAME SELECT range AS run, 'run-' || range AS name, 'finished' AS state, 0 AS created,"
            " '/nowhere' AS dir FROM range(1, 1000)"
        )
    projection.close()


def measure(home: Home, sql: str | None, clients: int, seconds: float) -> str:
    until = time.monotonic() + seconds
    waited: list[float] = []
    errors: list[str] = []
    told: list[str] = []
    with connect(home) as client:
        pid = client.pid
    others = [threading.Thread(target=_ask, args=(home, kind, until, waited, errors)) for kind in range(3)]
    hogs = [
        threading.Thread(target=_hog, args=(home, sql, until, told)) for _ in range(clients if sql else 0)
    ]
    peak = 0
    for thread in (*hogs, *others):
        thread.start()
    while any(thread.is_alive() for thread in (*hogs, *others)):
        peak = max(peak, _rss(pid))
        time.sleep(0.05)
    waited.sort()
    said = max(set(told), key=told.count) if told else ""
    return (
        f"{waited[len(waited) // 2]:.3f} | {waited[-1]:.2f} | {len(errors)} {' '.join(sorted(set(errors)))[:100]}"
        f" | {peak / 1024:,.0f} | {said[:120]}"
    )


def _ask(home: Home, kind: int, until: float, waited: list[float], errors: list[str]) -> None:
    client = connect(home)
    while time.monotonic() < until:
        started = time.perf_counter()
        try:
            match kind:
                case 0:
                    client.named("runs")
                case 1:
                    client.action("status")
                case _:
                    client.query("SELECT count(*) FROM runs")
        except StoreError as error:
            errors.append(str(error))
            with suppress(StoreError):
                client = connect(home)
        waited.append(time.perf_counter() - started)
        time.sleep(EACH_S)


def _hog(home: Home, sql: str, until: float, told: list[str]) -> None:
    client: Client = connect(home)
    while time.monotonic() < until:
        try:
            table = client.query(sql, timeout_s=max(1.0, until - time.monotonic()), limit=2**31)
            told.append(f"{table.num_rows:,} rows")
        except StoreError as error:
            told.append(str(error))
            time.sleep(0.1)
            with suppress(StoreError):
                client = connect(home)


def _rss(pid: int) -> int:
    """KiB."""
    with suppress(OSError, StopIteration):
        lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        return int(next(line for line in lines if line.startswith("VmRSS")).split()[1])
    return 0


if __name__ == "__main__":
    main()
