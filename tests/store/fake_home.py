"""Homes with run directories as the daemon and the worker write them."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from finetui.files import write_json
from finetui.log import LogWriter
from store.projection import Projection

T0 = 1_790_000_000.0
RECIPE = {
    "name": "demo",
    "model": {"path": "bundled:stdlib-2m", "trust_remote_code": False},
    "method": {"name": "lora", "r": 16, "targets": "all-linear"},
    "task": "sft",
    "data": {"train": "bundled:docstrings", "heldout": "10%", "limit": None},
    "train": {"lr": 2e-4},
    "seed": 7,
}


@dataclass
class FakeRun:
    """A run directory; writes the lines that the daemon and the worker would."""

    path: Path
    number: int
    writers: dict[int, LogWriter] = field(default_factory=dict)
    clock: float = T0

    def tick(self) -> float:
        self.clock += 1.0
        return self.clock

    def journal(self, kind: str, **fields: Any) -> None:
        writer = LogWriter(self.path / "journal.jsonl", "journal", self.number)
        writer.write(kind, **{"t": self.tick(), **fields})
        writer.close()

    def start(self, attempt: int = 1) -> None:
        self.journal("starting", state="starting", attempt=attempt, device="cpu", threads=1)
        self.journal("started", attempt=attempt, device="cpu", threads=1, pid=1000 + attempt)
        self.journal("running", state="running", attempt=attempt, pid=2000 + attempt)

    def end(self, state: str = "finished", attempt: int = 1, exit_code: int = 0) -> None:
        self.write_exit(attempt, exit_code=exit_code)
        self.journal("ended", state=state, attempt=attempt, exit_code=exit_code, signal=None)

    def write_exit(self, attempt: int, **fields: Any) -> None:
        body = {"exit_code": 0, "signal": None, "started": T0, "ended": self.clock, "peak_rss_mb": 512.5}
        write_json(self.path / "attempts" / str(attempt) / "exit.json", {**body, **fields})

    def events(self, attempt: int = 1) -> Path:
        return self.path / "attempts" / str(attempt) / "events.jsonl"

    def write(self, kind: str, attempt: int = 1, **fields: Any) -> None:
        if attempt not in self.writers:
            self.writers[attempt] = LogWriter(self.events(attempt), "worker", self.number, attempt)
        self.writers[attempt].write(kind, **{"t": self.tick(), **fields})

    def metrics(self, step: int, attempt: int = 1, **values: float) -> None:
        named = {f"train/{key}": value for key, value in values.items()}
        self.write("metrics", attempt, step=step, values=named)

    def eval(self, step: int, suite: str, nll: list[float], attempt: int = 1, tokens: int = 10) -> None:
        n = len(nll)
        loss = sum(nll) / (n * tokens)
        self.write(
            "eval",
            attempt,
            step=step,
            suite=suite,
            values={
                "loss": {"value": loss, "lo": loss - 0.1, "hi": loss + 0.1, "n": n},
                "token_accuracy": {"value": 0.5 + step / 1000},
            },
            examples={
                "id": [f"{suite}-{i}" for i in range(n)],
                "nll": nll,
                "tokens": [tokens] * n,
                "right": [5] * n,
            },
            seconds=0.5,
        )


@dataclass
class FakeHome:
    path: Path

    def run(self, number: int, name: str = "demo", **changes: Any) -> FakeRun:
        path = self.path / "runs" / f"{number:06d}-{name}"
        path.mkdir(parents=True)
        body = {
            "version": 1,
            "uuid": f"uuid-{number}",
            "number": number,
            "name": name,
            "slug": name,
            "created": T0,
            "recipe": {**RECIPE, **changes},
            "recipe_hash": "abc",
            "git_commit": "deadbeef",
            "host": "box",
            "python": "3.11.9",
            "versions": {"torch": "2.9.1", "peft": None},
            "datasets": [
                {"role": "train", "source": "bundled:docstrings", "fingerprint": "f", "rows": 10, "bytes": 99}
            ],
            "parent": None,
            "sweep": None,
        }
        write_json(path / "run.json", body)
        made = FakeRun(path, number)
        made.journal("submitted", state="queued", priority=0)
        return made

    @property
    def store(self) -> Path:
        return self.path / "store.duckdb"


def rows(projection: Projection, sql: str, **parameters: Any) -> list[tuple[Any, ...]]:
    with projection.read() as cursor:
        return cursor.execute(sql, parameters).fetchall()


CONTENT = [
    "runs", "attempts", "params", "metrics", "system_metrics", "evals", "eval_examples", "examples", "samples",
    "drift_answers", "choice_answers",
    "flags", "checkpoints", "libraries", "memory", "scalings", "scale_points", "scaled", "fixes", "datasets", "events",
    "run_summary", "ingest", "meta",
]  # fmt: skip


def content(projection: Projection) -> dict[str, list[str]]:
    """Every row of every table, in no particular order (as text, so that NaN equals NaN)."""
    return {
        table: sorted(json.dumps(row) for row in rows(projection, f"SELECT * FROM {table}"))
        for table in CONTENT
    }
