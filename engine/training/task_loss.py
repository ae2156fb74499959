"""The loss that a task trains with, and the base model's log-probabilities where it needs them."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any

import numpy as np
from accelerate import Accelerator

from engine.evals.outcome import OF_TEXT
from engine.evals.pairs import answer_log_probs
from engine.losses.class_loss import ClassLoss
from engine.losses.dpo_loss import PairLoss, as_base, keeps_base
from engine.losses.loss import TargetLoss
from engine.losses.task import TaskLoss
from engine.models import distributed
from engine.recipe.tasks import Classification, Dpo
from engine.training.job import Job
from finetui.files import whole_file


def task_loss(job: Job, accelerator: Accelerator) -> TaskLoss:
    """Make the loss of a job whose model is still as it was loaded. Raises Cancelled."""
    match job.recipe.task:
        case Classification():
            return ClassLoss(job.model, job.model.config.get_text_config().pad_token_id)
        case Dpo() as task:
            loss = PairLoss(job.model, job.recipe.method, task, job.packed)
            if not keeps_base(job.recipe.method):
                _load_references(job, loss, accelerator)
            return loss
        case _:
            return TargetLoss(job.model, job.packed)


def _load_references(job: Job, loss: PairLoss, accelerator: Accelerator) -> None:
    """Load the base model's log-probabilities of every pair that is trained on or scored from the run's file, or
    compute and write them.
    """
    sets: dict[str, list[Any]] = {"train": [job.data.train[i] for i in job.plan.visited()]}
    sets |= {suite.name: suite.examples for suite in job.data.suites if suite.name not in OF_TEXT}
    path = job.run.path / f"reference-{_digest(job, sets)}.npz"
    if distributed.agree(not path.exists()):  # all of several processes compute them, or none
        job.report.phase("data", job.step, "what the base model says to each pair")
        with accelerator.autocast(), as_base(job.model, job.recipe.method):
            log_probs = {
                name: answer_log_probs(loss, pairs, job.eval_tokens, accelerator.device, job.stop.check)[0]
                for name, pairs in sets.items()
            }
        _write(path, log_probs)
    with np.load(path) as saved:
        loss.suite_references = {name: saved[name] for name in sets}
    loss.set_references(sets["train"], loss.suite_references.pop("train"))


def _digest(job: Job, sets: dict[str, list[Any]]) -> str:
    """Return a digest of all that the log-probabilities depend on."""
    digest = hashlib.sha256(f"{job.recipe.model.path} {job.dtype}".encode())
    for name, pairs in sets.items():
        digest.update(name.encode())
        for pair in pairs:
            digest.update(pair.content)
    return digest.hexdigest()[:16]


def _write(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """Write the arrays whole or not at all."""
    with whole_file(path) as temporary, temporary.open("wb") as file:
        np.savez(file, allow_pickle=False, **arrays)
