"""Two hundred sane runs of small models through the real worker: how often does it warn of nothing?

Each has other training rows and other held-out rows. The worker takes every look itself, with texts that its base model
wrote and with answers, and its own flags are judged; the oracle says whether there was something to warn of.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.flag_judge import OURS, Told, tell
from benchmarks.flag_plants import Plant, cache_path
from benchmarks.flag_truth import upper_bound
from engine.flags.flag import WARNS

RUNS = 200
FIRST_SEED = 4000
ROWS = 200
MODELS = ("qwen3-0.5m", "gpt2-1.5m")
HELDOUT_ROWS = (12, 20, 30, 60)
# Task, method, rate and tokens of a step: about 30 steps of one epoch.
SETTINGS = (
    ("sft", "lora", 1e-3, 512),
    ("sft", "full", 1e-4, 512),
    ("completion", "lora", 1e-3, 400),
    ("dpo", "lora", 2e-4, 768),
    ("classification", "lora", 2e-3, 100),
)
LOOKS = {
    "every": "10%",
    "general": "bundled:stdlib-prose",
    "limit": max(HELDOUT_ROWS),
    "samples": 30,
    "generate": 4,
    "max_new_tokens": 32,
}

RISES = ("overfitting", "instability")  # of the held-out loss, which the oracle measures


def _plants() -> tuple[Plant, ...]:
    return tuple(
        Plant(
            f"null-{task}-{method}-{heldout}-{model}",
            method,
            lr,
            rows=ROWS,
            epochs=1,
            train={"tokens_per_step": tokens, "micro_tokens": 1024},
            model=model,
            regime=f"{task}, {method}",
            task=task,
            heldout_rows=heldout,
            scored=150,
            oracle=100_000 if task == "classification" else 300,  # a text with a class costs little
            evals=LOOKS,
        )
        for model in MODELS
        for heldout in HELDOUT_ROWS
        for task, method, lr, tokens in SETTINGS
    )


CLEAN: tuple[Plant, ...] = _plants()


def clean_runs() -> list[tuple[Plant, int]]:
    """Every run of the study, each with a seed that no other has."""
    return [(CLEAN[index % len(CLEAN)], FIRST_SEED + index) for index in range(RUNS)]


@dataclass(frozen=True)
class Warned:
    """The warnings of a worker, and what its run was."""

    plant: Plant
    told: Told
    flags: list[dict[str, Any]]

    @property
    def kinds(self) -> set[str]:
        """What was warned of."""
        return {_kind(flag) for flag in self._warnings}

    @property
    def false(self) -> set[str]:
        """What was warned of, and the oracle knows nothing of."""
        return {_kind(flag) for flag in self._warnings if not self._is_true(flag)}

    @property
    def _warnings(self) -> list[dict[str, Any]]:
        return [flag for flag in self.flags if flag["level"] in WARNS]

    def _is_true(self, flag: dict[str, Any]) -> bool:
        if flag["flag"] == "forgetting":
            return self.told.truth.forgets is not None
        return flag["suite"] == "heldout" and flag["flag"] in RISES and self.told.truth.turned_up is not None


def _kind(flag: dict[str, Any]) -> str:
    where = flag.get("slice") or flag["suite"]
    return f"{flag['flag']} ({where})" if where else str(flag["flag"])


def judge_clean(root: Path) -> None:
    """Print how often the worker warned of nothing, by kind, and by what the runs differ in."""
    found = [
        Warned(plant, tell(path), json.loads(str(np.load(path)["meta"]))["flags"])
        for plant, seed in clean_runs()
        if (path := cache_path(root, plant, seed)).exists()
    ]
    print(f"{len(found)} of {RUNS} runs are there")
    if not found:
        return
    risen = sum(run.told.truth.turned_up is not None for run in found)
    forgot = sum(run.told.truth.forgets is not None for run in found)
    print(f"by their oracle, {risen} rise above their best look and {forgot} forget\n")
    warned = Counter(kind for run in found for kind in run.kinds)
    false = Counter(kind for run in found for kind in run.false)
    warned["any"], false["any"] = sum(bool(run.kinds) for run in found), sum(bool(run.false) for run in found)
    print(f"| warning | of {len(found)} runs | false | 95% bound of false |\n|---|---|---|---|")
    for kind, count in warned.most_common():
        print(f"| {kind} | {count} | {false[kind]} | {upper_bound(false[kind], len(found)):.1%} |")
    print()
    _by("task and method", found, lambda run: run.plant.regime)
    _by("model", found, lambda run: run.plant.model)
    _by("held-out rows", found, lambda run: str(run.plant.heldout_rows))
    print("replayed on the stored scores with the detectors as they are now:")
    for name, onset, flagged in (
        ("the task", lambda told: told.truth.turned_up, lambda told: told.task[OURS]),
        ("forgetting", lambda told: told.truth.forgets, lambda told: told.general[OURS]),
    ):
        nothing = [run.told for run in found if onset(run.told) is None]
        something = [run.told for run in found if onset(run.told) is not None]
        wrong = sum(flagged(told) is not None for told in nothing)
        seen = sum(flagged(told) is not None for told in something)
        bound = upper_bound(wrong, len(nothing))
        print(
            f"{name}: {wrong} false of {len(nothing)} (95% bound {bound:.1%}), {seen} seen of {len(something)}"
        )


def _by(title: str, found: Sequence[Warned], key: Callable[[Warned], str]) -> None:
    print(f"| {title} | runs | with a false warning | 95% bound |\n|---|---|---|---|")
    for group in sorted({key(run) for run in found}):
        runs = [run for run in found if key(run) == group]
        count = sum(bool(run.false) for run in runs)
        print(f"| {group} | {len(runs)} | {count} | {upper_bound(count, len(runs)):.1%} |")
    print()
