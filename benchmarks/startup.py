"""From the command to the first optimiser step: a cold TRL script, and `finetui run` without and with a warm pool.

    python -m benchmarks.startup [--models 2m 50m] [--methods full lora qlora] [--rounds 1] [--sweep 8]

TRL: a script that imports, loads the model (the bundled one, or a Llama of 50M random weights) and steps once, on rows
that are tokenised already; nothing is evaluated. finetui: the command `finetui run RECIPE`, which checks the recipe and
the data, in a new home without a daemon or a pool (cold), then again with another learning rate (warm: daemon and pool
are there, and the base model's scores are cached). Every time is from the start of the first process to the line that
the first step leaves in the log; finetui's first evaluation lies before it. Of several rounds the fastest counts.

`--sweep N`: N such scripts one after another, and one `finetui run` of a recipe that sweeps over N learning rates, each
to the first step of the last run; finetui's runs have an evaluation at both ends, the scripts none.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.throughput import RATES, ROWS, bundled, make_model, save_data
from finetui.log import read_log

FINETUI = str(Path(sys.executable).parent / "finetui")
WAIT_S = 300.0
RECIPE = """\
model: {model}
method: {method}
data: {{train: bundled:docstrings}}
train: {{max_steps: 2, tokens_per_step: {tokens}, lr: {lr}}}
evals: {{every: 100%, limit: 50, generate: 0, samples: 0, few_shot: 0}}
"""
SWEEP = "sweep: {{train.lr: [{rates}]}}\n"


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", nargs="+", default=["2m"], choices=["2m", "50m"])
    parser.add_argument("--methods", nargs="+", default=["full", "lora", "qlora"])
    parser.add_argument("--rounds", type=int, default=1)
    parser.add_argument("--sweep", type=int, default=1, help="runs of a sweep; 1: no sweep")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="finetui-startup-") as scratch:
        tokens = round(ROWS * save_data(Path(scratch) / "data.npz"))
        large = Path(scratch) / "llama-50m"
        if "50m" in options.models:
            make_model(large)
        head = "| model | method | TRL, s | finetui cold, s | warm, s | cold / TRL | warm / TRL |"
        print(f"{head}\n" + "|---" * 7 + "|")
        for name, method in itertools.product(options.models, options.methods):
            model = str(large) if name == "50m" else "bundled:stdlib-2m"
            rounds = [
                measure(Path(scratch) / f"{name}-{method}-{number}", model, method, tokens, options.sweep)
                for number in range(options.rounds)
            ]
            theirs, cold, warm = (min(times) for times in zip(*rounds, strict=True))
            cells = [f"{theirs:.2f}", f"{cold:.2f}", f"{warm:.2f}"]
            cells += [f"{cold / theirs:.2f}", f"{warm / theirs:.2f} (1/{theirs / warm:.1f})"]
            print("| " + " | ".join([name, method, *cells]) + " |", flush=True)


def measure(folder: Path, model: str, method: str, tokens: int, count: int) -> tuple[float, float, float]:
    """Seconds to the first step of the last of `count` runs: TRL, finetui cold, finetui warm."""
    folder.mkdir()
    began = time.time()
    for _ in range(count):
        first_step = trl(folder, model, method)
    theirs = first_step - began
    environment = {
        **os.environ,
        "FINETUI_HOME": str(folder / "home"),
        "FINETUI_POOL": str(folder / "pool"),
    }
    try:
        cold, warm = (
            finetui(
                folder,
                number,
                RECIPE.format(model=model, method=method, tokens=tokens, lr=lr),
                lr,
                environment,
                count,
            )
            for number, lr in ((1, RATES[method]), (2, 0.5 * RATES[method]))
        )
    finally:
        subprocess.run([FINETUI, "daemon", "stop"], env=environment, capture_output=True, check=False)
        end_pool(folder / "pool")
    return theirs, cold, warm


def trl(folder: Path, model: str, method: str) -> float:
    """Run a script to its end; the time of its first step."""
    spec = {
        "model": str(bundled()) if model.startswith("bundled:") else model,
        "tokenizer": str(bundled()),
        "data": str(folder.parent / "data.npz"),
        "method": method,
        "lr": RATES[method],
        "steps": 1,
        "flags": {},
        "out": str(folder / "trl.json"),
    }
    (folder / "spec.json").write_text(json.dumps(spec))
    run([sys.executable, "-m", "benchmarks.trl_sft", str(folder / "spec.json")], None)
    return float(json.loads((folder / "trl.json").read_text())["times"][0])


def finetui(
    folder: Path, number: int, text: str, lr: float, environment: dict[str, str], count: int
) -> float:
    recipe = folder / f"{number}.yaml"
    if count > 1:
        text += SWEEP.format(rates=", ".join(f"{lr * (1 - 0.01 * n):g}" for n in range(count)))
    recipe.write_text(text)
    started = time.time()
    run([FINETUI, "run", str(recipe)], environment)
    events = until_ended(folder / "home" / "runs", number * count)
    first = next((event for event in events if event["kind"] == "metrics"), None)
    if first is None:
        sys.exit(f"run {number} took no step: {events[-1]}")
    return float(first["t"]) - started


def until_ended(runs: Path, number: int) -> list[dict[str, Any]]:
    """The events of a run's first attempt, once it has ended."""
    deadline = time.monotonic() + WAIT_S
    while time.monotonic() < deadline:
        for log in runs.glob(f"{number:06d}-*/attempts/1/events.jsonl"):
            events = list(read_log(log))
            if events and events[-1]["kind"] == "end" and (log.parent / "exit.json").exists():
                return events
        time.sleep(0.2)
    sys.exit(f"run {number} has not ended in {WAIT_S:g} s")


def run(command: list[str], environment: dict[str, str] | None) -> None:
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(done.stdout + done.stderr)


def end_pool(place: Path) -> None:
    import signal

    from engine.basics.process import Identity, send
    from finetui.files import read_json

    for lock in place.glob("*.lock"):
        if identity := Identity.from_dict(read_json(lock)):
            send(identity, signal.SIGTERM)


if __name__ == "__main__":
    main()
