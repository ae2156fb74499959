"""Every method on the bundled task, each through the real worker: `python -m benchmarks.methods [--steps 40]`.

Prints the table of docs/benchmarks.md: weights trained, losses before and after on held-out rows of the task and
on general text (95% intervals of the difference to the base model, paired by example), tokens/s, peak memory.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np

from engine.basics.statistics import change
from engine.recipe.sections import Recipe
from engine.runs.home import RunDir
from finetui.log import read_log

# Peak rates for a model of 2.6M parameters: five to ten times those of large models.
METHODS: dict[str, tuple[Any, float]] = {
    "full": ("full", 1e-3),
    "freeze (2 of 5 blocks)": ("freeze", 1e-3),
    "lora (r 16)": ("lora", 2e-3),
    "lora, rslora": ({"name": "lora", "rslora": True}, 1e-3),
    "lora, dora": ({"name": "lora", "dora": True}, 2e-3),
    "lora, pissa": ({"name": "lora", "init": "pissa"}, 1e-3),
    "lora, lr_ratio 4": ({"name": "lora", "lr_ratio": 4.0}, 1e-3),
    "qlora (nf4)": ("qlora", 2e-3),
    "adapter, houlsby": ("adapter", 3e-3),
    "adapter, pfeiffer": ({"name": "adapter", "placement": "pfeiffer"}, 3e-3),
    "ia3": ("ia3", 3e-2),
    "prefix (16 tokens)": ("prefix", 1e-1),
    "prompt (16 tokens)": ("prompt", 1e-1),
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--steps", type=int, default=40, help="optimiser steps")
    parser.add_argument("--tokens", type=int, default=2048, help="tokens in a step")
    parser.add_argument("--only", help="methods whose name contains this")
    parser.add_argument("--lr", type=float, help="this rate instead of the method's own")
    options = parser.parse_args()
    columns = (
        "method",
        "rate",
        "trained",
        "held-out: base → after",
        "change",
        "general: base → after",
        "change",
    )
    print("| " + " | ".join([*columns, "tokens/s", "peak MiB"]) + " |")
    print("|---" * (len(columns) + 2) + "|")
    with tempfile.TemporaryDirectory(prefix="finetui-methods-") as scratch:
        for number, (name, (method, rate)) in enumerate(METHODS.items(), start=1):
            if not options.only or options.only in name:
                tree = recipe(method, options.lr or rate, options.steps, options.tokens)
                print(row(name, options.lr or rate, run(Path(scratch) / f"{number:06d}", tree)), flush=True)


def recipe(method: Any, rate: float, steps: int, tokens: int) -> Recipe:
    train = {
        "lr": rate,
        "max_steps": steps,
        "tokens_per_step": tokens,
        "micro_tokens": tokens,
        "max_length": 256,
    }
    return Recipe.model_validate(
        {
            "model": "bundled:stdlib-2m",
            "method": method,
            "data": {"train": "bundled:docstrings"},
            "train": train | {"checkpoint_every": "100%"},
            "evals": {
                "every": "100%",
                "general": "bundled:stdlib-prose",
                "limit": 100,
                "generate": 0,
                "few_shot": 0,
            },
        }
    )


def run(path: Path, tree: Recipe) -> list[dict[str, Any]]:
    """The events of a finished run; ends with its output if it fails."""
    run = RunDir(path)
    run.attempt(1).path.mkdir(parents=True)
    run.meta.write_text(json.dumps({"recipe": tree.model_dump(mode="json"), "cwd": str(Path.cwd())}))
    command = [sys.executable, "-P", "-m", "engine.attempt.worker", str(path), "1"]
    result = subprocess.run(command, env=dict(os.environ), capture_output=True, text=True, check=False)
    if result.returncode:
        sys.exit(result.stdout + result.stderr)
    return list(read_log(run.attempt(1).events))


def row(name: str, rate: float, events: list[dict[str, Any]]) -> str:
    plan = next(event for event in events if event["kind"] == "plan")
    metrics = [event["values"] for event in events if event["kind"] == "metrics"]
    speed = median(values["train/tokens_per_s"] for values in metrics)
    cells = [
        name,
        f"{rate:g}",
        f"{plan['trainable']:,}",
        *losses(events, "heldout"),
        *losses(events, "general"),
    ]
    return "| " + " | ".join([*cells, f"{speed:,.0f}", f"{metrics[-1]['memory/peak_mb']:,.0f}"]) + " |"


def losses(events: list[dict[str, Any]], suite: str) -> tuple[str, str]:
    """`3.75 → 3.20` and the change with its interval, in nats per token."""
    first, *_, last = [event for event in events if event["kind"] == "eval" and event["suite"] == suite]
    before, after = (event["values"]["loss"]["value"] for event in (first, last))
    tokens = np.asarray(first["examples"]["tokens"])
    nll = (np.asarray(event["examples"]["nll"]) for event in (first, last))
    found = change(*nll, tokens)
    lo, hi = found.interval()
    return f"{before:.3f} → {after:.3f}", f"{found.value:+.3f} ({lo:+.3f} to {hi:+.3f})"


if __name__ == "__main__":
    main()
