"""What it takes to read a home of many small runs into an empty database.

    python -m benchmarks.rebuild [--runs 2000] [--old FOLDER] [--repeat 3] [--home FOLDER]

Runs of 40 steps with 3 looks at 2 suites of 20 examples each, about 25 kB of logs: made anew, or left in FOLDER for the
next time. Each build reads them in a process of its own, in turn; the old one (a checkout of an older commit) with the
same libraries. Wall time, CPU time of the process and its threads, peak memory; the contents must be the same.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

T0 = 1_790_000_000.0
STEPS, LOOKS, EXAMPLES = 40, (0, 20, 40), 20
SUITES = ("heldout", "general")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=2000)
    parser.add_argument("--old", type=Path)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--home", type=Path)
    parser.add_argument("--child", nargs=2, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.child:
        print(json.dumps(rebuild(*map(Path, options.child))))
        return
    with tempfile.TemporaryDirectory(prefix="finetui-rebuild-") as scratch:
        home = options.home or Path(scratch) / "home"
        make_home(home, options.runs)
        here = Path(__file__).resolve().parent.parent
        builds = {"now": here, **({"old": options.old.resolve()} if options.old else {})}
        measure(home, Path(scratch), builds, options.repeat)


def measure(home: Path, scratch: Path, builds: dict[str, Path], repeat: int) -> None:
    figures: dict[str, list[dict[str, Any]]] = {name: [] for name in builds}
    for turn in range(repeat):
        for name, root in builds.items():
            store = scratch / f"{name}-{turn}.duckdb"
            # The old checkout may lack this file: its packages come first, this module is run by its path.
            command = [sys.executable, "-P", __file__, "--child", str(home), str(store)]
            environment = {**os.environ, "PYTHONPATH": str(root)}
            done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, text=True, check=True)
            one = json.loads(done.stdout)
            figures[name].append(one)
            store.unlink()
            print(f"{name:>4}  " + "  ".join(f"{key} {value}" for key, value in one.items()), flush=True)
    for name, rounds in figures.items():
        wall, cpu = (statistics.median(one[key] for one in rounds) for key in ("wall_s", "cpu_s"))
        runs = rounds[0]["runs"]
        print(f"{name:>4}: {runs / wall:,.0f} runs/s, {runs / cpu:,.0f} runs per CPU second (medians)")
    if len({one["content"] for rounds in figures.values() for one in rounds}) > 1:
        sys.exit("the contents differ")


# ---- one rebuild -------------------------------------------------------------------------------------------


def rebuild(home: Path, store: Path) -> dict[str, Any]:
    from store import Ingest, Projection

    try:
        from store.no_pandas import keep_pandas_out
    except ImportError:  # an older build
        from engine.queue.no_pandas import keep_pandas_out  # type: ignore[import-not-found,no-redef]

    keep_pandas_out()  # as in the daemon

    projection = Projection(store)
    ingest = Ingest(projection, home)
    wall, cpu = time.perf_counter(), time.process_time()
    while ingest.reading is not None:
        ingest.poll()
        if ingest.problem:
            sys.exit(ingest.problem)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    with projection.read() as cursor:
        runs, points, content = figures_of(cursor)
    projection.close()
    rounded = {"wall_s": round(wall, 2), "cpu_s": round(cpu, 2), "peak_mb": round(peak)}
    return {"runs": runs, "points": points, **rounded, "content": content}


def figures_of(cursor: Any) -> tuple[int, int, str]:
    """Runs, points, and a sum over every row of every table that does not depend on their order."""
    runs = cursor.execute("SELECT count(*) FROM runs").fetchone()[0]
    points = cursor.execute("SELECT count(*) FROM metrics").fetchone()[0]
    tables = [name for (name,) in cursor.execute("SELECT table_name FROM duckdb_tables()").fetchall()]
    sums = [
        cursor.execute(f"SELECT sum(hash(t)::HUGEINT) FROM {table} t WHERE true").fetchone()[0]
        for table in sorted(tables)
        if table != "meta"  # which has the version of the build
    ]
    return runs, points, hashlib.sha256(str(sums).encode()).hexdigest()[:8]


# ---- the home ----------------------------------------------------------------------------------------------


def make_home(home: Path, runs: int) -> None:
    (home / "runs").mkdir(parents=True, exist_ok=True)
    for number in range(1, runs + 1):
        make_run(home / "runs" / f"{number:06d}-small", number)


def make_run(path: Path, number: int) -> None:
    if (path / "run.json").exists():
        return
    chance, start = random.Random(number), T0 + 100.0 * number
    (path / "attempts" / "1").mkdir(parents=True)
    checkpoint = path / "checkpoints" / f"step-{STEPS:06d}"
    checkpoint.mkdir(parents=True)
    (checkpoint / "COMPLETE").write_text("{}")
    recipe = {
        "name": "small",
        "model": {"path": "bundled:stdlib-2m", "trust_remote_code": False},
        "method": {"name": "lora", "r": 16, "alpha": 32, "targets": "all-linear"},
        "task": "sft",
        "seed": number,
        **{part: {f"option_{i}": i for i in range(13)} for part in ("data", "train", "evals", "flags")},
    }
    body = {
        "version": 1, "uuid": f"uuid-{number}", "number": number, "name": "small", "slug": "small",
        "created": start, "recipe": recipe, "recipe_hash": f"{number:08x}", "git_commit": "deadbeef",
        "host": "box", "python": "3.11.9", "versions": {f"library-{i}": "1.0" for i in range(9)},
        "datasets": [{"role": "train", "source": "a.jsonl", "fingerprint": "f", "rows": 10, "bytes": 99}],
        "parent": None, "sweep": None,
    }  # fmt: skip
    ended = {"exit_code": 0, "signal": None, "started": start, "ended": start + 90, "peak_rss_mb": 512.5}
    (path / "attempts" / "1" / "exit.json").write_text(json.dumps(ended))
    write_log(path / "journal.jsonl", f"j-{number}", start, journal())
    write_log(path / "attempts" / "1" / "events.jsonl", f"e-{number}", start + 3, worker(number, chance))
    (path / "run.json").write_text(json.dumps(body, indent=1))


def journal() -> list[dict[str, Any]]:
    return [
        {"kind": "submitted", "state": "queued", "priority": 0},
        {"kind": "starting", "state": "starting", "attempt": 1, "device": "cpu", "threads": 1},
        {"kind": "started", "attempt": 1, "device": "cpu", "threads": 1, "pid": 1001},
        {"kind": "running", "state": "running", "attempt": 1, "pid": 2001},
        {"kind": "ended", "state": "finished", "attempt": 1, "exit_code": 0, "signal": None},
    ]


def worker(number: int, chance: random.Random) -> list[dict[str, Any]]:
    lines: list[dict[str, Any]] = [
        {"kind": "plan", "total_steps": STEPS, "parameters": 2_600_000, "trainable": 40_000, "device": "cpu"},
        *({"kind": "phase", "phase": phase, "step": 0} for phase in ("preparing", "evaluating", "training")),
    ]
    for suite in SUITES:
        ids = [f"{suite}-{i}" for i in range(EXAMPLES)]
        texts = [{"id": id, "prompt": f"what is {id}?", "target": "this and that " * 6} for id in ids]
        lines.append({"kind": "examples", "suite": suite, "rows": texts})
    for step in range(STEPS + 1):
        if step:
            names = ("loss", "lr", "grad_norm", "tokens_per_s", "epoch", "tokens")
            values = {f"train/{name}": chance.random() for name in names}
            lines.append({"kind": "metrics", "step": step, "values": values})
        if step in LOOKS:
            lines += look(step, chance)
    lines.append({"kind": "checkpoint", "step": STEPS, "path": f"checkpoints/step-{STEPS:06d}", "bytes": 999})
    lines.append({"kind": "memory", "step": STEPS, "cause": "end", "measured_mb": 500.0 + number % 7})
    lines.append({"kind": "end", "status": "finished", "step": STEPS})
    return lines


def look(step: int, chance: random.Random) -> list[dict[str, Any]]:
    lines: list[dict[str, Any]] = []
    for suite in SUITES:
        loss = 2 + chance.random()
        scored: dict[str, list[Any]] = {
            "id": [f"{suite}-{i}" for i in range(EXAMPLES)],
            "nll": [10 * chance.random() for _ in range(EXAMPLES)],
            "tokens": [chance.randrange(5, 60) for _ in range(EXAMPLES)],
            "right": [chance.randrange(5) for _ in range(EXAMPLES)],
        }
        values = {
            name: {"value": loss, "lo": loss - 0.1, "hi": loss + 0.1, "n": EXAMPLES}
            for name in ("loss", "bits")
        }
        lines.append(
            {"kind": "eval", "step": step, "suite": suite, "values": values, "examples": scored, "seconds": 1}
        )
    texts = {"prompt": "how are you?", "text": "I am a small model. " * 5}
    lines += [{"kind": "sample", "step": step, "index": index, **texts} for index in range(2)]
    lines += [{"kind": "drift", "step": step, "index": 0, "tokens": 40, "finished": True, **texts}]
    return lines


def write_log(path: Path, identity: str, start: float, lines: list[dict[str, Any]]) -> None:
    whole = [{"kind": "header", "log": identity, "version": 1}, *lines]
    timed = ({**line, "t": start + at} for at, line in enumerate(whole))
    path.write_text("".join(json.dumps(line, separators=(",", ":")) + "\n" for line in timed))


if __name__ == "__main__":
    main()
