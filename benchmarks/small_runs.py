"""Small runs from end to end, with their evaluations: TRL scripts, an older finetui, and this one.

    python -m benchmarks.small_runs [--runs 8] [--steps 84] [--old FOLDER] [--concurrency 2] [--demo]

A sweep of LoRA runs over the learning rate, of about 700 tokens a step. TRL: as many scripts, one after another, on
rows that are tokenised already, which score their held-out rows as often (before the first step, and at every tenth).
finetui: `finetui run` of one recipe in a new home, without a daemon or a pool, until the last run has ended; each run
also scores general text, texts of the base model and rows that it trained on, answers prompts, and judges flags.
FOLDER: a checkout of an older commit, run with the same libraries. `--concurrency`: once more with so many at a time.

`--demo`: the three runs of `finetui demo` instead, without TRL, and the flags that were raised at each look.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from benchmarks.startup import end_pool, run, until_ended
from benchmarks.throughput import RATES, bundled, save_data

ROWS = 12  # of 57 tokens each in a step
HELDOUT = 100
EVERY = 0.1
COMMAND = "import sys; sys.argv[0] = 'finetui'; from tui.cli import main; sys.exit(main())"
RECIPE = """\
model: bundled:stdlib-2m
method: {{name: lora, r: 16, alpha: 32, targets: all-linear}}
data: {{train: bundled:docstrings}}
train: {{max_steps: {steps}, tokens_per_step: {tokens}}}
evals: {{every: 10%, general: bundled:stdlib-prose, limit: {heldout}}}
sweep: {{train.lr: [{rates}]}}
"""


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--runs", type=int, default=8)
    parser.add_argument("--steps", type=int, default=84)
    parser.add_argument("--old", type=Path)
    parser.add_argument("--concurrency", type=int)
    parser.add_argument("--demo", action="store_true")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="finetui-small-") as scratch:
        folder = Path(scratch)
        for name, seconds, first in measured(folder, options):
            print(f"{name}: {seconds:.1f} s ({first / seconds:.2f} times as fast as the first)", flush=True)


def measured(folder: Path, options: argparse.Namespace) -> Iterator[tuple[str, float, float]]:
    """Yield what was run, its seconds, and those of the first."""
    tokens = round(ROWS * save_data(folder / "data.npz"))
    rates = [RATES["lora"] * (1 - 0.05 * n) for n in range(options.runs)]
    first = 0.0
    if not options.demo:
        began = time.time()
        for rate in rates:
            trl(folder, rate, options.steps)
        first = time.time() - began
        yield f"{options.runs} TRL scripts", first, first
    recipe = folder / "recipe.yaml"
    recipe.write_text(
        RECIPE.format(
            steps=options.steps,
            tokens=tokens,
            heldout=HELDOUT,
            rates=", ".join(f"{rate:g}" for rate in rates),
        )
    )
    words = ["demo"] if options.demo else ["run", str(recipe)]
    here = Path(__file__).resolve().parent.parent
    builds: list[tuple[str, Path, int | None]] = [("finetui", here, None)]
    if options.old:
        builds.insert(0, ("the older finetui", options.old.resolve(), None))
    if options.concurrency:
        builds.append((f"finetui, {options.concurrency} at a time", here, options.concurrency))
    count = 3 if options.demo else options.runs
    for place, (name, root, concurrency) in enumerate(builds):
        seconds = finetui(folder / f"build-{place}", root, words, count, concurrency)
        first = first or seconds
        yield name, seconds, first


def trl(folder: Path, rate: float, steps: int) -> None:
    spec = {
        "model": str(bundled()),
        "tokenizer": str(bundled()),
        "data": str(folder / "data.npz"),
        "heldout": HELDOUT,
        "method": "lora",
        "lr": rate,
        "steps": steps,
        "flags": {
            "per_device_train_batch_size": ROWS,
            "eval_strategy": "steps",
            "eval_steps": EVERY,
            "eval_on_start": True,
        },
        "out": str(folder / "trl.json"),
    }
    (folder / "spec.json").write_text(json.dumps(spec))
    run([sys.executable, "-m", "benchmarks.trl_sft", str(folder / "spec.json")], None)


def finetui(folder: Path, root: Path, words: list[str], count: int, concurrency: int | None) -> float:
    """Seconds from the command until the last of `count` runs has ended; prints when their flags were raised."""
    folder.mkdir()
    home = folder / "home"
    home.mkdir(mode=0o700)
    if concurrency:
        (home / "config.toml").write_text(f"concurrency = {concurrency}\n")
    environment = {
        **os.environ,
        "PYTHONPATH": str(root),
        "FINETUI_HOME": str(home),
        "FINETUI_POOL": str(folder / "pool"),
        "FINETUI_HEADLESS": "1",
    }
    command = [sys.executable, "-P", "-c", COMMAND]
    began = time.time()
    try:
        run([*command, *words], environment)
        runs = [until_ended(home / "runs", number) for number in range(1, count + 1)]
    finally:
        subprocess.run([*command, "daemon", "stop"], env=environment, capture_output=True, check=False)
        end_pool(folder / "pool")
    for number, events in enumerate(runs, start=1):
        if events[-1]["status"] != "finished":
            sys.exit(f"run {number} has not finished: {events[-1]}")
        raised = [
            f"{event['step']}: {event['flag']} {event['level']}"
            for event in events
            if event["kind"] == "flag" and event["level"] in ("warn", "critical")
        ]
        print(f"  run {number}: {', '.join(raised) or 'no warning'}", flush=True)
    return float(max(events[-1]["t"] for events in runs)) - began


if __name__ == "__main__":
    main()
