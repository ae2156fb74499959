"""A trainer in the test's own process, over examples and a model that the test made."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from engine.data.chat import Example
from engine.evals.looks import Looks
from engine.evals.metrics import Metrics
from engine.recipe.sections import Recipe
from engine.runs.home import RunDir
from engine.tasks.prepare import Prepared, Suite
from engine.training.job import Job, plan_of
from engine.training.loop import Trainer
from engine.training.meter import Meter
from engine.training.report import Report
from engine.training.stop import Stop
from finetui.log import LogWriter


def make_trainer(path: Path, recipe: Recipe, model: Any, train: list[Example]) -> Trainer:
    """One whose run directory is `path`, in float32, without packing; what is held out is the first example."""
    run = RunDir(path / "000001-run")
    report = Report(LogWriter(run.attempt(1).events, "worker", 1, 1))
    data = Prepared(
        train=list(train),
        suites=[Suite("heldout", [], [train[0]])],
        max_length=1024,
        longest=1024,
        notes=[],
        labels=[],
        overlaps=[],
    )
    job = Job(
        run=run,
        recipe=recipe,
        data=data,
        model=model,
        tokenizer=None,
        looks=Looks(),
        report=report,
        stop=Stop(),
        dtype=torch.float32,
        metrics=Metrics([], path, report.log),
        packed=False,
        plan=plan_of(recipe, data, packed=False),
        meter=Meter("auto"),
        checkpointing=False,
    )
    return Trainer(job, None)
