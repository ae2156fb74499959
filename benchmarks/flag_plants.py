"""The runs of the flag benchmark: what is planted, as recipes. What a run then is, its oracle tells.

`PLANTS` are the first 40, on which the flags were built; those of a second look are in flag_regimes.py.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

TOKENS_PER_STEP = 1024
MAX_LENGTH = 192
LOOKS = "10%"  # of the steps between two looks: those that every run is sure to have


@dataclass(frozen=True)
class Plant:
    """A recipe to be run with several seeds, each with a draw of training rows and an order of its own."""

    name: str
    method: Any
    lr: float
    rows: int = 700  # training rows
    epochs: float = 2.0
    text: str = "plain"  # how training rows are changed or chosen, see `train_rows` in flag_data.py
    replay: float = 0.0
    train: dict[str, Any] = field(default_factory=dict)  # further keys of `train`
    model: str = "stdlib-2m"
    regime: str = "first"  # what it is an example of, for the tables
    task: str = "sft"
    heldout: str = "all"  # which held-out rows: all, or those that are not like the training rows (`reverse`)
    heldout_rows: int = 300  # at most
    looks: str = LOOKS
    scored: int = 300  # rows of each suite that detectors see, at most
    oracle: int = 100_000  # rows of each suite of the oracle, at most
    evals: dict[str, Any] = field(default_factory=dict)  # keys of `evals` for the worker alone

    def recipe(self, seed: int, files: dict[str, str], model: str) -> dict[str, Any]:
        """The recipe as a tree; `files`: paths of train, heldout, general and replay; `model`: its path."""
        data: dict[str, Any] = {"train": files["train"], "heldout": files["heldout"]}
        if self.replay:
            data["replay"] = {"source": files["replay"], "ratio": self.replay}
        train = {
            "lr": self.lr,
            "epochs": self.epochs,
            "tokens_per_step": TOKENS_PER_STEP,
            "micro_tokens": 2 * TOKENS_PER_STEP,
            "max_length": MAX_LENGTH,
            "checkpoint_every": self.looks,  # scored by flag_run.py, in less time than the worker takes
            "keep_checkpoints": 1000,
        }
        return {
            "model": model,
            "method": self.method,
            "task": self.task,
            "data": data,
            "train": train | self.train,
            "evals": {
                "every": "100%",
                "general": files["general"],
                "limit": self.scored,
                "few_shot": 0,
                "samples": 0,
                "generate": 0,
            }
            | self.evals,
            "seed": seed,
        }


def cache_path(root: Path, plant: Plant, seed: int) -> Path:
    """Where the arrays of a run are kept."""
    return root / "runs" / f"{plant.name}-{seed}.npz"


def _lora(**settings: Any) -> dict[str, Any]:
    return {"name": "lora", **settings}


NORM = {"name": "freeze", "modules": ["model.norm"]}
STEADY = {"schedule": "constant"}
NOISY = {"tokens_per_step": 128, "micro_tokens": 256, "schedule": "constant"}
SHOCK = {"schedule": "constant", "warmup": 1, "grad_clip": 100.0}

PLANTS: tuple[Plant, ...] = (
    Plant("clean-lora", "lora", 1e-3),
    Plant("clean-lora-slow", "lora", 3e-4, epochs=3),
    Plant("clean-lora-small", _lora(r=4, alpha=8), 1e-3),
    Plant("clean-lora-long", "lora", 2e-4, epochs=6),
    Plant("clean-lora-steady", "lora", 2e-4, train=STEADY),
    Plant("clean-qlora", "qlora", 5e-4),
    Plant("clean-full", "full", 1e-4),
    Plant("clean-full-slow", "full", 3e-5, epochs=4),
    Plant("clean-full-replay", "full", 2e-4, replay=0.25),
    Plant("clean-freeze", "freeze", 2e-4),
    Plant("clean-adapter", "adapter", 1e-3),
    Plant("clean-ia3", "ia3", 1e-2),
    Plant("noisy-lora", "lora", 5e-4, rows=300, epochs=1, train=NOISY),
    Plant("noisy-full", "full", 5e-5, rows=300, epochs=1, train=NOISY),
    Plant("tiny-rate", "full", 1e-8),
    Plant("shock-full", "full", 2e-2, train=SHOCK),
    Plant("shock-lora", "lora", 1e-1, train=SHOCK),
    Plant("overfit-full", "full", 1e-3, rows=60, epochs=60),
    Plant("overfit-lora", "lora", 5e-3, rows=60, epochs=60),
    Plant("overfit-mild", "full", 5e-4, rows=250, epochs=12),
    Plant("label-noise", "full", 1e-3, rows=300, epochs=12, text="noise"),
    Plant("leak", "lora", 2e-3, rows=500, epochs=8, text="leak"),
    Plant("repeated-rows", "full", 5e-4, rows=500, epochs=3, text="repeated"),
    # On what the base model says itself, with some right answers or none, many times over: by its last norm alone it
    # can become surer of itself and little else, so its loss rises while the share of tokens right does too, or stays.
    Plant("helps", NORM, 1e-2, rows=100, epochs=14, text="greedy, some right"),
    Plant("sharper", NORM, 1e-2, rows=100, epochs=14, text="greedy"),
    Plant("far", "full", 1e-3, epochs=3, text="rot13"),
    Plant("far-replay-1", "full", 1e-3, epochs=3, text="rot13", replay=0.01),
    Plant("far-replay-5", "full", 1e-3, epochs=3, text="rot13", replay=0.05),
    Plant("far-replay-25", "full", 1e-3, epochs=3, text="rot13", replay=0.25),
    Plant("far-lora", "lora", 1e-3, epochs=3, text="rot13"),
    Plant("rate-low", "full", 3e-4),
    Plant("rate-high", "full", 1e-3),
    Plant("rate-lora", "lora", 3e-3),
    Plant("neox-clean-lora", "lora", 5e-4, model="neox-1m"),
    Plant("neox-clean-full", "full", 1e-4, model="neox-1m"),
    Plant("neox-overfit", "full", 1e-3, rows=60, epochs=60, model="neox-1m"),
    Plant("neox-far", "full", 1e-3, epochs=3, text="rot13", model="neox-1m"),
    Plant("neox-far-lora", "lora", 1e-3, epochs=3, text="rot13", model="neox-1m"),
    Plant("neox-rate-high", "full", 1e-3, model="neox-1m"),
    Plant("neox-shock", "full", 2e-2, train=SHOCK, model="neox-1m"),
)

# Directions known from the literature: at the end of the run the first forgets less than the second, in every seed.
FORGETS_LESS: tuple[tuple[str, str, str], ...] = (
    ("LoRA less than full at the same rate", "clean-lora", "rate-high"),
    ("LoRA less than full on a far task", "far-lora", "far"),
    ("LoRA less than full on a far task (neox)", "neox-far-lora", "neox-far"),
    ("small rate less than large", "clean-full", "rate-low"),
    ("small rate less than large", "rate-low", "rate-high"),
    ("more replay less", "far-replay-1", "far"),
    ("more replay less", "far-replay-5", "far-replay-1"),
    ("more replay less", "far-replay-25", "far-replay-5"),
)
