"""One run of the flag benchmark: trained by the real worker, then every look scored on the oracle, cached as arrays.

The worker's own evaluations are what the detectors see. The oracle's come from the checkpoints that it leaves at
each look, which are deleted after.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.flag_data import files, model_path, slices
from benchmarks.flag_plants import Plant
from engine.data.chat import Example
from engine.home import RunDir
from engine.log import read_log
from engine.methods import load
from engine.recipe import Recipe
from engine.tasks.prepare import Suite, prepare
from engine.training.batches import collate, micro_batches
from engine.training.checkpoint import checkpoint_name, load_weights
from engine.training.loss import TargetLoss
from engine.training.optimiser import learning_rate

TEMPERATURES = (0.7, 1.0, 1.3, 1.6, 2.0, 2.5, 3.0, 4.0)
KL_EXAMPLES = 100  # of held-out and general examples that detectors see
TOKENS_AT_ONCE = 4096


def cache_path(root: Path, plant: Plant, seed: int) -> Path:
    return root / "runs" / f"{plant.name}-{seed}.npz"


def make(root: Path, plant: Plant, seed: int) -> Path:
    """Train and score one run; its arrays (see `_score`) in a file that is either whole or not there."""
    started = time.time()
    base = model_path(root, plant.model)
    paths = files(root, plant, seed, base)
    tree = plant.recipe(seed, paths, base)
    run = RunDir(root / "work" / f"000001-{plant.name}-{seed}")
    shutil.rmtree(run.path, ignore_errors=True)
    try:
        events = train(run, tree)
        trained = time.time()
        arrays = _score(Recipe.model_validate(tree), run, events, paths, slices(root, plant))
    finally:
        shutil.rmtree(run.path, ignore_errors=True)
    meta = {"plant": plant.name, "seed": seed, "recipe": tree, "train_s": trained - started}
    meta |= {"score_s": time.time() - trained, "end": events[-1]}
    path = cache_path(root, plant, seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_suffix(".part.npz")
    np.savez_compressed(beside, meta=json.dumps(meta), **arrays)
    beside.rename(path)
    return path


def train(run: RunDir, tree: dict[str, Any]) -> list[dict[str, Any]]:
    """The events of the finished worker. A run that ends as failed (NaN) has its events too; others raise."""
    run.attempt(1).path.mkdir(parents=True)
    recipe = Recipe.model_validate(tree)
    run.meta.write_text(json.dumps({"recipe": recipe.model_dump(mode="json"), "cwd": str(Path.cwd())}))
    command = [sys.executable, "-P", "-m", "engine.worker", str(run.path), "1"]
    result = subprocess.run(command, env=dict(os.environ), capture_output=True, text=True, check=False)
    events = list(read_log(run.attempt(1).events))
    if result.returncode not in (0, 4) or events[-1]["kind"] != "end":
        raise RuntimeError(result.stdout + result.stderr)
    return events


@dataclass(frozen=True)
class Tokens:
    """A suite under one model: per example, and whether each target was the likeliest token."""

    nll: np.ndarray  # float64 [examples]
    right: np.ndarray  # bool [targets], in the order of the examples
    tempered: np.ndarray  # float64 [temperatures, examples]
    log_p: list[torch.Tensor]  # float16 [targets, vocabulary] of the first KL_EXAMPLES, if asked for


def _score(
    recipe: Recipe,
    run: RunDir,
    events: Sequence[dict[str, Any]],
    paths: dict[str, str],
    slice_of: dict[str, str],
) -> dict[str, np.ndarray]:
    """`steps`, `rates`, `train_loss`, `grad_norm`, and of each suite `SUITE/nll` and so on, as in `History`."""
    tokenizer = load.load_tokenizer(recipe.model)
    longest = load.longest(recipe.model, tokenizer)
    prepared = prepare(recipe, tokenizer, longest)
    suites = {suite.name: suite for suite in prepared.suites}
    data = recipe.data.model_copy(update={"heldout": paths["oracle"], "replay": None})
    evals = recipe.evals.model_copy(update={"limit": 100_000, "general": paths["general-oracle"]})
    oracle = prepare(recipe.model_copy(update={"data": data, "evals": evals}), tokenizer, longest)
    suites |= {f"oracle-{suite.name}": suite for suite in oracle.suites}

    model = load.load_model(recipe.model, recipe.method, load.precision(recipe.train)).eval()
    loss = TargetLoss(model)
    whole = [e["step"] for e in events if e["kind"] == "checkpoint"]
    steps = [0, *(step for step in whole if any(e["kind"] == "eval" and e["step"] == step for e in events))]
    base: dict[str, Tokens] = {}
    rows: dict[str, list[np.ndarray]] = {}
    for step in steps:
        if step:
            load_weights(run.checkpoints / checkpoint_name(step), model)
        for name, suite in suites.items():
            temperatures = TEMPERATURES if suite.name == "heldout" else (1.0,)
            watched = step == 0 and name in ("heldout", "general")
            found = _tokens(loss, suite.examples, temperatures, keep_log_p=watched)
            base.setdefault(name, found)
            for key, row in _rows(loss, suite, found, base[name]).items():
                rows.setdefault(f"{name}/{key}", []).append(row)
    arrays = {key: np.stack(values) for key, values in rows.items()}
    for name, suite in suites.items():
        arrays[f"{name}/tokens"] = np.array([example.targets for example in suite.examples])
        arrays[f"{name}/ids"] = np.array([example.id for example in suite.examples])
        if name.endswith("general"):
            arrays[f"{name}/slices"] = np.array([slice_of[document.target] for document in suite.documents])
    metrics = [event["values"] for event in events if event["kind"] == "metrics"]
    total = next(event for event in events if event["kind"] == "plan")["total_steps"]
    arrays["steps"], arrays["temperatures"] = np.array(steps), np.array(TEMPERATURES)
    arrays["rates"] = np.array([learning_rate(recipe.train, step, total) for step in range(total)])
    arrays["train_loss"] = np.array([values["train/loss"] for values in metrics], dtype=float)
    arrays["grad_norm"] = np.array([values["train/grad_norm"] for values in metrics], dtype=float)
    return _with_the_workers_scores(arrays, events, steps)


def _rows(loss: TargetLoss, suite: Suite, found: Tokens, base: Tokens) -> dict[str, np.ndarray]:
    """What is kept of a suite at one look, each [examples] but for `tempered`."""
    of = np.repeat(np.arange(len(suite.examples)), [example.targets for example in suite.examples])
    count = len(suite.examples)
    rows = {
        "nll": found.nll,
        "right": np.bincount(of, found.right, count).astype(np.int32),
        "lost": np.bincount(of, base.right & ~found.right, count).astype(np.int32),
        "gained": np.bincount(of, ~base.right & found.right, count).astype(np.int32),
    }
    if suite.name == "heldout":
        rows["tempered"] = found.tempered.astype(np.float32)
    if base.log_p:
        rows["kl"] = _divergence(loss, suite.examples, base.log_p)
    return rows


@torch.no_grad()
def _tokens(
    loss: TargetLoss, examples: Sequence[Example], temperatures: Sequence[float], keep_log_p: bool
) -> Tokens:
    lengths = np.array([len(example.tokens) for example in examples])
    nll = np.zeros(len(examples))
    tempered = np.zeros((len(temperatures), len(examples)))
    right: list[np.ndarray] = [np.zeros(0, dtype=bool)] * len(examples)
    for group in micro_batches(lengths, np.arange(len(examples)), TOKENS_AT_ONCE):
        batch = collate([examples[i] for i in group], torch.device("cpu"))
        logits = loss.logits(loss.hidden(batch))
        rows = batch.rows.numpy()
        hit = (logits.argmax(-1) == batch.targets).numpy()
        for place, example in enumerate(group):
            right[example] = hit[rows == place]
        for at, temperature in enumerate(temperatures):
            losses = torch.nn.functional.cross_entropy(logits / temperature, batch.targets, reduction="none")
            tempered[at, group] = np.bincount(rows, losses.double().numpy(), len(group))
        nll[group] = tempered[temperatures.index(1.0), group]
    log_p = [_log_p(loss, example).half() for example in examples[:KL_EXAMPLES]] if keep_log_p else []
    return Tokens(nll, np.concatenate(right), tempered, log_p)


def _log_p(loss: TargetLoss, example: Example) -> torch.Tensor:
    batch = collate([example], torch.device("cpu"))
    return loss.logits(loss.hidden(batch)).log_softmax(-1)


@torch.no_grad()
def _divergence(loss: TargetLoss, examples: Sequence[Example], base: Sequence[torch.Tensor]) -> np.ndarray:
    """KL(base || now), nats per token, of the first examples; NaN for the rest."""
    found = np.full(len(examples), np.nan)
    for place, before in enumerate(base):
        p = before.float()
        found[place] = float((p.exp() * (p - _log_p(loss, examples[place]))).sum(-1).mean())
    return found


def _with_the_workers_scores(
    arrays: dict[str, np.ndarray], events: Sequence[dict[str, Any]], steps: Sequence[int]
) -> dict[str, np.ndarray]:
    """The suites that detectors see, as the worker scored them; `disagreement`: largest, nats per token."""
    worst = 0.0
    for name in ("heldout", "seen", "general"):
        for look, step in enumerate(steps):
            event = next(
                e for e in events if e["kind"] == "eval" and e["suite"] == name and e["step"] == step
            )
            nll = dict(zip(event["examples"]["id"], event["examples"]["nll"], strict=True))
            told = np.array([nll[id] for id in arrays[f"{name}/ids"]], dtype=float)
            apart = np.abs(told - arrays[f"{name}/nll"][look]) / arrays[f"{name}/tokens"]
            worst = max(worst, float(apart.max()))
            arrays[f"{name}/nll"][look] = told
    arrays["disagreement"] = np.array(worst)
    return arrays
