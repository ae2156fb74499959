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
LINES, ROUNDS = 10, 121
T0 = 1_790_000_000.0


class Measured:
    """A home with so many old runs and one that logs; CPU milliseconds of its rounds by their parts."""

    def __init__(self, folder: Path, old: int) -> None:
        self.old, self._folder = old, folder
        for number in range(1, old + 1):
            make_run(folder, number)
        self._log = make_run(folder, old + 1, is_live=True)
        self.projection = Projection(folder / "store.duckdb")
        self._ingest = Ingest(self.projection, folder)
        while self._ingest.reading is not None:
            self._ingest.poll()
        self._queue = Supervisor(Home(folder), Settings(Capacity(1), 1, 60.0), self._ingest.notify)
        known = self.projection.known_dirs()
        self._queue.recover(max(known), known)
        self._sweeps = Sweeps(Home(folder))
        self.parts: dict[str, list[float]] = {"read": [], "waiting": [], "queue": []}

    def round(self, turn: int) -> None:
        write_lines(self._log, LINES * turn, LINES)
        self.parts["read"].append(cpu_ms(self._ingest.poll))
        self.parts["waiting"].append(cpu_ms(lambda: self.projection.set_waiting(self._queue.waiting_for)))
        self.parts["queue"].append(cpu_ms(self._tick))

    def _tick(self) -> None:
        self._queue.tick()
        self._sweeps.look()
        self._queue.counts()

    def figures(self) -> dict[str, Any]:
        (self._folder / "runs" / f"{self.old + 2:06d}-comes").mkdir()
        comes = cpu_ms(self._ingest.poll) + cpu_ms(self._tick)
        assert self._ingest.problem is None
        assert self._queue.counts()["running"] == [self.old + 1]
        whole = [sum(times) for times in zip(*self.parts.values(), strict=True)]
        medians = {name: statistics.median(times) for name, times in self.parts.items()}
        return {
            f"live round, {self.old:,} old runs, CPU ms": statistics.median(whole),
            f"live round, {self.old:,} old runs, least CPU ms": min(whole),
            f"a directory comes, {self.old:,} old runs, CPU ms": comes,
            **{f"of it {name}, {self.old:,} old runs": took for name, took in medians.items()},
        }


def live_rounds(folder: Path, olds: list[int]) -> dict[str, Any]:
    """CPU milliseconds of a round with so many old runs each, and of its parts; medians of rounds made in turn,
    since how fast a processor is changes from minute to minute.
    """
    homes = [Measured(folder / str(old), old) for old in olds]
    for turn in range(ROUNDS):
        for home in homes:
            home.round(turn)
    figures: dict[str, Any] = {}
    for home in homes:
        figures |= home.figures()
        home.projection.close()
    return figures


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
