"""A home with runs whose every value and time is fixed, written through the real log writer and served by
the real store."""

from __future__ import annotations

import json
import math
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from engine.runs.home import RunDir
from finetui.files import write_json
from finetui.home import Home
from finetui.log import LogWriter

NOW = 1_790_000_000.0
STEPS = 400


@dataclass
class Actions:
    """Stands where the daemon's actions are: keeps what it was asked, and counts looks at the machine."""

    asked: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    answer: Callable[[str, dict[str, Any]], dict[str, Any]] = lambda name, body: {}
    looks: int = 0

    def __call__(self, name: str, body: dict[str, Any]) -> dict[str, Any]:
        if name == "machine":
            self.looks += 1
        else:
            self.asked.append((name, body))
        return self.answer(name, body)


def make_run(
    home: Home, number: int, name: str, method: str = "lora", *, created: float = NOW - 4000, **params: Any
) -> RunDir:
    """An acknowledged, queued run."""
    run = RunDir(home.runs / f"{number:06}-{name}")
    run.path.mkdir(parents=True)
    recipe = {
        "model": {"path": "bundled:stdlib-2m"},
        "method": {"name": method, **({"r": 16, "alpha": 32} if method != "full" else {}), **params},
        "task": "sft",
        "data": {"train": "bundled:docstrings", "heldout": "10%"},
        "train": {"epochs": 3, "lr": 2e-5 if method == "full" else 2e-4},
        "seed": 0,
    }
    body = {
        "version": 1, "uuid": f"00000000-0000-0000-0000-{number:012}", "number": number, "name": name,
        "slug": name, "created": created, "recipe": recipe, "recipe_hash": f"{number:016x}", "cwd": "/work",
        "user": "ada", "host": "box", "python": "3.11", "versions": {}, "parent": None, "sweep": None,
        "datasets": [{"role": "train", "source": "bundled:docstrings", "fingerprint": "ab12", "rows": 1800,
                      "bytes": 400_000}],
    }  # fmt: skip
    write_json(run.meta, body)
    journal = LogWriter(run.journal, "journal", number)
    journal.write("submitted", state="queued", t=created)
    journal.close()
    return run


def say(run: RunDir, kind: str, **fields: Any) -> None:
    """One more word of the daemon."""
    journal = LogWriter(run.journal, "journal", run.number)
    journal.write(kind, **fields)
    journal.close()


def begin(run: RunDir, started: float) -> LogWriter:
    """The log of a first attempt that has been started."""
    say(
        run,
        "started",
        state="starting",
        attempt=1,
        pid=1,
        start_time=1.0,
        boot_id="b",
        device="cpu",
        t=started,
    )
    return LogWriter(run.attempt(1).events, "worker", run.number, 1)


def train(
    run: RunDir,
    steps: int,
    *,
    floor: float,
    bend: float = 0.0,
    forget: float = 0.05,
    started: float = NOW - 3000,
) -> LogWriter:
    """An attempt that logs `steps` of `STEPS` steps with evaluations, samples and checkpoints; stays open."""
    noise = random.Random(run.number)
    log = begin(run, started)
    say(run, "running", state="running", t=started)
    log.write("plan", total_steps=STEPS, tokens_per_step=8192, train_examples=1800, heldout_examples=200,
              parameters=2_100_000, trainable=90_000, precision="fp32", device="cpu", max_length=512,
              t=started)  # fmt: skip
    log.write("phase", phase="training", step=0, t=started)
    log.write("examples", suite="heldout", rows=[
        {"id": f"e{at}", "prompt": f"def f{at}():", "target": f"return {at}"} for at in range(40)
    ], t=started)  # fmt: skip
    _evaluate(log, "heldout_few_shot", 0, floor + 2.1, started, random.Random(0))
    for step in range(steps + 1):
        now = started + step * 2.0
        clean = floor + 2.2 * math.exp(-step / 80)
        if step % 40 == 0:
            turned = bend * max(0, step - 160) / 100
            _evaluate(log, "heldout", step, clean + 0.2 + turned, now, noise)
            _evaluate(log, "general", step, 2.3 + forget * step / 100, now, noise)
            log.write(
                "sample", step=step, index=0, prompt="def area(r):", text=f"    return {step} * r", t=now
            )
        if step % 2 == 0 and step:
            log.write("metrics", step=step, t=now, values={
                "train/loss": clean + noise.gauss(0, 0.06), "train/lr": 2e-4 * (1 - step / STEPS),
                "train/grad_norm": 1 + noise.random(), "train/tokens_per_s": 18_320.0, "train/epoch": step / 133,
                "memory/peak_mb": 812.0,
            })  # fmt: skip
        if step and step % 100 == 0:
            log.write("checkpoint", step=step, path=f"checkpoints/step-{step:06}", bytes=3_400_000, t=now)
    stdout = run.attempt(1).stdout
    stdout.write_text("".join(f"step {step}: training\n" for step in range(0, steps + 1, 20)))
    return log


def _evaluate(log: LogWriter, suite: str, step: int, loss: float, now: float, noise: random.Random) -> None:
    ids = [f"{'e' if suite.startswith('heldout') else suite[0]}{at}" for at in range(40)]
    nll = [10 * (loss + 0.3 * math.sin(at) + noise.gauss(0, 0.02)) for at in range(40)]
    log.write("eval", step=step, suite=suite, seconds=1.0, t=now, values={
        "loss": {"value": loss, "lo": loss - 0.06, "hi": loss + 0.06, "n": 40},
        "token_accuracy": {"value": 0.4 + step / 4000, "lo": 0.38, "hi": 0.52, "n": 40},
        **({"shots": {"value": 4.0, "n": 40}} if suite == "heldout_few_shot" else {}),
    }, examples={"id": ids, "nll": nll, "tokens": [10] * 40, "right": [4] * 40})  # fmt: skip


def raise_flag(log: LogWriter, step: int, flag: str, suite: str, level: str = "warn", **more: Any) -> None:
    actions = [
        {
            "text": f"Use the checkpoint before step {step}.",
            "change": {"train.max_steps": step},
            "source": "prechelt1998",
        },
        {"text": "Lower train.lr or train for fewer epochs.", "change": {}, "source": ""},
    ]
    worst = [{"id": f"e{at}", "before": 1.5, "after": 2.5 + at} for at in (1, 0)]
    log.write("flag", step=step, flag=flag, level=level, since_step=step - 40, suite=suite, effect=0.11, lo=0.06,
              hi=0.16, n=40, looks=5, message=f"{suite} loss has risen by 0.11 nats per token", worst=worst,
              actions=actions, advice=[action["text"] for action in actions], t=NOW - 2400, **more)  # fmt: skip


def finish(run: RunDir, log: LogWriter, ended: float = NOW - 2000) -> None:
    log.write("end", status="finished", step=STEPS, t=ended)
    log.close()
    write_json(run.attempt(1).exit, {"exit_code": 0, "signal": None, "started": ended - 800, "ended": ended,
                                     "peak_rss_mb": 900.0})  # fmt: skip
    say(run, "ended", state="finished", attempt=1, exit_code=0, t=ended)


def fill(home: Home) -> None:
    """Five runs: two finished (one flagged), one running, one queued, one failed; hardware samples."""
    home.create()
    full = make_run(home, 1, "docstrings-full", "full")
    log = train(full, STEPS, floor=0.9, bend=0.2, forget=0.14)
    raise_flag(log, 240, "overfitting", "heldout")
    forecast = {"step": 400, "value": 0.2, "lo": 0.15, "hi": 0.25}
    raise_flag(
        log, 320, "forgetting", "general", "critical", slice="prose", lost=31, gained=12, forecast=forecast
    )
    finish(full, log)
    lora = make_run(home, 2, "docstrings-lora")
    finish(lora, train(lora, STEPS, floor=1.0))
    qlora = make_run(home, 3, "docstrings-qlora", "qlora", created=NOW - 600)
    train(qlora, 236, floor=1.1, started=NOW - 472)
    queued = make_run(home, 4, "docstrings-lora-r64", r=64, created=NOW - 60)
    say(queued, "priority", priority=0, t=NOW - 60)
    failed = make_run(home, 5, "broken", created=NOW - 50)
    say(
        failed,
        "ended",
        state="failed",
        reason="train.max_length 4096 is longer than the model's 512",
        t=NOW - 40,
    )
    hardware = LogWriter(home.hardware_log, "hardware")
    hardware.write("device", name="gpu0", label="NVIDIA H100", t=NOW)
    hardware.write("sample", t=NOW, values={
        "cpu/percent": 37.0, "ram/used_gb": 7.4, "ram/total_gb": 16.0, "disk/free_gb": 120.0,
        "disk/total_gb": 250.0, "gpu0/util": 93.0, "gpu0/memory_used_gb": 61.2, "gpu0/memory_total_gb": 80.0,
        "gpu0/power_w": 602.0, "gpu0/temp_c": 61.0,
    })  # fmt: skip
    hardware.close()


@dataclass
class Served:
    """A home behind the real store."""

    home: Home
    actions: Actions
    ingest: Any
    server: Any
    projection: Any

    def connect(self) -> Any:
        from finetui.client import Client

        return Client(self.home.socket)

    def look(self) -> None:
        """Read what has been written since."""
        self.ingest.drain()


@contextmanager
def served(home: Home, waiting: dict[int, str] | None = None) -> Iterator[Served]:
    """The home's store behind its socket, everything on disk read."""
    import store

    home.create()
    projection = store.Projection(home.store)
    ingest = store.Ingest(projection, home.path)
    ingest.drain()
    if waiting:
        projection.set_waiting(waiting)
    actions = Actions()
    server = store.Server(home.socket, projection, actions)
    server.start()
    try:
        yield Served(home, actions, ingest, server, projection)
    finally:
        server.stop()
        projection.close()


if __name__ == "__main__":  # python tests/tui/made_home.py DIR: fill a home to look at
    import sys

    fill(Home(Path(sys.argv[1])))
    print(json.dumps({"home": sys.argv[1]}))
