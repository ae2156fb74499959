"""Training, from the first step to the last: read `train`, then `Trainer.step`.

The loss of an optimiser step is summed over all targets of its window (tokens; texts or pairs for the tasks that
learn from whole ones) and divided by their number, so that splitting a step into forward passes changes nothing.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator

from engine.basics.errors import TrainingError
from engine.evals import part_scores
from engine.evals.schedule import Schedule, is_due
from engine.flags.nan import nan
from engine.losses.task import TaskLoss, routers_of
from engine.models import distributed
from engine.models.random_states import random_states, set_random_states
from engine.recipe.fields import parse_share
from engine.recipe.methods import Lora, QLora
from engine.tasks.items import Item
from engine.training import checkpoint
from engine.training.checkpoint import Position
from engine.training.checkpoint_clock import CheckpointClock
from engine.training.context import context_of
from engine.training.ends import measure_ends
from engine.training.evaluation import evaluate
from engine.training.few_shot import few_shot_baseline
from engine.training.flagging import Stopped, best_step, is_new_best, raise_flags, stop_at_best
from engine.training.job import Job, compile_backbone
from engine.training.memory_guard import MemoryGuard
from engine.training.optimiser import learning_rate, make_optimiser, set_rate
from engine.training.stop import Cancelled
from engine.training.task_loss import task_loss


def train(job: Job, resume_from: int | None) -> Stopped | None:
    """Train to the end, from a checkpoint's step if one is given; why and with which weights if a flag stopped the run.

    Leaves the weights to be saved in `job.model`. Raises Cancelled (after saving), TrainingError, SaveError.
    """
    trainer = Trainer(job, resume_from)
    try:
        if reason := trainer.look_before_first_step():
            return trainer.stop(reason)
        trainer.memory.report_probe()
        job.report.phase("training", job.step)
        for epoch, chosen in job.plan.steps(job.step):
            metrics = trainer.step(chosen)
            trainer.record(metrics, epoch)
            job.stop.check()
            looking = trainer.schedule.is_due(job.step)
            if looking:
                reason = trainer.look()
            if reason or trainer.is_checkpoint_due():
                trainer.save()
            if reason:
                break
            if looking and job.step < job.plan.total_steps:
                job.report.phase("training", job.step)
        trainer.memory.report_end()
        return trainer.stop(reason) if reason else None
    except Cancelled:
        if job.step not in (0, trainer.saved_step):
            trainer.save()
        raise


class Trainer:
    """What a training step needs, made once. `job.step` says where it stands."""

    def __init__(self, job: Job, resume_from: int | None) -> None:
        """Restore the checkpoint of the step `resume_from`, then measure the largest forward pass."""
        recipe = job.recipe
        self.job = job
        self.accelerator = Accelerator(
            cpu=not torch.cuda.is_available(), mixed_precision="bf16" if job.dtype == torch.bfloat16 else "no"
        )
        loss = task_loss(job, self.accelerator)
        if recipe.train.compile:
            compile_backbone(job.model)
        self.loss: TaskLoss = distributed.wrap(loss, self.accelerator, recipe.train.sharding)
        self.task_loss: Any = self.accelerator.unwrap_model(self.loss)
        scale = recipe.method.lr_ratio if isinstance(recipe.method, Lora | QLora) else 1.0
        self.optimiser = make_optimiser(job.model, recipe.train, scale)
        distributed.own_randomness(recipe.seed)
        position = self._restore(resume_from)
        self.tokens = position.tokens  # trained on so far
        self.saved_step = resume_from  # of the last checkpoint
        self.checkpoint_every = parse_share(recipe.train.checkpoint_every)
        self.checkpoint_clock = CheckpointClock(recipe.train.checkpoint_minutes)
        self.memory = MemoryGuard(job, self.optimiser, self.accelerator.num_processes)
        self.schedule = Schedule(
            recipe.evals.every,
            recipe.evals.budget,
            job.plan.total_steps,
            job.step,
            distributed.from_first,
            part_scores.partial_cost(job.data.suites, recipe.evals),
        )
        job.model.train()
        if not position.micro_tokens:  # a resumed run keeps what it found out
            self.memory.probe(lambda chosen: self.backward(self._examples(chosen), 1.0, 1))

    # ---- a step --------------------------------------------------------------------------------------

    def step(self, chosen: np.ndarray) -> dict[str, float]:
        """One optimiser step on the training examples `chosen` (int64 [examples]): data, forward, backward, update.

        Returns its metrics. While memory runs out, the step is repeated in smaller forward passes. Raises
        TrainingError, on NaN before any weight is changed.
        """
        job, started, states = self.job, time.perf_counter(), random_states()
        examples = self._examples(chosen)
        targets = sum(example.targets for example in examples)
        tokens = sum(len(example.tokens) for example in examples)
        while True:
            passes = job.plan.split(chosen, job.micro_tokens)
            try:
                loss, grad_norm, routers = self.gradients(
                    [self._examples(indices) for indices in passes], targets
                )
                break
            except Exception as error:
                reason = self.memory.shortage(error)
            # Not inside `except`, where the traceback would keep the tensors of the failed pass alive.
            self.optimiser.zero_grad(set_to_none=True)
            self.memory.split_finer(passes, reason)
            set_random_states(states)
        rate = learning_rate(job.recipe.train, job.step, job.plan.total_steps)
        if flag := nan(job.step + 1, loss, grad_norm, context_of(job.recipe)):
            seen = {"train/loss": loss, "train/grad_norm": grad_norm, "train/lr": rate}
            job.report.metrics(
                job.step + 1, {**seen, "train/tokens_per_s": tokens / (time.perf_counter() - started)}
            )
            job.report.flag(flag)
            raise TrainingError(f"{flag.message} {flag.advice[0]} No weights were saved after it.")
        set_rate(self.optimiser, rate)
        with self.memory.updating():
            self.optimiser.step()
        self.optimiser.zero_grad(set_to_none=True)
        job.step += 1
        self.tokens += tokens
        seconds = time.perf_counter() - started
        job.spent.step(seconds, tokens)
        return {
            "train/loss": loss,
            "train/grad_norm": grad_norm,
            "train/target_tokens": targets,
            "train/tokens_per_s": tokens / seconds,
            "train/lr": rate,
            "train/tokens": self.tokens,
            **routers,
        }

    def gradients(self, window: Sequence[list[Item]], targets: int) -> tuple[float, float, dict[str, float]]:
        """Leave the clipped gradients of a window's forward passes in the weights; (loss, gradient norm before, the
        mean balance of routers, if they are trained to be even).
        """
        total = torch.zeros((), device=self.accelerator.device)
        balances: list[torch.Tensor] = []
        mine, routers = distributed.own_passes(window), routers_of(self.task_loss)
        for number, (examples, weight) in enumerate(mine, start=1):
            alone = distributed.no_exchange(self.accelerator, self.loss, last=number == len(mine))
            with self.memory.watching(len(examples)), alone:
                total += self.backward(examples, weight, targets)
            if routers and routers.router_balance is not None and weight:
                balances.append(routers.router_balance)
        loss = float(distributed.summed(total))
        norm = distributed.clip(self.job.model.parameters(), self.job.recipe.train.grad_clip)
        if not routers:
            return loss, norm, {}
        sums = torch.tensor([sum(float(b) for b in balances), len(balances)], device=total.device)
        balance, passes = distributed.summed(sums).tolist()
        return loss, norm, {"train/router_balance": balance / passes} if passes else {}

    def backward(self, examples: Sequence[Item], weight: float, targets: int) -> torch.Tensor:
        """Add the gradients of one forward pass; its part of the loss without that of routers, float32 scalar."""
        batch = self.task_loss.collate(examples, self.accelerator.device)
        with self.accelerator.autocast():
            loss = weight * self.loss(batch) / targets
        self.accelerator.backward(loss * distributed.world())
        routers = routers_of(self.task_loss)
        if routers is None or routers.router_term is None:
            return loss.detach()
        return loss.detach() - weight * routers.router_term / targets

    def record(self, metrics: dict[str, float], epoch: float) -> None:
        """Write what a step measured, and keep it for the flags."""
        job = self.job
        job.looks.add_step(job.step, metrics["train/loss"], metrics["train/grad_norm"])
        job.report.metrics(job.step, {**metrics, "train/epoch": epoch, "memory/peak_mb": self.memory.peak_mb})

    # ---- looks and checkpoints -----------------------------------------------------------------------

    def look_before_first_step(self) -> str | None:
        """The base model's few-shot result and the first look, unless they are there; the reason to stop at once."""
        job = self.job
        if job.step == 0 and not job.looks.has_few_shot:
            with self.schedule.apart():
                self._evaluate(few_shot_baseline)
        if job.looks.has(job.step):  # killed after a look, before the attempt did what a flag said
            reason = raise_flags(job)
            self._measure_end(reason)
            return reason
        return self.look() if self.schedule.is_certain(job.step) else None

    def look(self) -> str | None:
        """Evaluate every suite and raise flags; the reason if one of them stops the run."""
        started = time.perf_counter()
        with self.schedule.timing(self.job.step):
            reason = self._evaluate(evaluate)
        if self.job.step > 0:
            self.job.spent.look(time.perf_counter() - started)
        self._measure_end(reason)
        return reason

    def _measure_end(self, reason: str | None) -> None:
        """At both ends of the run, measure what is measured there only; not where it stops, with other weights."""
        if not reason and self.job.step in (0, self.job.plan.total_steps):
            with self.schedule.apart():
                self._evaluate(partial(measure_ends, step=self.job.step))

    def stop(self, reason: str) -> Stopped:
        """Go back to the weights that are kept, and measure their end. Raises Cancelled."""
        stopped = stop_at_best(self.job, reason)
        self._evaluate(partial(measure_ends, step=stopped.kept_step))
        return stopped

    def _evaluate(self, work: Callable[[Job, Accelerator, TaskLoss], str | None]) -> str | None:
        """Done again with fewer tokens at once for as long as memory runs out. Raises TrainingError."""
        self.memory.before_evaluation()
        while True:
            try:
                reason = work(self.job, self.accelerator, self.task_loss)
                break
            except Exception as error:
                short = self.memory.shortage(error)
            self.memory.evaluate_fewer(short)
        self.memory.after_evaluation()
        return reason

    def is_checkpoint_due(self) -> bool:
        job = self.job
        overdue = distributed.agree(self.checkpoint_clock.is_due)
        return overdue or is_due(job.step, self.checkpoint_every, job.plan.total_steps) or is_new_best(job)

    def save(self) -> None:
        """Write a checkpoint, report it, then delete old ones."""
        job, started = self.job, time.perf_counter()
        job.report.phase("saving", job.step)
        position = Position(job.step, self.tokens, job.data.digest, job.micro_tokens)
        path = checkpoint.save(job.run, job.model, self.optimiser, position)
        job.report.checkpoint(job.step, path.relative_to(job.run.path), checkpoint.directory_bytes(path))
        if distributed.rank() == 0:
            keep = best_step(job.looks, job.recipe) if job.recipe.flags.may_stop else None
            checkpoint.prune(job.run, job.recipe.train.keep_checkpoints, keep)
        self.saved_step = job.step
        seconds = time.perf_counter() - started
        self.checkpoint_clock.saved(seconds)
        job.spent.save(seconds)

    def _restore(self, resume_from: int | None) -> Position:
        """Where the checkpoint of a step stands, its weights and optimiser put in place. Raises RestoreError."""
        job = self.job
        position = Position(0, 0, job.data.digest)
        if resume_from is not None:
            path = job.run.checkpoints / checkpoint.checkpoint_name(resume_from)
            position = checkpoint.restore(path, job.model, self.optimiser)
            if position.data != job.data.digest:
                job.report.log(
                    "warning",
                    f"the training data have changed since the checkpoint of step {resume_from}: some rows may repeat",
                )
        job.step = position.step
        job.micro_tokens = min(job.micro_tokens, position.micro_tokens or job.micro_tokens)
        return position

    def _examples(self, chosen: np.ndarray) -> list[Item]:
        return [self.job.data.train[i] for i in chosen]
