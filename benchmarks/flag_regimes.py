"""The runs of a second look at the flags: regimes that the first 40 plants do not have, and three more families.

The oracle is smaller than that of the first (1,000 rows a suite at most), and the worker scores 50 rows of each suite
at both ends, to be compared with: a run takes half the time.
"""

from __future__ import annotations

from typing import Any

from benchmarks.flag_plants import NOISY, Plant

ORACLE = 1000
CHECKED = {"limit": 50}

FEW = {"rows": 60, "epochs": 10}
OFTEN = {"looks": "5%"}
AT_ONCE = {"warmup": 1}  # step with the whole rate
CLASSES = {"tokens_per_step": 256, "micro_tokens": 1024}  # texts of 15 tokens

FAMILIES = ("qwen3-0.5m", "gpt2-1.5m", "gemma-4m")  # see flag_models.py


def _plant(regime: str, name: str, method: Any, lr: float, **fields: Any) -> Plant:
    return Plant(name, method, lr, regime=regime, oracle=ORACLE, evals=CHECKED, **fields)


def _of_family(model: str) -> tuple[Plant, ...]:
    return (
        _plant("sane", f"{model}-sane", "lora", 1e-3, epochs=1, model=model),
        _plant("few rows", f"{model}-few", "lora", 5e-3, **FEW, model=model),
        _plant("high rate", f"{model}-high", "full", 1e-3, model=model),
    )


SECOND: tuple[Plant, ...] = (
    # One epoch at rates that are in use: what the flags must be silent about.
    _plant("sane", "sane-lora-low", "lora", 5e-4, epochs=1),
    _plant("sane", "sane-lora", "lora", 1e-3, epochs=1),
    _plant("sane", "sane-lora-high", "lora", 2e-3, epochs=1),
    _plant("sane", "sane-full", "full", 1e-4, epochs=1),
    # Held-out sets of 12, 30 and 60 rows are parts of the 300 that are scored (flag_sizes.py).
    _plant("few rows", "few-lora", "lora", 5e-3, **FEW),
    _plant("few rows", "few-lora-slower", "lora", 2e-3, **FEW),
    _plant("few rows", "few-full", "full", 1e-3, **FEW),
    _plant("slow rise", "slow-lora", "lora", 1e-3, rows=250, epochs=8, **OFTEN),
    _plant("slow rise", "slow-full", "full", 2e-4, rows=250, epochs=8, **OFTEN),
    # Trained to say what a definition does, held-out rows ask for the signature.
    _plant("shifted held-out", "shifted-lora", "lora", 1e-3, rows=400, text="forward", heldout="reverse"),
    _plant(
        "shifted held-out", "shifted-lora-high", "lora", 3e-3, rows=400, text="forward", heldout="reverse"
    ),
    _plant("warm-up bump", "bump-full", "full", 2e-3, epochs=1, train=AT_ONCE, **OFTEN),
    _plant("warm-up bump", "bump-lora", "lora", 1e-2, epochs=1, train=AT_ONCE, **OFTEN),
    _plant("recovers", "recover-full", "full", 1e-2, epochs=1, train=AT_ONCE),
    _plant("recovers", "recover-full-long", "full", 1e-2, epochs=3, train=AT_ONCE),
    # One answer in twenty is random hexadecimal digits: a step's loss depends on whether it has one.
    _plant("easy and hard", "mixture-lora", "lora", 1e-3, rows=300, epochs=1, text="hex", train=NOISY),
    _plant("easy and hard", "mixture-full", "full", 1e-4, rows=300, epochs=1, text="hex", train=NOISY),
    _plant("far data", "letters-lora", "lora", 1e-3, rows=300, epochs=1, text="cyrillic"),
    _plant("dpo", "dpo-sane", "lora", 2e-4, rows=300, epochs=1, task="dpo"),
    _plant("dpo", "dpo-high", "lora", 2e-3, rows=300, epochs=2, task="dpo"),
    _plant("dpo", "dpo-few", "lora", 1e-3, **FEW, task="dpo"),
    _plant("dpo", "dpo-few-noise", "lora", 2e-3, **FEW, text="noise", task="dpo"),
    _plant("classes", "classes-sane", "lora", 2e-3, rows=600, task="classification", train=CLASSES),
    _plant("classes", "classes-few", "lora", 2e-3, rows=200, epochs=10, task="classification", train=CLASSES),
    _plant(
        "classes", "classes-few-full", "full", 5e-4, rows=200, epochs=10, task="classification", train=CLASSES
    ),
    _plant("completion", "completion-sane", "lora", 1e-3, epochs=1, task="completion"),
    _plant("completion", "completion-few", "lora", 5e-3, **FEW, task="completion"),
    *(plant for model in FAMILIES for plant in _of_family(model)),
)
