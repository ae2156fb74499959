"""Exactly once, whenever the ingesting process is killed."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

from fake_home import FakeHome, content, rows

from store.ingest import Ingest
from store.projection import Projection

KILLS = 7
STEPS = 2000

# Says so after each commit, so that the kills fall into the reading however slow the machine is.
READER = """
import sys, time
from store.no_pandas import keep_pandas_out
keep_pandas_out()  # as the daemon does; else DuckDB would import it, which takes longer than all the reading
from contextlib import contextmanager
from pathlib import Path
from store import Ingest, Projection

class Telling(Projection):
    @contextmanager
    def write(self):
        with super().write() as cursor:
            yield cursor
        print("committed", flush=True)

home = Path(sys.argv[1])
ingest = Ingest(Telling(home / "store.duckdb"), home, batch_rows=int(sys.argv[2]))
while True:
    ingest.poll()
    assert ingest.problem is None, ingest.problem
    time.sleep(0.001)
"""


def test_each_point_arrives_once_although_the_reader_is_killed(
    home: FakeHome, projection: Projection
) -> None:
    projection.close()
    run = home.run(1)
    run.start()
    for step in range(STEPS):
        run.metrics(step, loss=step / 7, lr=1.0)
        if step % 100 == 0:
            run.eval(step, "heldout", [1.0, 2.0])
        if step == STEPS // 2:
            run.journal("interrupted", state="interrupted", attempt=1)
            run.start(2)
            run.write("resume", 2, from_step=step - 150)
    run.metrics(STEPS, attempt=2, loss=0.5)
    run.end(attempt=2)
    for number in range(2, 5):  # whole within a batch, or cut by its end
        other = home.run(number)
        other.start()
        for step in range(number):
            other.metrics(step, loss=1.0)
        other.end()

    chance = random.Random(7)
    environment = {**os.environ, "PYTHONPATH": f"{os.environ['PYTHONPATH']}:{Path(__file__).parents[2]}"}
    for _ in range(KILLS):
        reader = subprocess.Popen(
            [sys.executable, "-c", READER, str(home.path), "9"],
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )
        assert reader.stdout is not None
        for _ in range(chance.randint(1, 6)):
            assert reader.stdout.readline() == "committed\n"
        time.sleep(chance.uniform(0.0, 0.03))
        assert reader.poll() is None
        reader.send_signal(signal.SIGKILL)
        reader.wait()
        reader.stdout.close()

    again = Projection(home.store)
    try:
        assert again.generation == 0, "a kill must not cost a rebuild"
        before = rows(again, "SELECT count(*) FROM metrics")[0][0]
        assert 0 < before < STEPS, "the kills were meant to fall into the reading"
        Ingest(again, home.path).poll()
        stored = Counter(rows(again, "SELECT attempt, step, key, value FROM metrics WHERE run = 1"))
        assert stored == Counter(expected(run.path))
        killed = content(again)
        again.rebuild()
        Ingest(again, home.path).poll()
        assert content(again) == killed
    finally:
        again.close()


def expected(path: Path) -> list[tuple[int, int, str, float]]:
    """The points that the logs add up to, worked out apart from the code under test."""
    points = []
    for attempt in (1, 2):
        for line in (path / "attempts" / str(attempt) / "events.jsonl").read_text().splitlines():
            entry = json.loads(line)
            if entry["kind"] == "resume":
                points = [point for point in points if point[1] <= entry["from_step"]]
            elif entry["kind"] == "metrics":
                points += [(attempt, entry["step"], key, value) for key, value in entry["values"].items()]
            elif entry["kind"] == "eval":
                for name, result in entry["values"].items():
                    points.append((attempt, entry["step"], f"{entry['suite']}/{name}", result["value"]))
    return points
