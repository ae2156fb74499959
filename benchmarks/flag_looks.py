"""Every look of a trained run of the flag benchmark, scored on what detectors see and on the oracle, as arrays.

Runs of one process share what takes long: compiled models, and what the base model says of the oracle.
"""

from __future__ import annotations

import json
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import cache
from typing import Any

import numpy as np
import torch

from benchmarks.flag_score import TEMPERATURES, Found, Scorer
from engine.data.chat import padding
from engine.evals.base_scores import BasePredictions
from engine.evals.classes import score_classes
from engine.losses.class_loss import ClassLoss
from engine.models import load
from engine.models.tokenizer import load_tokenizer
from engine.recipe.sections import Recipe
from engine.runs.home import RunDir
from engine.tasks.items import Item, Pair
from engine.tasks.prepare import Prepared, Suite, prepare
from engine.training.checkpoint import checkpoint_name, load_weights
from engine.training.optimiser import learning_rates

Event = dict[str, Any]
# Of a suite at one look, each [examples] but for `tempered` [temperatures, examples].
Rows = dict[str, np.ndarray]

TEXTS_AT_ONCE = 4096  # tokens of a forward pass of a classifier


@dataclass(frozen=True)
class Asked:
    """What a run is scored on."""

    recipe: Recipe  # with what detectors see
    paths: dict[str, str]
    slice_of: dict[str, str]  # text of a general row to its slice
    oracle: int  # rows of each suite of the oracle, at most

    @property
    def bare(self) -> str:
        """A recipe as JSON, with the oracle as held-out and general data: the same for all runs of a model and method
        that have the same oracle.
        """
        recipe = self.recipe
        tree = {
            "model": recipe.model.path,
            "method": recipe.method.model_dump(),
            "task": recipe.task.model_dump(),
            "data": {"train": self.paths["pool"], "heldout": self.paths["oracle"]},
            "train": {"max_length": recipe.train.max_length},
            "evals": {"general": self.paths["general-oracle"], "limit": self.oracle},
        }
        return json.dumps(tree)


def score_looks(asked: Asked, run: RunDir, events: Sequence[Event]) -> dict[str, np.ndarray]:
    """`steps`, `rates`, `train_loss`, `grad_norm`, and of each suite `SUITE/nll` and so on, as in `History`. Of pairs,
    `nll` is of the chosen answers, and `rejected` of the others.
    """
    steps = [0, *(event["step"] for event in events if event["kind"] == "checkpoint")]
    suites = {suite.name: suite for suite in _prepared(asked.recipe).suites}
    suites |= _oracle(asked.bare)
    classifies = asked.recipe.task.name == "classification"
    looks = (_class_looks if classifies else _text_looks)(asked, run, steps, suites)
    rows: dict[str, list[np.ndarray]] = {}
    for name, kept in looks:
        for key, row in kept.items():
            rows.setdefault(f"{name}/{key}", []).append(row)
    arrays = {key: np.stack(values) for key, values in rows.items()}
    for name, suite in suites.items():
        arrays[f"{name}/tokens"] = np.array([targets(example) for example in suite.examples])
        arrays[f"{name}/ids"] = np.array([example.id for example in suite.examples])
        if name.endswith("general"):
            texts = [document.target for document in suite.documents]
            arrays[f"{name}/slices"] = np.array([asked.slice_of[text] for text in texts])
    metrics = [event["values"] for event in events if event["kind"] == "metrics"]
    total = next(event for event in events if event["kind"] == "plan")["total_steps"]
    arrays["steps"], arrays["temperatures"] = np.array(steps), np.array(TEMPERATURES)
    arrays["rates"] = learning_rates(asked.recipe.train, total)
    arrays["train_loss"] = np.array([values["train/loss"] for values in metrics], dtype=float)
    arrays["grad_norm"] = np.array([values["train/grad_norm"] for values in metrics], dtype=float)
    arrays["disagreement"], arrays["disagreement_of_change"] = _disagreements(arrays, events)
    return arrays


def targets(example: Item) -> int:
    """Tokens that are scored: of a pair, those of the chosen answer."""
    return example.chosen.targets if isinstance(example, Pair) else example.targets


def _prepared(recipe: Recipe) -> Prepared:
    tokenizer = load_tokenizer(recipe.model)
    return prepare(recipe, tokenizer, load.longest(recipe.model, tokenizer))


# ---- texts and pairs, by compiled models


@cache
def _scorer(bare: str) -> Scorer:
    return Scorer(Recipe.model_validate_json(bare))


@cache
def _oracle(bare: str) -> dict[str, Suite]:
    """The oracle's suites by name; a classifier has no general one."""
    suites = _prepared(Recipe.model_validate_json(bare)).suites
    return {f"oracle-{suite.name}": suite for suite in suites if suite.name != "seen"}


@cache
def _base_rows(bare: str) -> dict[str, Rows]:
    """What the base model says of the oracle."""
    scorer = _scorer(bare)
    scorer.load(None)
    return {name: _oracle_rows(scorer, suite, name) for name, suite in _oracle(bare).items()}


def _text_looks(
    asked: Asked, run: RunDir, steps: Sequence[int], suites: dict[str, Suite]
) -> Iterator[tuple[str, Rows]]:
    scorer, of_base = _scorer(asked.bare), _base_rows(asked.bare)
    base: dict[str, Found] = {}
    for step in steps:
        scorer.load(run.checkpoints / checkpoint_name(step) if step else None)
        for name, suite in suites.items():
            if name in of_base:
                yield name, _oracle_rows(scorer, suite, name) if step else of_base[name]
            elif isinstance(suite.examples[0], Pair):
                yield name, _pair_rows(scorer, suite)
            else:
                keep = name == "heldout" and not step
                found = scorer.score(suite, _temperatures(name), keep=keep, base=base.get(name))
                yield name, _watched(suite, found, base.setdefault(name, found))


def _oracle_rows(scorer: Scorer, suite: Suite, name: str) -> Rows:
    if isinstance(suite.examples[0], Pair):
        return _pair_rows(scorer, suite)
    return _kept(suite, scorer.score(suite, _temperatures(name)))


def _pair_rows(scorer: Scorer, suite: Suite) -> Rows:
    pairs = [example for example in suite.examples if isinstance(example, Pair)]
    chosen = replace(suite, examples=[pair.chosen for pair in pairs])
    rejected = replace(suite, examples=[pair.rejected for pair in pairs])
    rows = _kept(chosen, scorer.score(chosen))
    return rows | {"rejected": scorer.score(rejected).nll.astype(np.float32)}


def _temperatures(name: str) -> tuple[float, ...]:
    return TEMPERATURES if name.endswith("heldout") else (1.0,)


def _kept(suite: Suite, found: Found) -> Rows:
    kept = {"nll": found.nll.astype(np.float32), "right": _by_example(suite, found.right)}
    return kept | ({"tempered": found.tempered.astype(np.float32)} if len(found.tempered) > 1 else {})


def _watched(suite: Suite, found: Found, base: Found) -> Rows:
    """What is kept of a suite that detectors see, with what changed since the base model."""
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


# ---- classes, by the worker's own loss: a text is one prediction, which costs little


def _class_looks(
    asked: Asked, run: RunDir, steps: Sequence[int], suites: dict[str, Suite]
) -> Iterator[tuple[str, Rows]]:
    loss = _classifier(asked.recipe)
    first: dict[str, BasePredictions | None] = {}
    for step in steps:
        if step:
            load_weights(run.checkpoints / checkpoint_name(step), loss.model)
        for name, suite in suites.items():
            # Temperatures are measured of the suite of this name alone, the oracle's too.
            named = replace(suite, name="heldout") if name.endswith("heldout") else suite
            scores, _ = score_classes(
                loss, named, TEXTS_AT_ONCE, torch.device("cpu"), lambda: None, first.get(name)
            )
            first.setdefault(name, scores.base)
            rows = {"nll": scores.nll.astype(np.float32)}
            rows |= {
                key: counts
                for key, counts in (("right", scores.right), ("lost", scores.lost), ("gained", scores.gained))
                if counts is not None
            }
            if scores.tempered is not None:
                own = TEMPERATURES.index(1.0)
                rows["tempered"] = np.insert(scores.tempered, own, scores.nll, axis=0).astype(np.float32)
            yield name, rows


def _classifier(recipe: Recipe) -> ClassLoss:
    """The classifier as the worker has it before the first step: its new head is drawn by the same seeds."""
    tokenizer, labels = load_tokenizer(recipe.model), _prepared(recipe).labels
    pad = padding(tokenizer)
    for seed in (random.seed, np.random.seed, torch.manual_seed):
        seed(recipe.seed)
    model = load.load_model(recipe.model, recipe.method, torch.float32, classes=load.Classes(labels, pad))
    return ClassLoss(model.eval(), pad)


# ---- compared with the worker


def _disagreements(arrays: dict[str, np.ndarray], events: Sequence[Event]) -> tuple[np.ndarray, ...]:
    """How far these scores are from the worker's own, at most, in nats per token: of an example, and of the change of
    a suite's loss since step 0; over the examples that both scored.
    """
    steps = arrays["steps"].tolist()
    each, changes = [0.0], [0.0]
    first: dict[str, dict[str, float]] = {}
    for event in events:
        suite = str(event.get("suite"))
        if event["kind"] != "eval" or event["step"] not in steps or f"{suite}/ids" not in arrays:
            continue
        place = {id: i for i, id in enumerate(arrays[f"{suite}/ids"].tolist())}
        row, tokens = arrays[f"{suite}/nll"][steps.index(event["step"])], arrays[f"{suite}/tokens"]
        scored = zip(event["examples"]["id"], event["examples"]["nll"], strict=True)
        apart = {id: float(nll) - float(row[place[id]]) for id, nll in scored if id in place}
        before = first.setdefault(suite, apart)
        both = [id for id in apart if id in before]
        if not both:
            continue
        each += [abs(apart[id]) / int(tokens[place[id]]) for id in both]
        moved = sum(apart[id] - before[id] for id in both)
        changes.append(abs(moved) / sum(int(tokens[place[id]]) for id in both))
    return np.array(max(each)), np.array(max(changes))
