"""One run of the flag benchmark: trained by the real worker, then every look scored on the oracle, cached as arrays.

The worker leaves a checkpoint at each look, which is scored on what detectors see and on the oracle, and deleted after;
its own evaluations at both ends of the run are compared with these scores. Runs of one process share what takes long:
imports, compiled models, and what the base model says of the oracle.
"""

from __future__ import annotations

import json
import multiprocessing
import os
import shutil
import sys
import time
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.flag_data import files, model_path, slices
from benchmarks.flag_plants import Plant
from benchmarks.flag_score import TEMPERATURES, Found, Scorer
from engine.attempt import worker
from engine.models import load
from engine.models.tokenizer import load_tokenizer
from engine.recipe.sections import Recipe
from engine.runs.home import RunDir
from engine.tasks.prepare import Suite, prepare
from engine.training import loop, setup  # noqa: F401 (so that workers need not)
from engine.training.checkpoint import checkpoint_name
from engine.training.optimiser import learning_rates
from finetui.log import read_log
from store.states import WorkerExit


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
    # A process of its own, as always, but one that has imported everything.
    process = multiprocessing.get_context("fork").Process(target=_work, args=(run,), daemon=True)
    process.start()
    try:
        process.join()
    finally:
        process.terminate()
    events = list(read_log(run.attempt(1).events))
    if process.exitcode not in (WorkerExit.FINISHED, WorkerExit.FAILED) or events[-1]["kind"] != "end":
        raise RuntimeError(_output(run).read_text())
    return events


def _work(run: RunDir) -> None:
    output = os.open(_output(run), os.O_WRONLY | os.O_CREAT)
    os.dup2(output, 1)
    os.dup2(output, 2)
    sys.exit(worker.main(str(run.path), 1))


def _output(run: RunDir) -> Path:
    return run.path / "output.txt"


@cache
def _scorer(bare: str) -> Scorer:
    """`bare`: a recipe as JSON, the same for all runs of a model and method."""
    return Scorer(Recipe.model_validate_json(bare))


@cache
def _oracle(bare: str) -> dict[str, Suite]:
    """The oracle's suites by name. `bare`: a recipe as JSON, with the oracle as held-out and general data."""
    found = _suites(Recipe.model_validate_json(bare))
    return {f"oracle-{name}": found[name] for name in ("heldout", "general")}


@cache
def _of_base(bare: str) -> dict[str, Found]:
    """What the base model says of the oracle."""
    _scorer(bare).load(None)
    return {name: _scorer(bare).score(suite, _temperatures(name)) for name, suite in _oracle(bare).items()}


def _bare(recipe: Recipe, paths: dict[str, str]) -> str:
    tree = {
        "model": recipe.model.path,
        "method": recipe.method.model_dump(),
        "data": {"train": paths["pool"], "heldout": paths["oracle"]},
        "train": {"max_length": recipe.train.max_length},
        "evals": {"general": paths["general-oracle"], "limit": 100_000},
    }
    return json.dumps(tree)


def _suites(recipe: Recipe) -> dict[str, Suite]:
    tokenizer = load_tokenizer(recipe.model)
    prepared = prepare(recipe, tokenizer, load.longest(recipe.model, tokenizer))
    return {suite.name: suite for suite in prepared.suites}


def _temperatures(name: str) -> tuple[float, ...]:
    return TEMPERATURES if name.endswith("heldout") else (1.0,)


def _score(
    recipe: Recipe,
    run: RunDir,
    events: Sequence[dict[str, Any]],
    paths: dict[str, str],
    slice_of: dict[str, str],
) -> dict[str, np.ndarray]:
    """`steps`, `rates`, `train_loss`, `grad_norm`, and of each suite `SUITE/nll` and so on, as in `History`."""
    bare = _bare(recipe, paths)
    scorer, oracle, of_base = _scorer(bare), _oracle(bare), _of_base(bare)
    suites = _suites(recipe)
    steps = [0, *(event["step"] for event in events if event["kind"] == "checkpoint")]
    base: dict[str, Found] = {}
    rows: dict[str, list[np.ndarray]] = {}
    for step in steps:
        scorer.load(run.checkpoints / checkpoint_name(step) if step else None)
        for name, suite in suites.items():
            keep = name == "heldout" and not step
            compared = base.get(name) if step == steps[-1] else None
            found = scorer.score(suite, _temperatures(name), keep=keep, base=compared)
            for key, row in _watched(suite, found, base.setdefault(name, found)).items():
                rows.setdefault(f"{name}/{key}", []).append(row)
        for name, suite in oracle.items():
            found = scorer.score(suite, _temperatures(name)) if step else of_base[name]
            for key, row in _kept(suite, found).items():
                rows.setdefault(f"{name}/{key}", []).append(row)
    arrays = {key: np.stack(values) for key, values in rows.items()}
    for name, suite in (suites | oracle).items():
        arrays[f"{name}/tokens"] = np.array([example.targets for example in suite.examples])
        arrays[f"{name}/ids"] = np.array([example.id for example in suite.examples])
        if name.endswith("general"):
            arrays[f"{name}/slices"] = np.array([slice_of[document.target] for document in suite.documents])
    metrics = [event["values"] for event in events if event["kind"] == "metrics"]
    total = next(event for event in events if event["kind"] == "plan")["total_steps"]
    arrays["steps"], arrays["temperatures"] = np.array(steps), np.array(TEMPERATURES)
    arrays["rates"] = learning_rates(recipe.train, total)
    arrays["train_loss"] = np.array([values["train/loss"] for values in metrics], dtype=float)
    arrays["grad_norm"] = np.array([values["train/grad_norm"] for values in metrics], dtype=float)
    arrays["disagreement"], arrays["disagreement_of_change"] = _disagreements(arrays, events)
    return arrays


def _kept(suite: Suite, found: Found) -> dict[str, np.ndarray]:
    """What is kept of a suite at one look, each [examples] but for `tempered` [temperatures, examples]."""
    kept = {"nll": found.nll.astype(np.float32), "right": _by_example(suite, found.right)}
    return kept | ({"tempered": found.tempered.astype(np.float32)} if len(found.tempered) > 1 else {})


def _watched(suite: Suite, found: Found, base: Found) -> dict[str, np.ndarray]:
    """The same of a suite that detectors see, with what changed since the base model."""
    rows = _kept(suite, found) | {
        "lost": _by_example(suite, base.right & ~found.right),
        "gained": _by_example(suite, ~base.right & found.right),
    }
    if base.log_p:
        rows["kl"] = found.kl if found.kl is not None else np.full(len(suite.examples), np.nan)
    return rows


def _by_example(suite: Suite, hits: np.ndarray) -> np.ndarray:
    """bool [targets] to how many of each example: int16 [examples]."""
    counts = [example.targets for example in suite.examples]
    return np.bincount(np.repeat(np.arange(len(counts)), counts), hits, len(counts)).astype(np.int16)


def _disagreements(arrays: dict[str, np.ndarray], events: Sequence[dict[str, Any]]) -> tuple[np.ndarray, ...]:
    """How far these scores are from the worker's own, at most, in nats per token: of an example, and of the change of
    a suite's loss since step 0.
    """
    steps = arrays["steps"].tolist()
    each, changes = [0.0], [0.0]
    for suite in ("heldout", "seen", "general"):
        tokens, first = arrays[f"{suite}/tokens"], None
        for event in events:
            if event["kind"] != "eval" or event["suite"] != suite or event["step"] not in steps:
                continue
            nll = dict(zip(event["examples"]["id"], event["examples"]["nll"], strict=True))
            told = np.array([nll[id] for id in arrays[f"{suite}/ids"]], dtype=float)
            apart = told - arrays[f"{suite}/nll"][steps.index(event["step"])]
            first = apart if first is None else first
            each.append(float(np.abs(apart / tokens).max()))
            changes.append(abs(float((apart - first).sum() / tokens.sum())))
    return np.array(max(each)), np.array(max(changes))
