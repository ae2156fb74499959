"""What the store costs: `python -m benchmarks.store [--points 1000000] [--runs 10000] [--out FILE.json]`.

- ingest: points/s from logs on disk to committed rows, against row-wise `executemany` of the same points
- round: one live round (10 lines of 10 metrics), as the daemon does it three times a second
- run table: the named query `runs` over --runs runs
- curve: one series of --points points in 400 buckets, beside nine others of the same length; their size, with odd times
- compare: the loss of 20 runs of 10,000 steps, in 400 buckets each, as the compare screen asks for it
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq

from store import queries, settling
from store.ingest import Ingest
from store.projection import Projection

MANY = 20_000_000  # points of a series that is alone in its file
KEYS = [f"train/metric_{i}" for i in range(9)] + ["train/loss"]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--points", type=int, nargs="+", default=[1_000_000, 10_000_000], help="points of the one series"
    )
    parser.add_argument("--runs", type=int, default=10_000, help="runs in the run table")
    parser.add_argument("--lines", type=int, default=30_000, help="lines of 10 metrics to ingest")
    parser.add_argument("--slow-rows", type=int, default=3_000, help="rows for executemany")
    parser.add_argument("--out", type=Path, help="write the figures here as JSON")
    options = parser.parse_args()
    figures: dict[str, Any] = {
        "duckdb": duckdb.__version__,
        "cpus": os.cpu_count(),
        "load": os.getloadavg()[0],
    }
    with tempfile.TemporaryDirectory(prefix="finetui-store-") as scratch:
        figures |= ingest(Path(scratch) / "ingest", options.lines, options.slow_rows)
        figures |= run_table(Path(scratch) / "runs", options.runs)
        for points in options.points:
            figures |= curve(Path(scratch) / f"curve-{points}", points)
        figures |= compare(Path(scratch) / "compare", 20, 10_000)
    for name, value in figures.items():
        print(f"{name:>32}  {value:,.2f}" if isinstance(value, float) else f"{name:>32}  {value}")
    if options.out:
        options.out.write_text(json.dumps(figures, indent=1) + "\n")


def ingest(home: Path, lines: int, slow_rows: int) -> dict[str, Any]:
    log = new_run(home, 1)
    write_lines(log, 0, lines)
    projection = Projection(home / "store.duckdb")
    reader = Ingest(projection, home)
    warm = new_run(home, 2)
    write_lines(warm, 0, 1)
    points = lines * len(KEYS)
    started, cpu = time.perf_counter(), time.process_time()
    reader.poll()
    took, cpu_took = time.perf_counter() - started, time.process_time() - cpu
    rounds, rounds_cpu = [], []
    for i in range(15):
        write_lines(log, lines + 10 * i, 10)
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
    started = time.perf_counter()
    with projection.write() as cursor:
        for key in keys:
            cursor.execute(
                "INSERT INTO metrics_cold SELECT 1, 1, range, $key, round(sin(range / 1000) + random(), 4),"
                " 1.7e9 + range / 10 + random() / 100 FROM range($n)",
                {"n": points, "key": key},
            )
        cursor.execute(
            "INSERT INTO run_summary (run, key, last, last_step, best, best_step, n, first_step)"
            " SELECT 1, k, 0, $n - 1, 0, 0, $n, 0 FROM (SELECT unnest($keys) AS k)",
            {"n": points, "keys": keys},
        )
    inserted = time.perf_counter()
    before = size(projection)
    with projection.write() as cursor:
        settling.make(cursor, [1])
    made = time.perf_counter()
    after = size(projection)

    def ask() -> pa.Table:
        with projection.read() as cursor:
            table = cursor.execute(*queries.curves([1], "train/loss", buckets=400)).to_arrow_table()
        assert 200 < table.num_rows <= 400
        return table

    def plain() -> None:
        with projection.read() as cursor:
            cursor.execute(
                "SELECT max(step), min(value), max(value), arg_max(value, step) FROM metrics_cold"
                " WHERE run = 1 AND key = 'train/loss' GROUP BY step // $width",
                {"width": points // 400},
            ).to_arrow_table()

    took, whole = timed(ask, 15), timed(plain, 3)
    with projection.read() as cursor:
        points_file = home / "points.parquet"
        pq.write_table(cursor.execute("FROM metrics").to_arrow_table(), points_file, compression="zstd")
    figures = {
        f"curve of {points:,} points ms": took * 1e3,
        "the same of a plain clustered table ms": whole * 1e3,
        "faster by": whole / took,
        "rollups made in, share of inserting": (made - inserted) / (inserted - started),
        "points MB": before / 1e6,
        "points with rollups MB": after / 1e6,
        "Parquet with zstd MB": points_file.stat().st_size / 1e6,
        "with rollups / Parquet": after / points_file.stat().st_size,
    }
    projection.close()
    return {
        f"{name} ({points:,})" if "curve of" not in name else name: value for name, value in figures.items()
    }


def size(projection: Projection) -> int:
    """Bytes of the file, all of it written."""
    with projection.read() as cursor:
        cursor.execute("CHECKPOINT")
    return projection.path.stat().st_size


def compare(home: Path, runs: int, steps: int) -> dict[str, Any]:
    projection = Projection(home / "store.duckdb")
    with projection.write() as cursor:
        cursor.execute(
            "INSERT INTO metrics_cold SELECT r.range, 1, s.range, k, random(), s.range"
            " FROM range($runs) r, range($steps) s, (SELECT unnest($keys) AS k) ORDER BY r.range, k, s.range",
            {"runs": runs, "steps": steps, "keys": KEYS},
        )
        cursor.execute(
            "INSERT INTO run_summary (run, key, last, last_step, best, best_step, n, first_step)"
            " SELECT r.range, k, 0, $steps - 1, 0, 0, $steps, 0"
            " FROM range($runs) r, (SELECT unnest($keys) AS k)",
            {"runs": runs, "steps": steps, "keys": KEYS},
        )
    with projection.read() as cursor:
        cursor.execute("CHECKPOINT")

    def ask() -> None:
        with projection.read() as cursor:
            table = cursor.execute(*queries.curves(range(runs), "train/loss", buckets=400)).to_arrow_table()
        assert table.num_rows > 200 * runs

    took = timed(ask, 7)
    projection.close()
    return {f"compare {runs} runs of {steps:,} steps ms": took * 1e3}


def timed(call: Callable[[], object], times: int) -> float:
    """Median seconds of a call, after one to warm up."""
    call()
    took = []
    for _ in range(times):
        started = time.perf_counter()
        call()
        took.append(time.perf_counter() - started)
    return statistics.median(took)


def new_run(home: Path, number: int) -> Path:
    run = home / "runs" / f"{number:06d}-bench"
    log = run / "attempts" / "1" / "events.jsonl"
    log.parent.mkdir(parents=True)
    (run / "run.json").write_text("{}")
    header = {"kind": "header", "log": str(uuid.uuid4()), "t": 0.0}
    log.write_text(json.dumps(header) + "\n")
    journal = [
        {**header, "log": str(uuid.uuid4())},
        {"kind": "running", "state": "running", "attempt": 1, "t": 1.0},
    ]
    (run / "journal.jsonl").write_text("".join(json.dumps(line) + "\n" for line in journal))
    return log


def write_lines(log: Path, first: int, n: int) -> None:
    with log.open("a") as file:
        for step in range(first, first + n):
            values = {key: step / (i + 1) for i, key in enumerate(KEYS)}
            line = {"kind": "metrics", "t": float(step), "step": step, "values": values}
            file.write(json.dumps(line, separators=(",", ":")) + "\n")


if __name__ == "__main__":
    main()
