"""What it costs a training script to log ten values, and what a SIGKILL takes: finetui, MLflow, trackio, W&B offline.

    python -m benchmarks.logging_cost [--environments DIR] [--calls 2000] [--kept 400]

Each tracker is installed into an environment of its own (kept in DIR, else in a temporary one) and called by a script
of its own, as its documentation says for a local run without a server. Cost: the time of each call, one after the
other, and then with 5 ms of sleep before each, as a training step comes between two: what the call needs is then no
longer in the caches of the processor. SIGKILL: a script logs every 5 ms and says after each call that it has returned;
it is killed, alone or with all that it has started (as by a scheduler, or with its container), and the points are
counted that its tracker then has, after ten seconds. Bytes: all files that the first script has left, divided by its
points; finetui's with its database. Answer: the curve of one metric, as the tracker gives it to a program. Nothing
leaves the machine.
"""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
SETTLE_S = 10.0  # after the kill: what runs beside the script may still write
VALUES = "values = {f'metric_{i}': 0.1234567 * (i + 1) + step / 1000 for i in range(10)}"

# Each script defines `begin()`, `log(values, step)`, `end()`; it is run in a folder of its own.
FINETUI = """
import os, finetui
def begin():
    global run
    run = finetui.init(project="cost")
def log(values, step):
    run.log(values, step=step)
def end():
    run.finish()
"""
MLFLOW = """
import mlflow
def begin():
    mlflow.set_tracking_uri("sqlite:///mlflow.db")
    mlflow.start_run()
def log(values, step):
    mlflow.log_metrics(values, step=step)
def end():
    mlflow.end_run()
"""
MLFLOW_LATER = MLFLOW.replace("step=step)", "step=step, synchronous=False)")
TRACKIO = """
import trackio
def begin():
    trackio.init(project="cost")
def log(values, step):
    trackio.log(values, step=step)
def end():
    trackio.finish()
"""
WANDB = """
import wandb
def begin():
    wandb.init(project="cost", mode="offline")
def log(values, step):
    wandb.log(values, step=step)
def end():
    wandb.finish()
"""
COST = """
import json, sys, time
began = time.perf_counter()
begin()
started = time.perf_counter() - began
def timed(first, count, pause):
    times = []
    for step in range(first, first + count):
        {values}
        if pause:
            time.sleep(pause)
        at = time.perf_counter_ns()
        log(values, step)
        times.append((time.perf_counter_ns() - at) / 1000)
    times.sort()
    return times
calls = int(sys.argv[1])
close, apart = timed(1, calls, 0), timed(calls + 1, calls // 4, 0.005)
began = time.perf_counter()
end()
ended = time.perf_counter() - began
print(json.dumps(dict(begin=started, end=ended, median=close[len(close) // 2], high=close[int(len(close) * 0.99)],
                      apart=apart[len(apart) // 2])))
"""
KILLED = """
import sys, time
begin()
for step in range(1, 10**9):
    {values}
    log(values, step)
    sys.stdout.write(f"returned {{step}}\\n")
    sys.stdout.flush()
    time.sleep(0.005)
"""
# Each defines `points()`: the curve of `metric_0` as its tracker gives it to a program, by the documented way.
POINTS_FINETUI = """
import finetui
def points():
    with finetui.connect() as client:
        table = client.query("SELECT step, value FROM metrics WHERE key = 'train/metric_0' ORDER BY step")
        return table.num_rows
"""
POINTS_MLFLOW = """
import mlflow
def points():
    mlflow.set_tracking_uri("sqlite:///mlflow.db")
    client = mlflow.MlflowClient()
    (run,) = client.search_runs(["0"])
    return len(client.get_metric_history(run.info.run_id, "metric_0"))
"""
POINTS_TRACKIO = """
import trackio
from trackio.sqlite_storage import SQLiteStorage  # whose answer `trackio get metric` prints
def points():
    (run,) = trackio.Api().runs("cost")
    return len(SQLiteStorage.get_metric_values("cost", run.name, "metric_0"))
"""
# In a new process, imports and the start of what has to run included, and then again.
ANSWER = """
import json, time
began = time.perf_counter()
{points}
count = points()
first = time.perf_counter() - began
again = []
for _ in range(5):
    began = time.perf_counter()
    assert points() == count
    again.append(time.perf_counter() - began)
print(json.dumps(dict(count=count, first=first, again=sorted(again)[2])))
"""
# Each prints how many points of `metric_0` its tracker has.
COUNT_FINETUI = """
import finetui
with finetui.connect() as client:
    client.drain()
    print(client.query("SELECT count(*) AS n FROM metrics WHERE key = 'train/metric_0'").to_pylist()[0]["n"])
"""
COUNT_MLFLOW = """
import sqlite3
print(sqlite3.connect("mlflow.db").execute("SELECT count(*) FROM metrics WHERE key = 'metric_0'").fetchone()[0])
"""
COUNT_TRACKIO = """
import os, sqlite3
from pathlib import Path
(path,) = Path(os.environ["TRACKIO_DIR"]).glob("cost*.db")
print(sqlite3.connect(path).execute("SELECT count(*) FROM metrics").fetchone()[0])
"""
COUNT_WANDB = """
import sys
from pathlib import Path
sys.path.append({root!r})
from engine.curves.wandb_file import WandbFile
(path,) = Path("wandb").glob("offline-run-*/*.wandb")
print(sum(point.name == "train/metric_0" for point in WandbFile(path).read().points))
"""


@dataclass(frozen=True)
class Tracker:
    """A tracker, how it is called, and how its points are counted."""

    name: str
    package: str  # empty: this environment's own
    script: str
    count: str
    points: str = ""  # empty: it gives its points to no program on this machine


TRACKERS = (
    Tracker("finetui", "", FINETUI, COUNT_FINETUI, POINTS_FINETUI),
    Tracker("MLflow", "mlflow", MLFLOW, COUNT_MLFLOW, POINTS_MLFLOW),
    Tracker("MLflow, `synchronous=False`", "mlflow", MLFLOW_LATER, COUNT_MLFLOW, POINTS_MLFLOW),
    Tracker("trackio", "trackio", TRACKIO, COUNT_TRACKIO, POINTS_TRACKIO),
    Tracker("W&B, offline", "wandb", WANDB, COUNT_WANDB.format(root=str(ROOT))),
)


HEAD = (
    "tracker", "version", "call, median, µs", "99th percentile, µs", "5 ms between, median, µs", "begin, s", "end, s",
    "lost, script killed", "lost, all killed", "bytes a point, on disk", "answer in a new process, s", "again, ms",
)  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--environments", type=Path, help="where they are kept")
    parser.add_argument("--calls", type=int, default=2000, help="that are timed")
    names = [tracker.name for tracker in TRACKERS]
    parser.add_argument("--only", nargs="+", choices=names, help="trackers; all of them without it")
    parser.add_argument("--kept", type=int, default=400, help="calls after which a script is killed")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="finetui-logging-") as scratch:
        environments = options.environments or Path(scratch) / "environments"
        print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores")
        print("| " + " | ".join(HEAD) + " |\n" + "|---" * len(HEAD) + "|", flush=True)
        points = 10 * (options.calls + options.calls // 4)
        for place, tracker in enumerate(TRACKERS):
            if options.only and tracker.name not in options.only:
                continue
            python, version = prepared(tracker, environments)
            folder = Path(scratch) / str(place)
            cost = json.loads(
                run(python, tracker, folder / "cost", COST, str(options.calls)).splitlines()[-1]
            )
            answer = answered(python, tracker, folder / "cost", options.calls + options.calls // 4)
            bytes_ = sum(path.stat().st_size for path in (folder / "cost").rglob("*") if path.is_file())
            alone = lost(python, tracker, folder / "alone", options.kept, with_all=False)
            everything = lost(python, tracker, folder / "all", options.kept, with_all=True)
            cells = [
                f"{cost['median']:.1f}",
                f"{cost['high']:.1f}",
                f"{cost['apart']:.1f}",
                f"{cost['begin']:.2f}",
                f"{cost['end']:.2f}",
            ]
            print(
                "| "
                + " | ".join(
                    [tracker.name, version, *cells, alone, everything, f"{bytes_ / points:.0f}", *answer]
                )
                + " |",
                flush=True,
            )


def prepared(tracker: Tracker, environments: Path) -> tuple[str, str]:
    """The Python of a tracker's environment, made if need be, and the tracker's version."""
    python = Path(sys.executable)
    if tracker.package:
        python = environments / tracker.package / "bin" / "python"
        if not python.exists():
            subprocess.run([sys.executable, "-m", "venv", str(python.parent.parent)], check=True)
            install = [
                str(python),
                "-m",
                "pip",
                "install",
                "-q",
                "--disable-pip-version-check",
                tracker.package,
            ]
            subprocess.run(install, check=True)
    ask = f"from importlib.metadata import version; print(version({tracker.package or 'finetui'!r}))"
    return str(python), subprocess.run(
        [str(python), "-c", ask], capture_output=True, text=True, check=True
    ).stdout.strip()


def environment(folder: Path) -> dict[str, str]:
    """All that a tracker writes is below the folder; none asks the network."""
    folder.mkdir(parents=True, exist_ok=True)
    return {
        **os.environ,
        "FINETUI_HOME": str(folder / "home"),
        "TRACKIO_DIR": str(folder / "trackio"),
        "WANDB_SILENT": "true",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "HF_HUB_OFFLINE": "1",
        "PYTHONPATH": str(ROOT) if Path(sys.executable).parent.parent == ROOT / ".venv" else "",
    }


def command(python: str, tracker: Tracker, body: str, *arguments: str) -> list[str]:
    return [python, "-c", tracker.script + body.format(values=VALUES), *arguments]


def run(python: str, tracker: Tracker, folder: Path, body: str, *arguments: str) -> str:
    """What a script prints."""
    words = command(python, tracker, body, *arguments)
    with tempfile.TemporaryFile() as errors:
        done = subprocess.run(
            words,
            env=environment(folder),
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            check=False,
        )
        if done.returncode:
            errors.seek(0)
            sys.exit(f"{tracker.name}: {errors.read().decode(errors='replace')[-2000:]}")
    stop(folder)
    return done.stdout


def answered(python: str, tracker: Tracker, folder: Path, steps: int) -> tuple[str, str]:
    """Seconds until a new process has the curve of a metric, and milliseconds when it asks again."""
    if not tracker.points:
        return "–", "–"
    done = subprocess.run(
        [python, "-c", ANSWER.format(points=tracker.points)],
        env=environment(folder),
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    stop(folder)
    if done.returncode:
        return f"cannot be read: {(done.stderr.strip() or 'no reason').splitlines()[-1]}", "–"
    found = json.loads(done.stdout.splitlines()[-1])
    if found["count"] != steps:
        return f"{found['count']:,} of {steps:,} points", "–"
    return f"{found['first']:.2f}", f"{found['again'] * 1e3:.1f}"


def lost(python: str, tracker: Tracker, folder: Path, kept: int, *, with_all: bool) -> str:
    """Points that are missing of those whose call had returned."""
    surroundings = environment(folder)
    with (folder / "said.txt").open("w") as errors:
        program = subprocess.Popen(
            command(python, tracker, KILLED),
            env=surroundings,
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            start_new_session=True,
        )
        assert program.stdout is not None
        steps = (line.split()[1] for line in program.stdout if line.startswith("returned "))
        last = next((int(step) for step in steps if int(step) >= kept), 0)
        if with_all:
            os.killpg(program.pid, signal.SIGKILL)
        program.kill()
        rest = [line for line in program.stdout.read().splitlines() if line.startswith("returned ")]
        program.wait()
    returned = int(rest[-1].split()[1]) if rest else last
    time.sleep(SETTLE_S)
    counted = subprocess.run(
        [python, "-c", tracker.count],
        env=surroundings,
        cwd=folder,
        capture_output=True,
        text=True,
        check=False,
    )
    stop(folder)
    if counted.returncode or returned < kept:
        return f"cannot be read: {(counted.stderr.strip() or 'it ended early').splitlines()[-1]}"
    return str(max(0, returned - int(counted.stdout)))


def stop(folder: Path) -> None:
    """End the daemon of a home."""
    from engine.client import service
    from finetui.home import Home

    if (folder / "home").is_dir():
        service.stop(Home(folder / "home"))


if __name__ == "__main__":
    main()
