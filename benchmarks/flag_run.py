"""One run of the flag benchmark: trained by the real worker, then every look scored on the oracle, cached as arrays.

The worker leaves a checkpoint at each look, which is scored on what detectors see and on the oracle, and deleted after;
its own evaluations are compared with these scores.
"""

from __future__ import annotations

import gzip
import json
import multiprocessing
import os
import shutil
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.flag_data import files, slices
from benchmarks.flag_looks import Asked, Event, score_looks
from benchmarks.flag_models import model_path
from benchmarks.flag_plants import Plant, cache_path
from engine.attempt import worker
from engine.recipe.sections import Recipe
from engine.runs.home import RunDir
from engine.training import loop, setup  # noqa: F401 (so that workers need not)
from finetui.log import read_log
from store.states import WorkerExit

SAID = ("flag", "level", "step", "since_step", "suite", "slice", "effect", "lo", "hi", "n", "looks")


def make(root: Path, plant: Plant, seed: int) -> Path:
    """Train and score one run; its arrays (see `score_looks`) in a file that is either whole or not there, and the
    worker's log beside it.
    """
    started = time.time()
    base = model_path(root, plant.model)
    paths = files(root, plant, seed, base)
    tree = plant.recipe(seed, paths, base)
    run = RunDir(root / "work" / f"000001-{plant.name}-{seed}")
    shutil.rmtree(run.path, ignore_errors=True)
    try:
        events = train(run, tree)
        trained = time.time()
        arrays = score_looks(_asked(plant, tree, paths, slices(root, plant)), run, events)
        log = gzip.compress(run.attempt(1).events.read_bytes())
    finally:
        shutil.rmtree(run.path, ignore_errors=True)
    meta = {"plant": plant.name, "seed": seed, "recipe": tree, "train_s": trained - started}
    meta |= {"score_s": time.time() - trained, "end": events[-1]}
    flags = [event for event in events if event["kind"] == "flag"]
    meta["flags"] = [{key: flag.get(key) for key in SAID} for flag in flags]
    path = cache_path(root, plant, seed)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.with_suffix(".events.jsonl.gz").write_bytes(log)
    beside = path.with_suffix(".part.npz")
    np.savez_compressed(beside, allow_pickle=False, meta=json.dumps(meta), **arrays)
    beside.rename(path)
    return path


def _asked(plant: Plant, tree: dict[str, Any], paths: dict[str, str], slice_of: dict[str, str]) -> Asked:
    """What detectors see may be other rows than the worker scores; the general ones have texts of the base model among
    them already.
    """
    rows = {"general": paths["general"], "limit": plant.scored, "samples": 0}
    seen = tree | {"evals": tree["evals"] | rows}
    return Asked(Recipe.model_validate(seen), paths, slice_of, plant.oracle)


def train(run: RunDir, tree: dict[str, Any]) -> list[Event]:
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
