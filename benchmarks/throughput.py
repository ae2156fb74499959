"""finetui beside TRL's SFTTrainer: same model, data, tokens and machine, one after the other.

    python -m benchmarks.throughput [--models 2m 50m] [--methods full lora qlora] [--steps 12] [--rounds 1] [--keep 6]

Two comparisons. `defaults`: TRL as it comes (8 rows a step, bf16, activation checkpointing, no packing) and finetui
with the same number of tokens in a step. `best`: TRL with each of a set of faster flags, of which the fastest counts,
and finetui as it comes, both with about 8,192 tokens in a step. Tokens are those of the examples, padding not counted;
the first step is left out of tokens/s and told apart, from the start of the process (imports, loading and, for finetui,
the evaluation at step 0 included). Peak memory is that of the process.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from engine.recipe.sections import Recipe
from engine.runs.home import RunDir
from finetui.log import read_log

ROWS = 8  # transformers' per_device_train_batch_size
TOKENS = 8192  # in a step of the second comparison: 8 packed rows of 1,024
RATES = {"full": 1e-4, "lora": 1e-3, "qlora": 1e-3}
OFF: dict[str, Any] = {"gradient_checkpointing": False}
BEST: dict[str, dict[str, Any]] = {
    "long rows (wrapped packing)": {
        "packing": True,
        "packing_strategy": "wrapped",
        "per_device_train_batch_size": 8,
    },
    "packing (bfd), a row a pass": {
        "packing": True,
        "per_device_train_batch_size": 1,
        "gradient_accumulation_steps": 8,
    },
    "rows by length": {"train_sampling_strategy": "group_by_length", "per_device_train_batch_size": 143},
}


@dataclass(frozen=True)
class Result:
    """What one process did."""

    name: str
    tokens_per_s: float
    first_step: float  # seconds from the start of the process
    peak_mb: float


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--models", nargs="+", default=["2m", "50m"], choices=["2m", "50m"])
    parser.add_argument("--methods", nargs="+", default=["full", "lora", "qlora"])
    parser.add_argument("--steps", type=int, default=12)
    parser.add_argument("--rounds", type=int, default=1, help="repeat, and take the fastest of each")
    parser.add_argument(
        "--keep", type=int, default=6, help="how many of TRL's variants go on to the next method"
    )
    parser.add_argument("--only", choices=["defaults", "best"])
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="finetui-throughput-") as scratch:
        bench = Bench(Path(scratch), options.steps, options.rounds, options.keep)
        for model in options.models:
            for method in options.methods:
                if options.only != "best":
                    bench.defaults(model, method)
                if options.only != "defaults":
                    bench.best(model, method)


class Bench:
    """Runs both programs and prints a table row for each."""

    def __init__(self, scratch: Path, steps: int, rounds: int, keep: int) -> None:
        self.scratch, self.steps, self.rounds, self.keep = scratch, steps, rounds, keep
        every = {
            f"{name}, {kind}": flags | {"bf16": kind == "bf16"}
            for name, flags in BEST.items()
            for kind in ("bf16", "fp32")
        }
        self.contestants = {"2m": every, "50m": every}
        self.number = 0
        self.mean = save_data(scratch / "data.npz")
        self.paths = {"2m": "bundled:stdlib-2m", "50m": str(scratch / "llama-50m")}
        make_model(scratch / "llama-50m")
        columns = (
            "model",
            "method",
            "program",
            "tokens/s",
            "first step, s",
            "peak, MiB",
            "ratio of tokens/s",
        )
        print("| " + " | ".join(columns) + " |\n" + "|---" * len(columns) + "|", flush=True)

    def defaults(self, model: str, method: str) -> None:
        theirs = self.trl(model, method, "TRL, defaults", {})
        self.show(model, method, [theirs], self.finetui(model, method, round(ROWS * self.mean)))

    def best(self, model: str, method: str) -> None:
        tried = [
            self.trl(model, method, f"TRL, {name}", OFF | flags)
            for name, flags in self.contestants[model].items()
        ]
        self.show(model, method, tried, self.finetui(model, method, TOKENS))
        fastest = sorted(tried, key=lambda result: -result.tokens_per_s)[: self.keep]
        kept = {result.name.removeprefix("TRL, ") for result in fastest}
        self.contestants[model] = {name: f for name, f in self.contestants[model].items() if name in kept}

    def show(self, model: str, method: str, theirs: list[Result], ours: Result) -> None:
        for result in [*theirs, ours]:
            ratio = f"{ours.tokens_per_s / result.tokens_per_s:.2f}" if result is not ours else ""
            cells = (model, method, result.name, f"{result.tokens_per_s:,.0f}", f"{result.first_step:.1f}")
            print("| " + " | ".join([*cells, f"{result.peak_mb:,.0f}", ratio]) + " |", flush=True)

    def trl(self, model: str, method: str, name: str, flags: dict[str, Any]) -> Result:
        path = self.paths[model]
        local = str(bundled()) if path.startswith("bundled:") else path
        out = self.scratch / "trl.json"
        spec = {
            "model": local,
            "tokenizer": str(bundled()),
            "data": str(self.scratch / "data.npz"),
            "method": method,
            "lr": RATES[method],
            "steps": self.steps,
            "flags": flags,
            "out": str(out),
        }
        (self.scratch / "spec.json").write_text(json.dumps(spec))
        command = [sys.executable, "-m", "benchmarks.trl_sft", str(self.scratch / "spec.json")]

        def measure(started: float, peak: float) -> Result:
            found = json.loads(out.read_text())
            times, passes = found["times"], found["passes"]
            a_step = flags.get("gradient_accumulation_steps", 1)
            tokens = sum(passes[a_step : a_step * self.steps])
            return Result(name, tokens / (times[-1] - times[0]), times[0] - started, peak)

        return self.fastest(command, measure)

    def finetui(self, model: str, method: str, tokens: int) -> Result:
        self.number += 1
        run = RunDir(self.scratch / f"{self.number:06d}")
        run.attempt(1).path.mkdir(parents=True)
        recipe = Recipe.model_validate(
            {
                "model": self.paths[model],
                "method": method,
                "data": {"train": "bundled:docstrings", "heldout": 2},
                "train": {
                    "lr": RATES[method],
                    "max_steps": self.steps,
                    "tokens_per_step": tokens,
                    "checkpoint_every": "100%",
                },
                "evals": {"every": "100%", "general": None, "limit": 2, "generate": 0, "few_shot": 0},
            }
        )
        body = {"recipe": recipe.model_dump(mode="json"), "cwd": str(Path.cwd())}
        run.meta.write_text(json.dumps(body))
        command = [sys.executable, "-P", "-m", "engine.attempt.worker", str(run.path), "1"]

        def measure(started: float, peak: float) -> Result:
            steps = [e for e in read_log(run.attempt(1).events) if e["kind"] == "metrics"]
            first, last = steps[0], steps[-1]
            tokens = last["values"]["train/tokens"] - first["values"]["train/tokens"]
            run.attempt(1).events.unlink()
            return Result("finetui", tokens / (last["t"] - first["t"]), first["t"] - started, peak)

        return self.fastest(command, measure)

    def fastest(self, command: list[str], measure: Any) -> Result:
        results = []
        for _ in range(self.rounds):
            started = time.time()
            process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
            output = process.stdout.read() if process.stdout else ""
            _, status, usage = os.wait4(process.pid, 0)
            if status:
                sys.exit(output)
            results.append(measure(started, peak_mb(usage)))
        return max(results, key=lambda result: result.tokens_per_s)


def peak_mb(usage: resource.struct_rusage) -> float:
    return usage.ru_maxrss / 2**10


def bundled() -> Path:
    from engine.models.source import locate

    found = locate("bundled:stdlib-2m")
    assert found
    return found


def save_data(path: Path, limit: int | None = None) -> float:
    """The training examples of finetui, or `limit` of them, token by token, for TRL; their mean length."""
    from engine.data.chat import Example
    from engine.models.tokenizer import load_tokenizer
    from engine.tasks.prepare import prepare

    recipe = Recipe.model_validate(
        {
            "model": "bundled:stdlib-2m",
            "method": "full",
            "data": {"train": "bundled:docstrings", "heldout": 2, "limit": limit},
            "evals": {"general": None},
        }
    )
    prepared = prepare(recipe, load_tokenizer(recipe.model), 1024).train
    examples = [example for example in prepared if isinstance(example, Example)]
    lengths = np.array([len(example.tokens) for example in examples])
    np.savez(
        path,
        tokens=np.concatenate([example.tokens for example in examples]),
        mask=np.concatenate([example.mask for example in examples]),
        ends=np.cumsum(lengths),
    )
    return float(lengths.mean())


def make_model(path: Path) -> None:
    """A Llama of 50M random weights with the bundled tokenizer."""
    import torch
    from transformers import AutoTokenizer, LlamaConfig, LlamaForCausalLM

    torch.manual_seed(0)
    tokenizer = AutoTokenizer.from_pretrained(bundled())
    config = LlamaConfig(
        vocab_size=len(tokenizer),
        hidden_size=640,
        intermediate_size=1728,
        num_hidden_layers=10,
        num_attention_heads=10,
        num_key_value_heads=5,
        max_position_embeddings=1024,
        tie_word_embeddings=True,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    LlamaForCausalLM(config).save_pretrained(path)
    tokenizer.save_pretrained(path)


if __name__ == "__main__":
    main()
