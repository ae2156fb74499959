"""What the measured screens look at: runs that log while they are watched, in finetui's files or in W&B's.

    python -m benchmarks.tui_load finetui FOLDER --live 8 --old 0     # a home behind the real store, until stdin ends
    python -m benchmarks.tui_load wandb FOLDER --live 8               # the same values by wandb, in its environment

Both log the same three metrics of the same runs, ten times a second. Nothing is trained.
"""

from __future__ import annotations

import argparse
import math
import random
import select
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

RATE_HZ = 10
BEGUN = 300  # steps that each run has logged before it is watched


def values_of(run: int, step: int) -> dict[str, float]:
    """The metrics of a run (0, 1, …) at a step, the same in every process: losses that fall, with noise."""
    noise = random.Random(run * 10_000_019 + step)
    clean = 0.9 + 0.05 * run + 2.2 * math.exp(-step / 300)
    return {
        "train/loss": clean + noise.gauss(0, 0.05),
        "heldout/loss": clean + 0.2 + noise.gauss(0, 0.02),
        "general/loss": 2.3 + 0.0003 * step + noise.gauss(0, 0.02),
    }


def at_rate(log: Callable[[int], None], *, tick: Callable[[], None] = lambda: None) -> None:
    """Call `log(step)` ten times a second and `tick` between, until whoever started this closes stdin."""
    for step in range(BEGUN):
        log(step)
    tick()
    print("ready", flush=True)
    step, due = BEGUN, time.monotonic()
    while not select.select([sys.stdin], [], [], max(0.0, due - time.monotonic()))[0]:
        log(step)
        step, due = step + 1, due + 1 / RATE_HZ
        tick()


def log_with_wandb(folder: Path, live: int) -> None:
    import wandb  # type: ignore[import-not-found,unused-ignore]  # in the environment of LEET

    runs = [
        wandb.init(project="runs", name=f"run-{at}", dir=str(folder), mode="offline", reinit="create_new",
                   config={"lr": 1e-4 * (at + 1), "method": "lora"}, settings=wandb.Settings(silent=True))
        for at in range(live)
    ]  # fmt: skip

    def log(step: int) -> None:
        for at, run in enumerate(runs):
            run.log(values_of(at, step), step=step)

    at_rate(log)


def serve(folder: Path, live: int, old: int, steps: int) -> None:
    """A home behind the real store: ended runs (their rows only), two that ended, and those that log."""
    import made_home  # type: ignore[import-not-found]  # of the tests

    from finetui.home import Home
    from finetui.log import LogWriter

    home = Home(folder)
    with made_home.served(home) as served:
        if old:
            add_rows(served.projection, old)
        number = old + 1
        logs = []
        for at in range(live + 2):
            run = made_home.make_run(home, number + at, f"run-{at}", created=made_home.NOW + at)
            log = made_home.begin(run, time.time())
            made_home.say(run, "running", state="running", attempt=1)
            log.write("plan", total_steps=steps, tokens_per_step=8192, train_examples=1800,
                      heldout_examples=200, parameters=2_100_000, trainable=90_000, precision="fp32",
                      device="cpu", max_length=512)  # fmt: skip
            if at < live:
                logs.append(log)
                run.attempt(1).stdout.write_text(
                    "".join(f"step {step}: training\n" for step in range(0, 300, 20))
                )
                continue
            log.write("metrics", step=1, values=values_of(at, 1))  # the cursor moves between these two
            made_home.finish(run, log, time.time())
        looked = 0.0
        hardware = LogWriter(home.hardware_log, "hardware")
        hardware.write("device", name="gpu0", label="NVIDIA H100")

        def log_all(step: int) -> None:
            if step % 20 == 0:  # every two seconds, as the daemon does
                hardware.write("sample", values=hardware_at(step, busy=live > 0))
            for at, log in enumerate(logs):
                log.write("metrics", step=step, values=values_of(at, step))

        def look() -> None:
            nonlocal looked
            if time.monotonic() - looked > 0.33:  # as the daemon does
                served.look()
                looked = time.monotonic()

        at_rate(log_all, tick=look)


def hardware_at(step: int, *, busy: bool) -> dict[str, float]:
    if not busy:  # a little noise
        return {
            "cpu/percent": step % 3, "ram/used_gb": 3.1 + step % 3 / 100, "ram/total_gb": 16.0,
            "disk/free_gb": 120.0, "disk/total_gb": 250.0, "gpu0/util": 0.0, "gpu0/memory_used_gb": 0.4,
            "gpu0/memory_total_gb": 80.0, "gpu0/power_w": 70.0 + step % 3, "gpu0/temp_c": 31.0,
        }  # fmt: skip
    return {
        "cpu/percent": 30.0 + step % 40, "ram/used_gb": 7.4, "ram/total_gb": 16.0, "disk/free_gb": 120.0,
        "disk/total_gb": 250.0, "gpu0/util": 90.0 + step % 9, "gpu0/memory_used_gb": 61.2,
        "gpu0/memory_total_gb": 80.0, "gpu0/power_w": 590.0 + step % 30, "gpu0/temp_c": 61.0,
    }  # fmt: skip


def add_rows(projection: Any, runs: int) -> None:
    """The rows of finished runs, without their files."""
    keys = ["train/loss", "heldout/loss", "general/loss", "train/tokens_per_s"]
    with projection.write() as cursor:
        cursor.execute(
            "INSERT INTO runs BY NAME SELECT range + 1 AS run, uuid()::VARCHAR AS uuid, 'run-' || range AS name,"
            " 'finished' AS state, 'lora' AS method, 'm' AS model, 1000 AS step, 1000 AS total_steps, 1 AS attempt,"
            " 1780000000 + range AS created FROM range($n)",
            {"n": runs},
        )
        cursor.execute(
            "INSERT INTO attempts BY NAME SELECT range + 1 AS run, 1 AS attempt, 0 AS started, 9 AS ended,"
            " 1 AS first_step, 1 AS first_t, 1000 AS last_step, 9 AS last_t FROM range($n)",
            {"n": runs},
        )
        cursor.execute(
            "INSERT INTO run_summary (run, key, last, last_step, best, best_step, n, first_step)"
            " SELECT r.range + 1, k, random(), 1000, random(), 500, 1000, 1"
            " FROM range($n) r, (SELECT unnest($keys) AS k)",
            {"n": runs, "keys": keys},
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("kind", choices=["finetui", "wandb"])
    parser.add_argument("folder", type=Path)
    parser.add_argument("--live", type=int, default=8, help="runs that log")
    parser.add_argument("--old", type=int, default=0, help="finished runs beside them")
    parser.add_argument("--steps", type=int, default=2000, help="how long finetui is told that the runs are")
    options = parser.parse_args()
    if options.kind == "wandb":
        log_with_wandb(options.folder, options.live)
        return
    sys.path.insert(0, str(Path(__file__).parent.parent / "tests" / "tui"))
    serve(options.folder, options.live, options.old, options.steps)


if __name__ == "__main__":
    main()
