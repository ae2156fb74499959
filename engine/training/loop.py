"""Training, from the first step to the last: read `train` from top to bottom.

The loss of an optimiser step is summed over all target tokens of its window and divided by their number,
so that splitting a step into forward passes, whatever the lengths, changes nothing.
"""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from accelerate import Accelerator

from engine.data.chat import Example
from engine.evals.generate import answers
from engine.evals.looks import Looks
from engine.evals.score import score
from engine.flags.flag import LEVELS, Context, Flag
from engine.flags.forgetting import forgetting
from engine.flags.forgetting import hits as forgetting_hits
from engine.flags.nan import nan
from engine.flags.overfitting import overfitting
from engine.home import RunDir
from engine.recipe import Lora, QLora, Recipe, Share, parse_share
from engine.tasks.sft import Prepared
from engine.training import checkpoint
from engine.training.batches import Plan, collate
from engine.training.checkpoint import Position
from engine.training.loss import TargetLoss
from engine.training.optimiser import learning_rate, make_optimiser, set_rate
from engine.training.report import Report
from engine.training.stop import Cancelled, Stop


class TrainingError(Exception):
    """Training cannot go on; `str()` is one sentence with what to try."""


@dataclass
class Job:
    """Everything that training needs, loaded; `step` is where it stands."""

    run: RunDir
    recipe: Recipe
    data: Prepared
    model: Any
    tokenizer: Any
    looks: Looks
    report: Report
    stop: Stop
    dtype: torch.dtype
    step: int = 0


def train(job: Job, resume_from: int | None) -> str | None:
    """Train to the end, from a checkpoint's step if one is given; the reason if a flag stopped the run early.

    Leaves the weights to be saved in `job.model`. Raises Cancelled (after saving), TrainingError, SaveError.
    """
    recipe, report = job.recipe, job.report
    accelerator = Accelerator(
        cpu=not torch.cuda.is_available(), mixed_precision="bf16" if job.dtype == torch.bfloat16 else "no"
    )
    loss_of = accelerator.prepare_model(TargetLoss(job.model))
    scale = recipe.method.lr_ratio if isinstance(recipe.method, Lora | QLora) else 1.0
    optimiser = make_optimiser(job.model, recipe.train.weight_decay, scale)
    plan = plan_of(job)
    total = plan.total_steps
    position = Position(0, 0, job.data.digest)
    if resume_from is not None:
        path = job.run.checkpoints / checkpoint.checkpoint_name(resume_from)
        position = checkpoint.restore(path, job.model, optimiser)
        if position.data != job.data.digest:
            report.log("warning", "the training data have changed since the checkpoint: some rows may repeat")
    job.step = position.step
    saved = resume_from
    eval_every = parse_share(recipe.evals.every)
    save_every = parse_share(recipe.train.checkpoint_every)

    job.model.train()
    try:
        missing = is_due(job.step, eval_every, total) and not job.looks.has(job.step)
        if missing and (reason := evaluate(job, accelerator, loss_of)):
            go_back_to_best(job)
            return reason
        report.phase("training", job.step)
        for epoch, groups in plan.steps(position.step):
            rate = learning_rate(recipe.train, job.step, total)
            values = optimiser_step(job, accelerator, loss_of, optimiser, groups, rate)
            tokens = position.tokens + int(values.pop("tokens"))
            position = Position(job.step + 1, tokens, job.data.digest)
            job.step = position.step
            values |= {"train/lr": rate, "train/tokens": position.tokens, "train/epoch": epoch}
            report.metrics(job.step, values | {"memory/peak_mb": peak_memory()})
            job.stop.check()
            reason = None
            if is_due(job.step, eval_every, total):
                reason = evaluate(job, accelerator, loss_of)
            if reason or is_due(job.step, save_every, total) or _is_new_best(job):
                save(job, optimiser, position)
                saved = job.step
            if reason:
                go_back_to_best(job)
                return reason
            if is_due(job.step, eval_every, total) and job.step < total:
                report.phase("training", job.step)
    except Cancelled:
        if job.step > 0 and saved != job.step:
            save(job, optimiser, position)
        raise
    return None


def plan_of(job: Job) -> Plan:
    """The order of training of a job."""
    settings = job.recipe.train
    return Plan(
        lengths=tuple(len(example.tokens) for example in job.data.train),
        seed=job.recipe.seed,
        epochs=settings.epochs,
        max_steps=settings.max_steps,
        tokens_per_step=settings.tokens_per_step,
        micro_tokens=settings.micro_tokens,
    )


def optimiser_step(
    job: Job,
    accelerator: Accelerator,
    loss_of: TargetLoss,
    optimiser: torch.optim.Optimizer,
    groups: Sequence[np.ndarray],
    rate: float,
) -> dict[str, float]:
    """One update from a window of forward passes; its metrics. Raises TrainingError on NaN, before the update."""
    started = time.perf_counter()
    window: list[list[Example]] = [[job.data.train[i] for i in group] for group in groups]
    targets = sum(example.targets for examples in window for example in examples)
    tokens = sum(len(example.tokens) for examples in window for example in examples)
    total = torch.zeros((), device=accelerator.device)
    for examples in window:
        batch = collate(examples, accelerator.device)
        with accelerator.autocast():
            loss = loss_of(batch) / targets
        accelerator.backward(loss)
        total += loss.detach()
    norm = accelerator.clip_grad_norm_(job.model.parameters(), job.recipe.train.grad_clip)
    loss_value, grad_norm = float(total), float(norm)
    if flag := nan(job.step + 1, loss_value, grad_norm, _context(job.recipe)):
        job.report.flag(flag)
        raise TrainingError(f"{flag.message} {flag.advice[0]} No weights were saved after it.")
    set_rate(optimiser, rate)
    optimiser.step()
    optimiser.zero_grad(set_to_none=True)
    return {
        "train/loss": loss_value,
        "train/grad_norm": grad_norm,
        "train/target_tokens": targets,
        "train/tokens_per_s": tokens / (time.perf_counter() - started),
        "tokens": tokens,
    }


def evaluate(job: Job, accelerator: Accelerator, loss_of: TargetLoss) -> str | None:
    """Score all suites, write them, raise flags; the reason if a flag stops the run.

    Nothing is written before everything is scored, so that a cancelled evaluation is simply done again.
    """
    recipe, report = job.recipe, job.report
    report.phase("eval", job.step, ", ".join(suite.name for suite in job.data.suites))
    module = accelerator.unwrap_model(loss_of)
    job.model.eval()
    found = []
    with accelerator.autocast():
        for suite in job.data.suites:
            started = time.perf_counter()
            scores = score(module, suite, 2 * recipe.train.micro_tokens, accelerator.device, job.stop.check)
            found.append((suite, scores, time.perf_counter() - started))
        documents = job.data.suite("heldout").documents[: recipe.evals.generate]
        texts = answers(job.model, job.tokenizer, documents, recipe.evals.max_new_tokens, accelerator.device)
    job.model.train()
    job.stop.check()
    for suite, scores, seconds in found:
        if job.step == 0:
            report.examples(suite)
        report.eval(job.step, suite.name, scores, seconds)
        job.looks.add(job.step, suite.name, scores)
    for index, (document, text) in enumerate(zip(documents, texts, strict=True)):
        report.sample(job.step, index, document.prompt, text)
    return raise_flags(job)


def raise_flags(job: Job) -> str | None:
    """Write flags that are new or got worse; the reason if one is to stop the run."""
    reason = None
    for flag, action in _standing_flags(job):
        written = job.looks.raised.get(flag.flag)
        if written is None or LEVELS.index(flag.level) > LEVELS.index(written):
            job.looks.raised[flag.flag] = flag.level
            job.report.flag(flag)
        if action == "stop":
            reason = f"stopped by the flag {flag.flag}: {flag.message}"
    return reason


def _standing_flags(job: Job) -> list[tuple[Flag, str]]:
    """Flags that stand at this evaluation, with what the recipe wants done."""
    context, wanted = _context(job.recipe), job.recipe.flags
    heldout, seen, general = (job.looks.history(name) for name in ("heldout", "seen", "general"))
    flags: list[tuple[Flag | None, str]] = []
    if heldout and seen and wanted.overfitting != "off":
        flags.append((overfitting(heldout, seen, context), wanted.overfitting))
    if general and wanted.forgetting != "off":
        flags.append((forgetting(general, context), wanted.forgetting))
    return [(flag, action) for flag, action in flags if flag]


def best_step(job: Job) -> int | None:
    """The evaluated step (above 0) with the lowest held-out loss; where forgetting is to stop the run, among
    those at which it had not been seen.
    """
    heldout = job.looks.history("heldout")
    if heldout is None:
        return None
    candidates = range(1, len(heldout.steps))
    general = job.looks.history("general")
    if general and job.recipe.flags.forgetting == "stop":
        seen = forgetting_hits(general)["warn"]
        candidates = [look for look in candidates if not seen[look - 1]]  # type: ignore[assignment]
    return heldout.steps[min(candidates, key=heldout.loss)] if candidates else None


def go_back_to_best(job: Job) -> None:
    """Put the weights of the best checkpoint into the model, if there is a better one than the last."""
    best = best_step(job)
    if best is None or best == job.step:
        return
    checkpoint.load_weights(job.run.checkpoints / checkpoint.checkpoint_name(best), job.model)
    job.report.log("info", f"the weights of step {best} are kept: they had the best held-out loss")


def save(job: Job, optimiser: torch.optim.Optimizer, position: Position) -> None:
    """Write a checkpoint, tell it, then delete old ones."""
    job.report.phase("saving", position.step)
    path = checkpoint.save(job.run, job.model, optimiser, position)
    job.report.checkpoint(position.step, path.relative_to(job.run.path), checkpoint.directory_bytes(path))
    keep = best_step(job) if _may_stop(job.recipe) else None
    checkpoint.prune(job.run, job.recipe.train.keep_checkpoints, keep)


def peak_memory() -> float:
    """Peak memory of this process in MiB: of the GPU where there is one, else of the process."""
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() / 2**20
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / 2**20 if sys.platform == "darwin" else peak / 2**10


def is_due(step: int, every: Share, total: int) -> bool:
    """Whether something done at step 0, at the end and `every` so often is done at this step.

    A percentage gives evenly spread steps, none of them just before the end.
    """
    if step in (0, total):
        return True
    if every.percent is None:
        return step % every.of(total) == 0
    apart = total * every.percent / 100
    return int(step / apart) > int((step - 1) / apart)


def _is_new_best(job: Job) -> bool:
    """Whether this step must have a checkpoint because a flag may want to come back to it."""
    return _may_stop(job.recipe) and job.looks.has(job.step) and best_step(job) == job.step


def _may_stop(recipe: Recipe) -> bool:
    return "stop" in (recipe.flags.overfitting, recipe.flags.forgetting)


def _context(recipe: Recipe) -> Context:
    assert recipe.train.lr is not None  # Recipe fills it in
    return Context(
        recipe.method.name, recipe.train.lr, recipe.data.replay.ratio if recipe.data.replay else 0.0
    )
