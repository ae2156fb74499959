"""Training, from the first step to the last: read `train` from top to bottom.

The loss of an optimiser step is summed over all targets of its window (tokens; texts or pairs for the tasks that
learn from whole ones) and divided by their number, so that splitting a step into forward passes changes nothing.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from functools import partial

import numpy as np
import torch
from accelerate import Accelerator

from engine.basics.errors import TrainingError
from engine.evals import part_scores
from engine.evals.schedule import Schedule, is_due
from engine.flags.nan import nan
from engine.losses.task import TaskLoss
from engine.models import distributed
from engine.recipe.fields import parse_share
from engine.recipe.methods import Lora, QLora
from engine.tasks.items import Item
from engine.training import checkpoint
from engine.training.checkpoint import Position
from engine.training.evaluation import evaluate
from engine.training.few_shot import baseline
from engine.training.flagging import best_step, context_of, is_new_best, raise_flags, stop_at_best
from engine.training.guard import Guard
from engine.training.job import Job, compile_backbone, plan_of
from engine.training.optimiser import learning_rate, make_optimiser, set_rate
from engine.training.stop import Cancelled
from engine.training.task_loss import task_loss


def train(job: Job, resume_from: int | None) -> str | None:
    """Train to the end, from a checkpoint's step if one is given; the reason if a flag stopped the run early.

    Leaves the weights to be saved in `job.model`. Raises Cancelled (after saving), TrainingError, SaveError.
    """
    recipe, report = job.recipe, job.report
    accelerator = Accelerator(
        cpu=not torch.cuda.is_available(), mixed_precision="bf16" if job.dtype == torch.bfloat16 else "no"
    )
    loss = task_loss(job, accelerator)
    if recipe.train.compile:
        compile_backbone(job.model)
    loss_of = distributed.wrap(loss, accelerator, recipe.train.sharding)
    scale = recipe.method.lr_ratio if isinstance(recipe.method, Lora | QLora) else 1.0
    optimiser = make_optimiser(job.model, recipe.train, scale)
    plan = plan_of(job)
    total = plan.total_steps
    digest = job.data.digest
    position = Position(0, 0, digest)
    distributed.own_randomness(recipe.seed)
    if resume_from is not None:
        path = job.run.checkpoints / checkpoint.checkpoint_name(resume_from)
        position = checkpoint.restore(path, job.model, optimiser)
        if position.data != digest:
            report.log("warning", "the training data have changed since the checkpoint: some rows may repeat")
    job.step = position.step
    job.micro_tokens = min(job.micro_tokens, position.micro_tokens or job.micro_tokens)
    guard = Guard(job, plan, optimiser, accelerator.num_processes)
    look = partial(guard.evaluate, partial(evaluate, job, accelerator, loss_of))
    saved = resume_from
    small = part_scores.share(job.data.suites, recipe.evals.per_look)
    schedule = Schedule(recipe.evals.every, recipe.evals.budget, total, job.step, distributed.as_first, small)
    save_every = parse_share(recipe.train.checkpoint_every)

    job.model.train()
    if not position.micro_tokens:  # a run that goes on stays with what it found out
        guard.probe(
            lambda chosen: backward(accelerator, loss_of, [job.data.train[i] for i in chosen], 1.0, 1)
        )
    try:
        if job.step == 0 and not job.looks.asked_few_shot:
            guard.evaluate(partial(baseline, job, accelerator, loss_of))
        reason = None
        if job.looks.has(
            job.step
        ):  # an attempt may have been killed after a look, before it did what a flag said
            reason = raise_flags(job)
        elif schedule.is_certain(job.step):
            reason = schedule.look(job.step, look)
        if reason:
            return stop_at_best(job, reason)
        guard.tell_probe()
        report.phase("training", job.step)
        for epoch, groups in plan.steps(position.step):
            rate = learning_rate(recipe.train, job.step, total)
            update = partial(optimiser_step, job, accelerator, loss_of, optimiser, guard, rate)
            values = guard.step(groups, update)
            tokens = position.tokens + int(values.pop("tokens"))
            position = Position(job.step + 1, tokens, digest, job.micro_tokens)
            job.step = position.step
            values |= {"train/lr": rate, "train/tokens": position.tokens, "train/epoch": epoch}
            job.looks.add_step(job.step, values["train/loss"], values["train/grad_norm"])
            report.metrics(job.step, values | {"memory/peak_mb": guard.peak_mb})
            job.stop.check()
            if looking := schedule.is_due(job.step):
                reason = schedule.look(job.step, look)
            if reason or is_due(job.step, save_every, total) or is_new_best(job):
                save(job, optimiser, position)
                saved = job.step
            if reason:
                guard.tell_end()
                return stop_at_best(job, reason)
            if looking and job.step < total:
                report.phase("training", job.step)
    except Cancelled:
        if job.step > 0 and saved != job.step:
            save(job, optimiser, position)
        raise
    guard.tell_end()
    return None


def optimiser_step(
    job: Job,
    accelerator: Accelerator,
    loss_of: TaskLoss,
    optimiser: torch.optim.Optimizer,
    guard: Guard,
    rate: float,
    groups: Sequence[np.ndarray],
) -> dict[str, float]:
    """One update from a window of forward passes; its metrics. Raises TrainingError on NaN, before the update."""
    started = time.perf_counter()
    window: list[list[Item]] = [[job.data.train[i] for i in group] for group in groups]
    targets = sum(example.targets for examples in window for example in examples)
    tokens = sum(len(example.tokens) for examples in window for example in examples)
    total = torch.zeros((), device=accelerator.device)
    mine = distributed.share(window)
    for number, (examples, weight) in enumerate(mine, start=1):
        alone = distributed.no_exchange(accelerator, loss_of, last=number == len(mine))
        with guard.watching(len(examples)), alone:
            total += backward(accelerator, loss_of, examples, weight, targets)
    loss_value = float(distributed.summed(total))
    grad_norm = distributed.clip(job.model.parameters(), job.recipe.train.grad_clip)
    if flag := nan(job.step + 1, loss_value, grad_norm, context_of(job.recipe)):
        job.report.flag(flag)
        raise TrainingError(f"{flag.message} {flag.advice[0]} No weights were saved after it.")
    set_rate(optimiser, rate)
    guard.update()
    optimiser.zero_grad(set_to_none=True)
    return {
        "train/loss": loss_value,
        "train/grad_norm": grad_norm,
        "train/target_tokens": targets,
        "train/tokens_per_s": tokens / (time.perf_counter() - started),
        "tokens": tokens,
    }


def backward(
    accelerator: Accelerator, loss_of: TaskLoss, examples: Sequence[Item], weight: float, targets: int
) -> torch.Tensor:
    """Add the gradients of one forward pass; its part of the loss, float32 scalar."""
    batch = accelerator.unwrap_model(loss_of).collate(examples, accelerator.device)
    with accelerator.autocast():
        loss = weight * loss_of(batch) / targets
    accelerator.backward(loss * distributed.world())
    return loss.detach()


def save(job: Job, optimiser: torch.optim.Optimizer, position: Position) -> None:
    """Write a checkpoint, tell it, then delete old ones."""
    job.report.phase("saving", position.step)
    path = checkpoint.save(job.run, job.model, optimiser, position)
    job.report.checkpoint(position.step, path.relative_to(job.run.path), checkpoint.directory_bytes(path))
    if distributed.rank() == 0:
        keep = best_step(job.looks, job.recipe) if job.recipe.flags.may_stop else None
        checkpoint.prune(job.run, job.recipe.train.keep_checkpoints, keep)
