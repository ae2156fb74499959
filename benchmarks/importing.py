"""How fast runs are imported, and how long others wait for the daemon meanwhile.

python -m benchmarks.importing --runs 2000   # small runs of TensorBoard, into a home of its own with its daemon
"""

from __future__ import annotations

import argparse
import os
import random
import resource
import subprocess
import sys
import tempfile
import threading
import time
from collections import defaultdict
from pathlib import Path

from engine.client import service
from finetui.daemon import connect
from finetui.home import Home


def write_runs(folder: Path, runs: int, steps: int) -> None:
    """Write event files as TensorBoard's own writer does."""
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.compat.proto.summary_pb2 import Summary
    from tensorboard.summary.writer.event_file_writer import EventFileWriter

    begun = time.time() - runs * steps
    for run in range(runs):
        writer = EventFileWriter(str(folder / f"run{run:05}"))
        for step in range(steps):
            values = {"train/loss": 3 - step / steps + random.random(), "train/learning_rate": 1e-4}
            if step % 10 == 0:
                values["eval/loss"] = 3 - step / steps
            summary = Summary(
                value=[Summary.Value(tag=tag, simple_value=value) for tag, value in values.items()]
            )
            writer.add_event(Event(step=step, wall_time=begun + run * steps + step, summary=summary))
        writer.close()


def ask(home: Home, stop: threading.Event, waits: dict[str, list[float]]) -> None:
    """Ask the daemon now and then for this and that, as a screen and a shell do."""
    with connect(home) as client:
        asked = {
            "status": lambda: client.action("status"),
            "runs": lambda: client.named("runs"),
            "sql": lambda: client.query("SELECT count(*) FROM runs"),
        }
        while not stop.wait(0.1):
            for name, question in asked.items():
                began = time.monotonic()
                question()
                waits[name].append(time.monotonic() - began)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=2000)
    parser.add_argument("--steps", type=int, default=100)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as directory:
        home, logs = Home(Path(directory) / "home"), Path(directory) / "logs"
        write_runs(logs, options.runs, options.steps)
        connect(home).close()
        stop, waits = threading.Event(), defaultdict[str, list[float]](list)
        asking = threading.Thread(target=ask, args=(home, stop, waits))
        asking.start()
        command = [sys.executable, "-m", "finetui", "import", str(logs)]
        for what in ("imported", "looked through again"):
            began = time.monotonic()
            subprocess.run(
                command,
                env={**os.environ, "FINETUI_HOME": str(home.path)},
                check=True,
                stdout=subprocess.DEVNULL,
            )
            took = time.monotonic() - began
            print(f"{options.runs:,} runs {what} in {took:.1f} s, {options.runs / took:.0f} a second")
        peak = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss / 1024  # the daemon has not ended
        print(f"peak memory of the import {peak:.0f} MiB")
        stop.set()
        asking.join()
        service.stop(home)
        for name, seconds in waits.items():
            print(f"{name}: asked {len(seconds)} times, longest wait {max(seconds):.2f} s")


if __name__ == "__main__":
    main()
