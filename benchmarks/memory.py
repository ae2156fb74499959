"""How good the memory estimate is: predicted against measured, on a CPU.

    python benchmarks/memory.py           peak resident memory of real training steps, a grid of cases
    python benchmarks/memory.py count     bytes that autograd saves per layer and token, by architecture

Each case is a process of its own: the model is loaded and trained by the engine's own code, two optimiser
steps, the second of two forward passes, and the peak is what Linux counted (VmHWM) less what was resident
before loading. glibc is told to map every large tensor by itself, see `EXACT_MALLOC`; `--plain-malloc` leaves
it as it is.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import yaml

from engine.basics.errors import ModelError
from engine.memory.activations import layer_bytes
from engine.memory.estimate import MIB, Estimate, estimate
from engine.memory.shapes import ModelShapes, from_config, model_shapes
from engine.memory.workload import Workload, workload_of
from engine.recipe.sections import Recipe

BUNDLED = "bundled:stdlib-2m"
# About 50M parameters; a vocabulary as small as this leaves the activations in the lead.
LLAMA_50M = {
    "model_type": "llama",
    "hidden_size": 512,
    "intermediate_size": 1408,
    "num_hidden_layers": 12,
    "num_attention_heads": 8,
    "num_key_value_heads": 4,
    "vocab_size": 16384,
    "max_position_embeddings": 2048,
    "tie_word_embeddings": True,
    "bos_token_id": 0,
    "eos_token_id": 1,
}

# By default glibc raises the size from which it maps memory of its own to 32 MiB, so that tensors share heaps,
# whose holes count as resident: the bundled model with LoRA peaks at twice what its tensors need.
EXACT_MALLOC = {"MALLOC_MMAP_THRESHOLD_": str(256 * 1024)}


@dataclass(frozen=True)
class Case:
    """One training setup to measure. `model`: a directory or `bundled:NAME`."""

    model: str
    method: str  # its name, and settings of its section: `lora dora=true`
    tokens: int
    length: int
    bf16: bool = False
    checkpointing: bool = False

    @property
    def recipe(self) -> Recipe:
        name, *settings = self.method.split()
        method = {"name": name} | {k: yaml.safe_load(v) for k, v in (s.split("=") for s in settings)}
        train = {
            "micro_tokens": self.tokens,
            "tokens_per_step": 2 * self.tokens,
            "max_length": self.length,
            "precision": "bf16" if self.bf16 else "fp32",
            "activation_checkpointing": self.checkpointing,
        }
        data, evals = {"train": "bundled:docstrings"}, {"generate": 0}
        sections = {"method": method, "data": data, "train": train, "evals": evals}
        return Recipe.model_validate({"model": self.model, **sections})

    def workload(self, shapes: ModelShapes) -> Workload:
        return workload_of(self.recipe, shapes, "cpu")

    def __str__(self) -> str:
        name = "2.6M" if self.model == BUNDLED else Path(self.model).name
        notes = ["bf16"] * self.bf16 + ["checkpointing"] * self.checkpointing
        return " ".join([name, self.method, f"{self.tokens}x{self.length}", *notes])


@dataclass(frozen=True)
class Measured:
    """Bytes of resident memory above what was there before the model was loaded."""

    loading: int  # peak while loading
    loaded: int
    training: int  # peak of the steps
    before: int  # resident before loading, the framework's own

    @property
    def peak(self) -> int:
        return max(self.loading, self.training)


def measure(cases: Sequence[Case], exact_malloc: bool = True) -> Iterator[Measured]:
    """Run each case in a process of its own, forked from one that has the imports done."""
    environment = os.environ | {"OMP_NUM_THREADS": "1"} | (EXACT_MALLOC if exact_malloc else {})
    command = [
        sys.executable,
        str(Path(__file__).resolve()),
        "child",
        json.dumps([asdict(case) for case in cases]),
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as process:
        assert process.stdout is not None
        for line in process.stdout:
            yield Measured(**json.loads(line))
    if process.returncode:
        raise RuntimeError(f"a measured process ended with {process.returncode}")


def predict(case: Case) -> Estimate:
    shapes = model_shapes(case.model)
    return estimate(shapes, case.workload(shapes))


def save_model(directory: Path, config: dict[str, Any]) -> None:
    """A model with random weights, in bfloat16 as models are published."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    model = AutoModelForCausalLM.from_config(AutoConfig.for_model(**config)).to(torch.bfloat16)
    model.save_pretrained(directory)


# ---- in the measured process ---------------------------------------------------------------------


def fork_each(cases: Sequence[Case]) -> None:
    """Print what each case takes, a line of JSON each. Nothing is computed before the fork, so no thread is lost."""
    from engine.models.quiet import import_bitsandbytes

    import_bitsandbytes()  # part of the framework, not of the model
    import peft  # noqa: F401
    import torch

    import engine.losses.loss
    import engine.models.load
    import engine.training.optimiser  # noqa: F401

    torch.set_num_threads(1)
    for case in cases:
        if not (child := os.fork()):
            print(json.dumps(asdict(_run(case))), flush=True)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        if status:
            sys.exit(f"{case} failed")


def _run(case: Case) -> Measured:
    import torch

    _warm_up()
    before = _status("VmRSS")
    _reset_peak()
    loss, optimiser = _load(case)
    loading, loaded = _status("VmHWM"), _status("VmRSS")
    _reset_peak()
    for step in range(3):  # one whole step, so that the moments exist, then a window of two forward passes
        with torch.autocast("cpu", torch.bfloat16, enabled=case.bf16):
            value = loss(_batch(case, loss.model.config.vocab_size, step))
        value.backward()
        if step == 0:
            torch.nn.utils.clip_grad_norm_([p for p in loss.parameters() if p.requires_grad], 1.0)
            optimiser.step()
            optimiser.zero_grad()
    return Measured(loading - before, loaded - before, _status("VmHWM") - before, before)


def _warm_up() -> None:
    """One step of a tiny model: code and buffers that libraries bring in at first use are theirs."""
    import torch
    from transformers import LlamaConfig, LlamaForCausalLM

    sizes = {"hidden_size": 64, "intermediate_size": 64, "num_attention_heads": 2, "num_hidden_layers": 1}
    model = LlamaForCausalLM(LlamaConfig(vocab_size=64, bos_token_id=0, eos_token_id=1, **sizes))
    optimiser = torch.optim.AdamW(model.parameters(), fused=True)
    ids = torch.zeros((1, 8), dtype=torch.long)
    model(input_ids=ids, labels=ids).loss.backward()
    torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    optimiser.step()


def _load(case: Case) -> tuple[Any, Any]:
    import torch

    from engine.losses.loss import TargetLoss
    from engine.models.load import load_model
    from engine.training.optimiser import make_optimiser

    recipe = case.recipe
    dtype = torch.bfloat16 if case.bf16 else torch.float32
    model = load_model(recipe.model, recipe.method, dtype, case.checkpointing)
    model.train()
    return TargetLoss(model), make_optimiser(model, recipe.train)


def _batch(case: Case, vocabulary: int, seed: int) -> Any:
    """Every token but the first of each row is a target."""
    import torch

    from engine.losses.batches import Batch

    rows = max(1, case.tokens // case.length)
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(2, vocabulary, (rows, case.length), generator=generator)
    places = torch.arange(ids.numel()).reshape(ids.shape)
    return Batch(ids, places[:, :-1].flatten(), ids[:, 1:].flatten(), places[:, 1:].flatten() // case.length)


def _status(key: str) -> int:
    """A figure of /proc/self/status in bytes."""
    line = next(line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(key))
    return int(line.split()[1]) * 1024


def _reset_peak() -> None:
    Path("/proc/self/clear_refs").write_text("5")


# ---- saved tensors -------------------------------------------------------------------------------

# Small, and with widths that are all different, so that a wrong term shows.
COUNTED = {
    "hidden_size": 96,
    "intermediate_size": 160,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 40,
    "vocab_size": 512,
    "max_position_embeddings": 512,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "pad_token_id": 2,
}
COUNTED_GPT2 = {
    "n_embd": 96,
    "n_head": 4,
    "vocab_size": 512,
    "n_positions": 512,
    "bos_token_id": 0,
    "eos_token_id": 1,
}
ARCHITECTURES = (
    "llama",
    "qwen2",
    "qwen3",
    "gemma",
    "gemma2",
    "gemma3_text",
    "phi3",
    "olmo2",
    "granite",
    "gpt2",
)
COUNTED_METHODS = (
    "full",
    "freeze modules=[self_attn]",
    "lora",
    "lora dropout=0.1",
    "lora dora=true",
    "qlora",
    "qlora dropout=0.1",
    "shira",
    "oft",
    "osf",
    "adapter",
    "adapter placement=pfeiffer",
    "ia3",
    "prefix tokens=9",
    "prompt tokens=9",
)


def count(architecture: str, method: str, bf16: bool, where: Path) -> tuple[float, float]:
    """Bytes saved per layer and token: (predicted, counted), weights and their copies left out.

    Counted as the difference between a model of three layers and one of two.
    """
    config = {"model_type": architecture, **(COUNTED_GPT2 if architecture == "gpt2" else COUNTED)}
    layers = "n_layer" if architecture == "gpt2" else "num_hidden_layers"
    sizes = []
    for number in (2, 3):
        directory = where / f"{architecture}-{number}"
        if not directory.exists():
            save_model(directory, config | {layers: number})
        case = Case(str(directory), method, 4 * 37, 37, bf16)
        sizes.append(_saved_bytes(case) / case.tokens)
    shapes: ModelShapes = from_config(config | {layers: 3}, architecture)
    workload = case.workload(shapes)
    in_front = workload.virtual / workload.length if workload.method == "prompt" else 0
    return layer_bytes(shapes, workload) * (1 + in_front), sizes[1] - sizes[0]


def _saved_bytes(case: Case) -> int:
    """Bytes of all storages that a forward pass saves and that are not weights or made from weights alone."""
    import torch

    loss, _ = _load(case)
    kept: dict[int, tuple[int, Any]] = {}
    weights = {parameter.untyped_storage().data_ptr() for parameter in loss.parameters()}

    def pack(tensor: Any) -> Any:
        # The sizes of activations are multiples of the number of tokens; those of weights' copies are not.
        if tensor.is_sparse:  # SHiRA's trained weights in their places
            return tensor
        if tensor.untyped_storage().data_ptr() not in weights:
            kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage().nbytes(), tensor
        return tensor

    with (
        torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor),
        torch.autocast("cpu", torch.bfloat16, enabled=case.bf16),
    ):
        loss(_batch(case, loss.model.config.vocab_size, 0))
    rows, virtual = case.tokens // case.length, case.recipe.virtual_tokens
    lengths = {rows * length for length in (case.length, case.length + virtual)}
    return sum(size for size, _ in kept.values() if any(size % tokens == 0 for tokens in lengths))


# ---- printing ------------------------------------------------------------------------------------


def print_counts(architectures: list[str], methods: list[str]) -> None:
    with tempfile.TemporaryDirectory() as where:
        for architecture in architectures or ARCHITECTURES:
            for method in methods or COUNTED_METHODS:
                for bf16 in (False, True):
                    try:
                        ours, theirs = count(architecture, method, bf16, Path(where))
                    except ModelError:  # the method does not fit this architecture
                        continue
                    name = f"{architecture} {method} {'bf16' if bf16 else 'fp32'}"
                    print(f"{name:<50} {ours:>8.0f} {theirs:>8.0f} {ours / theirs:>6.2f}", flush=True)


def grid(llama: str) -> list[Case]:
    methods = ("full", "lora", "qlora")
    cases = [Case(BUNDLED, method, tokens, 256) for method in methods for tokens in (1024, 4096)]
    cases += [Case(llama, method, tokens, 256) for method in methods for tokens in (256, 1024)]
    cases += [Case(llama, "lora", 1024, 1024), Case(llama, "lora dropout=0.1", 1024, 256)]
    cases += [
        Case(llama, method, 1024, 256) for method in COUNTED_METHODS if method.split()[0] not in methods
    ]
    cases += [Case(llama, method, 1024, 256, checkpointing=True) for method in methods]
    return [*cases, *(Case(llama, method, 512, 256, bf16=True) for method in methods)]


def print_grid(exact_malloc: bool) -> None:
    with tempfile.TemporaryDirectory() as where:
        llama = Path(where) / "50M"
        save_model(llama, LLAMA_50M)
        print(
            f"{'case':<40} {'predicted':>10} {'measured':>10} {'ratio':>6} {'loaded':>8} {'before':>8}  (MiB)"
        )
        cases = grid(str(llama))
        for case, theirs in zip(cases, measure(cases, exact_malloc), strict=True):
            ours = predict(case)
            figures = ours.for_model / MIB, theirs.peak / MIB, ours.for_model / theirs.peak
            print(
                f"{case!s:<40} {figures[0]:>10.0f} {figures[1]:>10.0f} {figures[2]:>6.2f} "
                f"{theirs.loaded / MIB:>8.0f} {theirs.before / MIB:>8.0f}",
                flush=True,
            )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", nargs="?", default="grid", choices=["grid", "count", "child"])
    parser.add_argument("cases", nargs="?")
    parser.add_argument("--architecture", action="append", default=[], help="count only these")
    parser.add_argument("--method", action="append", default=[], help="count only these")
    parser.add_argument("--plain-malloc", action="store_true", help="measure with glibc's defaults")
    arguments = parser.parse_args()
    if arguments.what == "child":
        fork_each([Case(**case) for case in json.loads(arguments.cases)])
    elif arguments.what == "count":
        print_counts(arguments.architecture, arguments.method)
    else:
        print_grid(not arguments.plain_malloc)


if __name__ == "__main__":
    main()
