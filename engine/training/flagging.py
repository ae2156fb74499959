"""Raise flags from the evaluations so far, and choose the step to keep if one of them stops the run."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial

from engine.evals.looks import Looks
from engine.flags.evidence import Evidence
from engine.flags.flag import WARNS, Flag
from engine.flags.forgetting import hits as forgetting_hits
from engine.flags.history import Context
from engine.flags.measure import judged
from engine.flags.standing import standing_flags, today
from engine.flags.states import follow
from engine.recipe.fields import SAMPLES
from engine.recipe.sections import Recipe
from engine.training import checkpoint
from engine.training.context import context_of
from engine.training.job import Job
from engine.training.leaking import raise_leaks
from engine.training.optimiser import learning_rates
from store.best import judged_by

# The key of the recipe's section `flags` for each flag.
KINDS = {
    "overfitting": "overfitting",
    "overconfident": "overfitting",
    "memorised": "overfitting",
    "instability": "instability",
    "forgetting": "forgetting",
    "displacement": "displacement",
    "dead": "dead",
    "converged": "plateau",
    "endless": "template",
    "repeating": "template",
}


def raise_flags(job: Job) -> str | None:
    """Log what this look makes of every flag; return the reason if one is to stop the run."""
    reason, rates = None, learning_rates(job.recipe.train, job.plan.total_steps)
    # Text that is scored whole has no rows left to train on, and advice that cannot be followed is none.
    context = replace(context_of(job.recipe), rates=rates, general=next(iter(job.data.replayable), None))
    evidence = evidence_so_far(job.looks, context)
    stated = [flag for flag in job.looks.stated if flag.flag in KINDS]
    found = [flag for flag in standing_flags(evidence, context, stated) if _action(job, flag) != "off"]
    looks = sum(step > 0 for step in job.looks.steps)
    for flag in follow(stated, found, job.step, looks, partial(today, evidence=evidence, found=found)):
        job.looks.add_flag(flag)
        job.report.flag(flag)
    for flag in found:
        if _action(job, flag) == "stop" and (flag.level in WARNS or flag.flag == "converged"):
            reason = f"stopped by the flag {flag.flag}"
    raise_leaks(job, last=reason is not None or job.step == job.plan.total_steps)
    return reason


def _action(job: Job, flag: Flag) -> str:
    return job.recipe.flags.action(KINDS[flag.flag])


def evidence_so_far(looks: Looks, context: Context) -> Evidence:
    """Return what the looks and steps so far have shown, by what the task is judged by."""
    heldout = looks.history("heldout")
    return Evidence(
        judged(heldout, context),
        judged(looks.history("seen"), context),
        looks.history("general"),
        looks.history(SAMPLES),
        heldout if context.task == "dpo" else None,
        looks.answers,
        *looks.training(),
    )


def best_step(looks: Looks, recipe: Recipe) -> int | None:
    """Return the step whose weights are kept if a flag stops the run."""
    best = best_look(looks, recipe)
    return best[0] if best else None


def best_look(looks: Looks, recipe: Recipe) -> tuple[int, str] | None:
    """Return the evaluated step (above 0) that is best by what the task is judged by (an estimate where a part of the
    suite was scored), and why it was chosen. Where forgetting is to stop the run: the best step without forgetting, or
    else the one with the lowest general loss.
    """
    heldout = judged(looks.history("heldout"), context_of(recipe))
    if heldout is None:
        return None
    candidates = list(range(1, len(heldout.steps)))
    general = looks.history("general")
    why = f"it has the lowest held-out {judged_by(recipe.task.name).name}"
    if general and recipe.flags.forgetting.do == "stop":
        weighed = heldout if context_of(recipe).weighs else None
        hits = forgetting_hits(general, recipe.flags.forgetting, weighed)["warn"]
        forgot = {step for step, hit in zip(general.steps[1:], hits, strict=True) if hit}
        without_forgetting = [look for look in candidates if heldout.steps[look] not in forgot]
        if candidates and not without_forgetting:
            step = general.steps[min(range(1, len(general.steps)), key=general.loss)]
            return step, "it has the lowest general loss; forgetting was seen at every evaluation"
        if len(without_forgetting) < len(candidates):
            why += " among the steps without forgetting"
        candidates = without_forgetting
    return (heldout.steps[min(candidates, key=heldout.loss)], why) if candidates else None


@dataclass(frozen=True)
class Stopped:
    """Why a run ended before its last step, in one sentence, and the step whose weights it keeps."""

    reason: str
    kept_step: int


def stop_at_best(job: Job, reason: str) -> Stopped:
    """Load the weights of the best checkpoint into the model."""
    reason = f"{reason} at step {job.step}"
    chosen = best_look(job.looks, job.recipe)
    if chosen is None:
        return Stopped(reason, job.step)
    step, why = chosen
    if step != job.step:
        checkpoint.load_weights(job.run.checkpoints / checkpoint.checkpoint_name(step), job.model)
    return Stopped(f"{reason}; the weights of step {step} are kept: {why}", step)


def is_new_best(job: Job) -> bool:
    """Whether this step needs a checkpoint because a flag may return to it."""
    return (
        job.recipe.flags.may_stop and job.looks.has(job.step) and best_step(job.looks, job.recipe) == job.step
    )
