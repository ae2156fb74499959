"""One planted run, and what becomes of it when one piece of advice is followed; cached as JSON.

Everything is the real thing: the worker trains and raises the flags, their actions are those of its log, recipes are
changed as `finetui fix` changes them, and factors are chosen as `finetui fix --scale` chooses them. What is left of the
gain, and what it costs, comes from an oracle of rows that none of them sees.
"""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

from benchmarks.advice import does
from benchmarks.flag_data import files, read, write
from benchmarks.flag_models import model_path
from benchmarks.flag_plants import Plant
from benchmarks.flag_run import train
from engine.basics.statistics import Estimate, change
from engine.client.fix import changed_recipe
from engine.evals.score import Scores, score
from engine.export import source as sources
from engine.export.factors import Scalable
from engine.export.scale import scale
from engine.export.weights import training_dtype
from engine.flags.actions import SCALE
from engine.flags.flag import WARNS, Action
from engine.flags.forgetting import MARGINS
from engine.flags.words import newest
from engine.losses.loss import TargetLoss
from engine.losses.packing import pack
from engine.models import load
from engine.models.tokenizer import load_tokenizer
from engine.recipe.sections import Recipe
from engine.runs.home import RunDir
from engine.tasks.prepare import Suite, prepare

ORACLE = 1000  # rows of the task, and of each slice of general text at most
REAL = ("documents", "prose")  # slices; texts of the base model itself are no loss that could fall
ROSE = 0.01  # nats per token above the best look: overfitting, as its flag has it
WATCHED = ("forgetting", "overfitting")
EXTRA = ("l2-sp", "base samples", "upper half")  # beside the actions of the flags
BASE_SAMPLES = 0.05  # share of tokens, of texts that the base model wrote
PULL = 1.0  # of L2-SP: the rates of the run, times its strength, sum to this


@dataclass(frozen=True)
class Result:
    """A run by the oracle. Losses in nats per token, since the base model."""

    name: str  # of the action; empty: the planted run itself
    gain: float  # fall of the held-out loss
    drift: float  # rise of the general loss, in the slice that is hit worst
    flags: list[str]  # of WATCHED that stand at the end: `warn forgetting`
    seconds: float
    note: str = ""

    @property
    def stands(self) -> bool:
        return any(flag.split()[1] in WATCHED for flag in self.flags)


def make(
    root: Path, path: Path, plant: Plant, seed: int, say: Callable[[str], None], *, down: bool = False
) -> None:
    """Train the planted run and follow its actions, with `down` to the first that does; what `path` has already is not
    made again.
    """
    done: dict[str, Any] = json.loads(path.read_text()) if path.exists() else {"results": {}}
    run = RunDir(root / "work" / f"000001-{plant.name}-{seed}")
    base = model_path(root, plant.model)
    paths = _own_files(root, plant, seed, base)
    tree = _recipe(plant, seed, paths, base)
    if "" not in done["results"] or (following(done, down) and not run.path.exists()):
        shutil.rmtree(run.path, ignore_errors=True)
        started = time.time()
        events = train(run, tree)
        steps = next(event["total_steps"] for event in events if event["kind"] == "plan")
        done |= {
            "plant": plant.name,
            "seed": seed,
            "actions": _actions(events),
            "steps": steps,
        }
        _add(path, done, _judge("", run, tree, paths, events, time.time() - started))
    while name := following(done, down):
        say(f"{plant.name} seed {seed}: {name}")
        _add(path, done, _follow(root, name, run, Recipe.model_validate(tree), paths, done))
    shutil.rmtree(run.path, ignore_errors=True)


def following(done: Mapping[str, Any], down: bool) -> str | None:
    """Return the next action to be followed of a planted run; None after the last, or if no flag of WATCHED stands."""
    results = done["results"]
    if not Result(**results[""]).stands:
        return None
    for name, *_ in done["actions"]:
        if name not in results:
            return str(name)
        if down and does(results[""], results[name]):
            return None
    return None if down else next((name for name in EXTRA if name not in results), None)


def cache_path(results: Path, plant: Plant, seed: int) -> Path:
    return results / f"{plant.name}-{seed}.json"


def _add(path: Path, done: dict[str, Any], result: Result) -> None:
    done["results"][result.name] = vars(result)
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_suffix(".part")
    beside.write_text(json.dumps(done))
    beside.rename(path)


def _own_files(root: Path, plant: Plant, seed: int, base: str) -> dict[str, str]:
    """Return the benchmark's files, with real general text alone, a file a slice, and texts of the base model to mix
    in.
    """
    paths = files(root, plant, seed, base)
    common = Path(paths["general"]).parent
    for name in ("general", "general-oracle"):
        for part in REAL:
            own = common / f"{name}-{part}.jsonl"
            if not own.exists():
                write(own, [row for row in read(Path(paths[name])) if row["slice"] == part])
            paths[f"{name}-{part}"] = str(own)
    samples = common / "base-samples.jsonl"
    if not samples.exists():
        # The oracle's: they are no part of what is watched here.
        rows = read(Path(paths["general-oracle"]))
        write(samples, [{"text": row["text"]} for row in rows if row["slice"] == "samples"])
    return paths | {"samples": str(samples)}


def _recipe(plant: Plant, seed: int, paths: dict[str, str], base: str) -> dict[str, Any]:
    """The plant's recipe with looks of its own, so that the worker raises the flags."""
    tree = plant.recipe(seed, paths, base)
    tree["train"] |= {"checkpoint_every": "100%", "keep_checkpoints": 1}
    tree["evals"] |= {"every": "10%", "general": {part: paths[f"general-{part}"] for part in REAL}}
    return tree


def _actions(events: list[dict[str, Any]]) -> list[tuple[str, dict[str, Any], str]]:
    """Return (name, change, command) of what the standing flags advise, in their order, the gravest flag first."""
    flags = newest(event for event in events if event["kind"] == "flag" and event["flag"] in WATCHED)
    found: dict[str, tuple[str, dict[str, Any], str]] = {}
    for flag in flags:
        for action in flag["actions"] if flag["level"] in WARNS else ():
            change, command = action["change"], action.get("command", "")
            if change or command:
                name = command or ", ".join(f"{key}={value}" for key, value in sorted(change.items()))
                found.setdefault(name, (name, change, command))
    return list(found.values())


def _follow(
    root: Path, name: str, planted: RunDir, recipe: Recipe, paths: dict[str, str], done: dict[str, Any]
) -> Result:
    started = time.time()
    change_of = {action: (change, command) for action, change, command in done["actions"]}
    if change_of.get(name, ({}, ""))[1] == SCALE:
        return _scaled(name, planted, paths, started)
    tree = recipe.model_dump(mode="json")
    if name == "base samples":
        tree["data"]["replay"] = {"source": paths["samples"], "ratio": BASE_SAMPLES}
    elif name == "upper half":
        tree["method"] = _upper_half(recipe)
    changed = Recipe.model_validate(tree)
    if name in change_of:
        changed = changed_recipe(recipe, [Action("", change_of[name][0])], str(recipe.name))
    run = RunDir(root / "work" / f"{planted.path.name}-followed")
    shutil.rmtree(run.path, ignore_errors=True)
    try:
        with _pulled(done["steps"] if name == "l2-sp" else None):
            events = train(run, changed.model_dump(mode="json"))
        return _judge(name, run, changed.model_dump(mode="json"), paths, events, time.time() - started)
    finally:
        shutil.rmtree(run.path, ignore_errors=True)


def _upper_half(recipe: Recipe) -> Any:
    """The method on the upper half of the blocks alone; of methods that have no such choice, as it is."""
    config = json.loads((Path(recipe.model.path) / "config.json").read_text())
    layers = config["num_hidden_layers"]
    method = recipe.method.model_dump(mode="json")
    if method["name"] == "full":
        return {"name": "freeze", "layers": (layers + 1) // 2}
    if method["name"] in ("lora", "qlora"):
        linear = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj",
                  "query_key_value", "dense", "dense_h_to_4h", "dense_4h_to_h")  # fmt: skip
        model = load.load_model(recipe.model, recipe.method, torch.float32)
        names = {name for name, _ in load.without_adapters(model).named_modules()}
        kept = [
            name
            for name in names
            if name.rpartition(".")[2] in linear
            and any(f"layers.{at}." in name for at in range(layers // 2, layers))
        ]
        return method | {"targets": sorted(kept)}
    return method


@contextmanager
def _pulled(steps: int | None) -> Iterator[None]:
    """L2-SP (Li et al. 2018, arXiv:1802.01483), decoupled from the gradient as AdamW decouples weight decay: after
    each step every trained weight goes back a little towards where it began. Set before the worker is forked.
    """
    if steps is None:
        yield
        return
    starts: dict[int, torch.Tensor] = {}
    peaks: dict[int, float] = {}

    def before(optimiser: Any, *_: Any) -> None:
        for group in optimiser.param_groups:
            for parameter in group["params"]:
                starts.setdefault(id(parameter), parameter.detach().clone())

    @torch.no_grad()
    def after(optimiser: Any, *_: Any) -> None:
        for group in optimiser.param_groups:
            peak = peaks[0] = max(peaks.get(0, 0.0), group["lr"])
            weight = PULL / steps * (group["lr"] / peak if peak else 0.0)
            for parameter in group["params"]:
                parameter.lerp_(starts[id(parameter)], weight)

    handles = [register_optimizer_step_pre_hook(before), register_optimizer_step_post_hook(after)]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _scaled(name: str, run: RunDir, paths: dict[str, str], started: float) -> Result:
    """Score factors as `finetui fix --scale` does, and judge the chosen one by the oracle and by the run's own rows."""
    source = sources.read(run)
    front = scale(source, lambda _: None, lambda _: None)
    if front.choice.factor is None or not front.helps:
        return Result(name, float("nan"), float("nan"), ["not-written"], time.time() - started, front.message)
    factor = front.choice.factor
    gain, drift = _oracle(run, source, paths, factor)
    flags: list[str] = []
    chosen = next(point for point in front.confirmed if point.factor == factor)
    parts = [part for part in (chosen.general, *(part for _, part in chosen.slices)) if part]
    for level, margin in sorted(MARGINS.items(), key=lambda item: -item[1]):
        if not flags and any(part.p_above(margin) < 0.05 for part in parts):
            flags.append(f"{level} forgetting")
    best = min(front.points, key=lambda point: point.heldout.value)
    if _rise(chosen.heldout, best.heldout).p_above(ROSE) < 0.05:
        flags.append("warn overfitting")
    return Result(name, gain, drift, flags, time.time() - started, f"factor {factor:g}; {front.message}")


def _rise(now: Estimate, best: Estimate) -> Estimate:
    """Halves differ, so the two are not paired: the difference of independent estimates."""
    return replace(now, value=now.value - best.value, se=float(np.hypot(now.se, best.se)))


def _judge(
    name: str,
    run: RunDir,
    tree: dict[str, Any],
    paths: dict[str, str],
    events: list[dict[str, Any]],
    seconds: float,
) -> Result:
    if events[-1].get("status") != "finished":
        return Result(
            name, float("nan"), float("nan"), ["critical nan"], seconds, str(events[-1].get("error"))
        )
    flags = newest(event for event in events if event["kind"] == "flag" and event["flag"] in WATCHED)
    standing = [f"{flag['level']} {flag['flag']}" for flag in flags if flag["level"] in WARNS]
    gain, drift = _oracle(run, sources.read(run), paths, 1.0)
    return Result(name, gain, drift, standing, seconds)


def _oracle(run: RunDir, source: sources.Source, paths: dict[str, str], factor: float) -> tuple[float, float]:
    """Return gain and drift of a run's weights at a factor, on rows that neither the run nor its scaling saw."""
    tree = source.recipe.model_dump(mode="json")
    tree["data"] = {"train": paths["pool"], "heldout": paths["oracle"]}
    tree["evals"] |= {"general": {part: paths[f"general-oracle-{part}"] for part in REAL}, "limit": ORACLE}
    recipe = Recipe.model_validate(tree)
    tokenizer = load_tokenizer(recipe.model)
    data = prepare(recipe, tokenizer, load.longest(recipe.model, tokenizer))
    dtype = training_dtype(source)
    model = Scalable(source, source.weights, dtype)
    names = ("heldout", "general")
    key = (recipe.model.path, recipe.method.name == "qlora", dtype)
    with torch.autocast("cpu", dtype, enabled=dtype == torch.bfloat16), torch.no_grad():
        loss = TargetLoss(model.model, pack(model.model))
        if key not in _OF_BASE:
            _OF_BASE[key] = {name: _scores(loss, model, data.suite(name), 0.0) for name in names}
        now = {name: _scores(loss, model, data.suite(name), factor) for name in names}
    of_base = _OF_BASE[key]
    gain = -change(of_base["heldout"].nll, now["heldout"].nll, now["heldout"].tokens).value
    slices = np.array(data.suite("general").slices)
    before, after = of_base["general"], now["general"]
    parts = [slices == part for part in sorted(set(slices))]
    return gain, max(change(before.nll[part], after.nll[part], after.tokens[part]).value for part in parts)


# What the base says of the oracle: by its path, whether it is in 4 bits, and the precision.
_OF_BASE: dict[tuple[str, bool, torch.dtype], dict[str, Scores]] = {}


def _scores(loss: TargetLoss, model: Scalable, suite: Suite, factor: float) -> Scores:
    model.set(factor)
    plain = Suite("oracle", suite.documents, suite.examples, suite.slices)
    return score(loss, plain, 2048, load.device(), lambda: None)
