"""What a round of the daemon costs while one run logs, beside runs that have long ended.

A round is what the daemon does three times a second: read the ten new lines of ten metrics, say what waits, look at the
queue. An old run is a run.json, a journal and a log of one line with ten metrics.
"""

from __future__ import annotations

import json
import os
import statistics
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from engine.basics.process import identify
from engine.queue.scheduler import Capacity
from engine.queue.settings import Settings
from engine.queue.supervisor import Supervisor
from engine.queue.sweeps import Sweeps
from finetui.home import Home
from store.ingest import Ingest
from store.projection import Projection

KEYS = [f"train/metric_{i}" for i in range(9)] + ["train/loss"]
LINES, ROUNDS = 10, 41
T0 = 1_790_000_000.0


def live_round(folder: Path, old: int) -> dict[str, Any]:
    """CPU milliseconds of a round with so many old runs, and of its parts; medians."""
    for number in range(1, old + 1):
        make_run(folder, number)
    log = make_run(folder, old + 1, is_live=True)
    projection, home = Projection(folder / "store.duckdb"), Home(folder)
    ingest = Ingest(projection, folder)
    while ingest.reading is not None:
        ingest.poll()
    queue = Supervisor(home, Settings(Capacity(1), 1, 60.0), ingest.notify)
    known = projection.known_dirs()
    queue.recover(max(known), known)
    sweeps = Sweeps(home)

    def tick() -> None:
        queue.tick()
        sweeps.look()
        queue.counts()

    parts: dict[str, list[float]] = {"read": [], "waiting": [], "queue": []}
    for turn in range(ROUNDS):
        write_lines(log, 10 * turn, LINES)
        parts["read"].append(cpu_ms(ingest.poll))
        parts["waiting"].append(cpu_ms(lambda: projection.set_waiting(queue.waiting_for)))
        parts["queue"].append(cpu_ms(tick))
    (folder / "runs" / f"{old + 2:06d}-comes").mkdir()
    found = cpu_ms(ingest.poll) + cpu_ms(tick)
    assert ingest.problem is None
    assert queue.counts()["running"] == [old + 1]
    projection.close()
    whole = [sum(times) for times in zip(*parts.values(), strict=True)]
    return {
        f"live round, {old:,} old runs, CPU ms": statistics.median(whole),
        f"live round, {old:,} old runs, least CPU ms": min(whole),
        f"a directory comes, {old:,} old runs, CPU ms": found,
        **{f"of it {name}, {old:,} old runs": statistics.median(times) for name, times in parts.items()},
    }


def cpu_ms(call: Callable[[], object]) -> float:
    started = time.process_time()
    call()
    return (time.process_time() - started) * 1e3


def make_run(home: Path, number: int, *, is_live: bool = False) -> Path:
    """A run that has ended, or one whose worker is this process; its log."""
    run = home / "runs" / f"{number:06d}-bench"
    log = run / "attempts" / "1" / "events.jsonl"
    if run.exists():
        return log
    log.parent.mkdir(parents=True)
    start = T0 + 10 * number
    this = identify(os.getpid())
    assert this is not None
    journal: list[dict[str, Any]] = [
        {"kind": "submitted", "state": "queued", "priority": 0},
        {"kind": "starting", "state": "starting", "attempt": 1, "device": "cpu", "threads": 1},
        {"kind": "started", "attempt": 1, "device": "cpu", "threads": 1, **this.to_dict()},
        {"kind": "running", "state": "running", "attempt": 1, **this.to_dict()},
    ]
    if not is_live:
        journal.append({"kind": "ended", "state": "finished", "attempt": 1, "exit_code": 0, "signal": None})
    write_log(run / "journal.jsonl", start, journal)
    write_log(log, start, [])
    write_lines(log, 0, 1)
    body = {
        "version": 1, "uuid": str(uuid.UUID(int=number)), "number": number, "name": "bench", "slug": "bench",
        "created": start, "recipe": {"name": "bench", "model": {"path": "m"}, "task": "sft", "seed": 1},
    }  # fmt: skip
    (run / "run.json").write_text(json.dumps(body))
    return log


def write_log(path: Path, start: float, lines: list[dict[str, Any]]) -> None:
    whole = [{"kind": "header", "log": str(uuid.uuid4()), "version": 1}, *lines]
    path.write_text("".join(json.dumps({**line, "t": start}) + "\n" for line in whole))


def write_lines(log: Path, first: int, n: int) -> None:
    """Add `n` lines of ten metrics."""
    with log.open("a") as file:
        for step in range(first, first + n):
            values = {key: step / (i + 1) for i, key in enumerate(KEYS)}
            line = {"kind": "metrics", "t": T0 + step, "step": step, "values": values}
            file.write(json.dumps(line, separators=(",", ":")) + "\n")
