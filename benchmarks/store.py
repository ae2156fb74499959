"""What the store costs: `python -m benchmarks.store [--only curve live] [--points 1000000] [--out FILE.json]`.

- ingest: points/s from logs on disk to committed rows, against row-wise `executemany` of the same points
- table: the named query `runs` over --runs runs
- curve: one series of --points points in 400 buckets, beside nine others of the same length, or alone where it is very
  long; the same of a plain clustered table; their size, with odd times
- live: a series of --live points whose run goes on, against the same once it has ended
- many: --many runs of ten series of 10,000 steps: the curve of one, and of twenty, as the compare screen asks for it
- round: a round of the daemon while one run logs, beside --old runs that have ended (benchmarks/live_round.py)
- rebuild: 10,000 runs read into an empty database, by --build as well (benchmarks/rebuild.py)
- logging: what a call costs and a SIGKILL takes, beside other trackers (benchmarks/logging_cost.py)

All of it takes some 12 GB of disk and three quarters of an hour. Each file is deleted when it has been measured.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import duckdb
import pyarrow.parquet as pq

from benchmarks.live_round import KEYS, live_rounds, make_run, write_lines
from store import queries, settling
from store.ingest import Ingest
from store.projection import Projection
from store.queried import resolved
from store.writing import LIVE_ROWS

MANY = 20_000_000  # points of a series that is alone in its file
SLICE = 10_000_000  # points that are inserted at a time
MOVED = LIVE_ROWS // len(KEYS)  # points of one of ten series that the writer moves at a time
PARTS = ("ingest", "table", "curve", "live", "many", "round", "rebuild", "logging")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS)
    points = [1_000_000, 10_000_000, 100_000_000]
    parser.add_argument("--points", type=int, nargs="+", default=points, help="points of the one series")
    parser.add_argument("--live", type=int, default=10_000_000, help="points of the series that goes on")
    parser.add_argument("--runs", type=int, nargs="+", default=[10_000, 100_000], help="of the run table")
    parser.add_argument("--many", type=int, nargs="+", default=[20, 1000], help="runs of 100,000 points each")
    parser.add_argument(
        "--old", type=int, nargs="+", default=[0, 10_000, 100_000], help="runs beside a live one"
    )
    parser.add_argument("--lines", type=int, default=30_000, help="lines of 10 metrics to ingest")
    parser.add_argument("--slow-rows", type=int, default=3_000, help="rows for executemany")
    parser.add_argument("--build", type=Path, help="a checkout of an older commit, for rebuild")
    parser.add_argument(
        "--out", type=Path, help="write the figures here as JSON, but for rebuild and logging"
    )
    options = parser.parse_args()
    figures: dict[str, Any] = {
        "duckdb": duckdb.__version__,
        "cpus": os.cpu_count(),
        "load": os.getloadavg()[0],
    }
    parts: dict[str, list[Callable[[Path], dict[str, Any]]]] = {
        "ingest": [partial(ingest, lines=options.lines, slow_rows=options.slow_rows)],
        "table": [partial(run_table, n=n) for n in options.runs],
        "curve": [partial(curve, points=n) for n in options.points],
        "live": [partial(live_curve, points=options.live)],
        "many": [partial(many_runs, runs=n, steps=10_000) for n in options.many],
        "round": [partial(live_rounds, olds=options.old)],
    }
    show(figures)
    with tempfile.TemporaryDirectory(prefix="finetui-store-") as scratch:
        for measure in (one for part in options.only for one in parts.get(part, [])):
            home = Path(scratch) / "home"
            found = measure(home)
            shutil.rmtree(home)
            show(found)
            figures |= found
    old = ["--old", str(options.build)] if options.build else []
    programs = {
        "rebuild": ["benchmarks.rebuild", "--runs", "10000", "--repeat", "1", *old],
        "logging": ["benchmarks.logging_cost"],
    }
    for part in (part for part in options.only if part in programs):
        subprocess.run([sys.executable, "-m", *programs[part]], check=True)
    if options.out:
        options.out.write_text(json.dumps(figures, indent=1) + "\n")


def show(figures: dict[str, Any]) -> None:
    for name, value in figures.items():
        said = f"{value:,.2f}" if isinstance(value, float) else value
        print(f"{name:>64}  {said}", flush=True)


def ingest(home: Path, lines: int, slow_rows: int) -> dict[str, Any]:
    log = make_run(home, 1, is_live=True)
    write_lines(log, 1, lines)
    projection = Projection(home / "store.duckdb")
    reader = Ingest(projection, home)
    points = lines * len(KEYS)
    started, cpu = time.perf_counter(), time.process_time()
    reader.poll()
    took, cpu_took = time.perf_counter() - started, time.process_time() - cpu
    rounds, rounds_cpu = [], []
    for i in range(15):
        write_lines(log, 1 + lines + 10 * i, 10)
        started, cpu = time.perf_counter(), time.process_time()
        reader.poll()
        rounds.append(time.perf_counter() - started)
        rounds_cpu.append(time.process_time() - cpu)
    with projection.read() as cursor:
        rows = cursor.execute("SELECT * FROM metrics LIMIT $n", {"n": slow_rows}).fetchall()
    with projection.write() as cursor:
        started = time.perf_counter()
        cursor.executemany("INSERT INTO metrics_live VALUES (?, ?, ?, ?, ?, ?)", rows)
        slow = time.perf_counter() - started
    projection.close()
    return {
        "ingest points/s": points / took,
        "ingest points per CPU second": points / cpu_took,
        "executemany points/s": slow_rows / slow,
        "ingest / executemany": points / took / (slow_rows / slow),
        "live round of 100 points ms": statistics.median(rounds) * 1e3,
        "live round of 100 points CPU ms": statistics.median(rounds_cpu) * 1e3,
    }


def run_table(home: Path, n: int) -> dict[str, Any]:
    projection = Projection(home / "store.duckdb")
    keys = [*KEYS, "heldout/loss", "general/loss", "train/tokens_per_s"]
    with projection.write() as cursor:
        cursor.execute(
            "INSERT INTO runs BY NAME SELECT range AS run, 'run-' || range AS name, 'finished' AS state,"
            " 'lora' AS method, 'm' AS model, 1000 AS step, 1000 AS total_steps, 1 AS attempt, 0 AS created"
            " FROM range($n)",
            {"n": n},
        )
        cursor.execute(
            "INSERT INTO attempts BY NAME SELECT range AS run, 1 AS attempt, 0 AS started, 9 AS ended,"
            " 1 AS first_step, 1 AS first_t, 1000 AS last_step, 9 AS last_t FROM range($n)",
            {"n": n},
        )
        cursor.execute(
            "INSERT INTO run_summary (run, key, last, last_step, best, best_step, n, first_step)"
            " SELECT r.range, k, random(), 1000, random(), 500, 1000, 1"
            " FROM range($n) r, (SELECT unnest($keys) AS k)",
            {"n": n, "keys": keys},
        )
        cursor.execute(
            "INSERT INTO flags BY NAME SELECT range AS run, 1 AS attempt, 5 AS step, 'forgetting' AS flag,"
            " 'warn' AS level FROM range($n) WHERE range % 5 = 0",
            {"n": n},
        )

    def ask() -> None:
        with projection.read() as cursor:
            table = cursor.execute(*queries.runs()).to_arrow_table()
        assert table.num_rows == n

    took = timed(ask, 9)
    projection.close()
    return {f"run table of {n:,} runs ms": took * 1e3}


def curve(home: Path, points: int) -> dict[str, Any]:
    """One series, alone in the file when it is very long, else beside nine others; and the same points in a plain table
    that is clustered alike.
    """
    projection = Projection(home / "store.duckdb")
    keys = KEYS[-1:] if points > MANY else KEYS
    insert_s = make_s = before = after = 0.0
    for key in keys:
        started = time.process_time()
        for first in range(0, points, SLICE):
            with projection.write() as cursor:
                cursor.execute(
                    "INSERT INTO metrics_cold SELECT 1, 1, range, $key, round(sin(range / 1000) + random(), 4),"
                    " 1.7e9 + range / 10 + random() / 100 FROM range($first, $end)",
                    {"first": first, "end": min(points, first + SLICE), "key": key},
                )
        insert_s += time.process_time() - started
    with projection.write() as cursor:
        cursor.execute(
            "INSERT INTO run_summary (run, key, last, last_step, best, best_step, n, first_step)"
            " SELECT 1, k, 0, $n - 1, 0, 0, $n, 0 FROM (SELECT unnest($keys) AS k)",
            {"n": points, "keys": keys},
        )
    before = size(projection)
    started = time.process_time()
    with projection.write() as cursor:
        settling.make(cursor, [1])
    make_s, after = time.process_time() - started, size(projection)
    took, cpu = asked(projection, 1)
    whole = timed(lambda: read_plainly(projection, 1, points), 3)
    with_zstd = parquet_bytes(projection, home / "points.parquet")
    projection.close()
    what = f"({points:,})"
    return {
        f"curve of {points:,} points ms": took * 1e3,
        f"curve of {points:,} points CPU ms": cpu * 1e3,
        f"the same of a plain clustered table ms {what}": whole * 1e3,
        f"faster by {what}": whole / took,
        f"rollups made in, share of inserting {what}": make_s / insert_s,
        f"points MB {what}": before / 1e6,
        f"points with rollups MB {what}": after / 1e6,
        f"Parquet with zstd MB {what}": with_zstd / 1e6,
        f"with rollups / Parquet {what}": after / with_zstd,
    }


def live_curve(home: Path, points: int) -> dict[str, Any]:
    """One of ten series that go on: its points were moved in parts, as the writer does it, and the last ones wait, with
    those of the others. Then the same once its run has ended.
    """
    projection = Projection(home / "store.duckdb")
    moves: list[float] = []
    for first in range(0, points, MOVED):
        end = min(points, first + MOVED)
        with projection.write() as cursor:
            cursor.execute(
                "INSERT INTO metrics_live SELECT 1, 1, range, 'train/loss', sin(range / 1000) + random(),"
                " 1.7e9 + range / 10 FROM range($first, $end)",
                {"first": first, "end": end},
            )
            cursor.execute("DELETE FROM run_summary")
            cursor.execute(
                "INSERT INTO run_summary (run, key, last, last_step, best, best_step, n, first_step)"
                " VALUES (1, 'train/loss', 0, $end - 1, 0, 0, $end, 0)",
                {"end": end},
            )
        if end < points:
            started = time.process_time()
            with projection.write() as cursor:
                settling.move(cursor, [1])
            moves.append(time.process_time() - started)
    with projection.write() as cursor:
        others = (
            f"SELECT 1, 1, range, 'train/metric_' || i, random(), range FROM range({MOVED}), range(9) o(i)"
        )
        cursor.execute(f"INSERT INTO metrics_live {others}")
    live, live_cpu = asked(projection, 1)
    with projection.write() as cursor:
        settling.settle(cursor, [1])
    settled, settled_cpu = asked(projection, 1)
    projection.close()
    return {
        f"live curve of {points:,} points ms": live * 1e3,
        f"live curve of {points:,} points CPU ms": live_cpu * 1e3,
        f"the same, settled, ms ({points:,})": settled * 1e3,
        f"the same, settled, CPU ms ({points:,})": settled_cpu * 1e3,
        f"move of {MOVED:,} points, first and last, CPU ms": f"{moves[0] * 1e3:.0f}, {moves[-1] * 1e3:.0f}",
    }


def many_runs(home: Path, runs: int, steps: int) -> dict[str, Any]:
    """So many runs of ten series: the curve of one, and the loss of twenty, in 400 buckets."""
    projection = Projection(home / "store.duckdb")
    for first in range(1, runs + 1, 100):
        with projection.write() as cursor:
            insert_runs(cursor, first, min(runs + 1, first + 100), steps)
    size(projection)
    middle = runs // 2
    took, cpu = asked(projection, middle)
    whole = timed(lambda: read_plainly(projection, middle, steps), 5)
    chosen = range(1, runs + 1, max(1, runs // 20))[:20]
    together = timed(lambda: ask(projection, list(chosen)), 7)
    projection.close()
    of = f"of {runs:,} with {runs * steps * len(KEYS):,} points"
    return {
        f"curve of a run {of} ms": took * 1e3,
        f"curve of a run {of} CPU ms": cpu * 1e3,
        f"the same of a plain clustered table ms {of}": whole * 1e3,
        f"20 runs {of} ms": together * 1e3,
    }


def insert_runs(cursor: duckdb.DuckDBPyConnection, first: int, end: int, steps: int) -> None:
    """Runs from `first` to before `end`, of ten series of so many steps."""
    which = {"first": first, "end": end, "steps": steps, "keys": KEYS}
    cursor.execute(
        "INSERT INTO metrics_cold SELECT r.range, 1, s.range, k, random(), s.range"
        " FROM range($first, $end) r, range($steps) s, (SELECT unnest($keys) AS k) ORDER BY r.range, k, s.range",
        which,
    )
    cursor.execute(
        "INSERT INTO run_summary (run, key, last, last_step, best, best_step, n, first_step)"
        " SELECT r.range, k, 0, $steps - 1, 0, 0, $steps, 0"
        " FROM range($first, $end) r, (SELECT unnest($keys) AS k)",
        which,
    )


def ask(projection: Projection, runs: list[int]) -> None:
    with projection.read() as cursor:
        query = resolved(queries.curves(runs, "train/loss", buckets=400), cursor)
        table = cursor.execute(*query).to_arrow_table()
    assert 200 * len(runs) < table.num_rows <= 401 * len(runs)


def asked(projection: Projection, run: int) -> tuple[float, float]:
    """Median seconds of the curve of a run's loss, and of CPU."""
    cpu: list[float] = []

    def once() -> None:
        started = time.process_time()
        ask(projection, [run])
        cpu.append(time.process_time() - started)

    return timed(once, 25), statistics.median(cpu[1:])


def read_plainly(projection: Projection, run: int, steps: int) -> None:
    with projection.read() as cursor:
        cursor.execute(
            "SELECT max(step), min(value), max(value), arg_max(value, step) FROM metrics_cold"
            " WHERE run = $run AND key = 'train/loss' GROUP BY step // $width",
            {"run": run, "width": max(1, steps // 400)},
        ).to_arrow_table()


def parquet_bytes(projection: Projection, path: Path) -> int:
    """The size of all points as Parquet with zstd, which is written and removed."""
    with projection.read() as cursor:
        reader = cursor.execute("FROM metrics").to_arrow_reader(1_000_000)
        with pq.ParquetWriter(path, reader.schema, compression="zstd") as file:
            for batch in reader:
                file.write_batch(batch)
    bytes_ = path.stat().st_size
    path.unlink()
    return bytes_


def size(projection: Projection) -> int:
    """Bytes of the file, all of it written."""
    with projection.read() as cursor:
        cursor.execute("CHECKPOINT")
    return projection.path.stat().st_size


def timed(call: Callable[[], object], times: int) -> float:
    """Median seconds of a call, after one to warm up."""
    call()
    took = []
    for _ in range(times):
        started = time.perf_counter()
        call()
        took.append(time.perf_counter() - started)
    return statistics.median(took)


if __name__ == "__main__":
    main()
