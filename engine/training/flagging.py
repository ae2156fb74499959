"""Raise flags from the evaluations so far, and choose the step to keep if one of them stops the run."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

from engine.evals.looks import Looks
from engine.flags.absent import today_of
from engine.flags.displacement import displacement
from engine.flags.evidence import Evidence
from engine.flags.exclusion import are_opposite, without_contradictions
from engine.flags.flag import WARNS, Flag
from engine.flags.forgetting import forgetting
from engine.flags.forgetting import hits as forgetting_hits
from engine.flags.history import Context
from engine.flags.instability import instability
from engine.flags.measure import judged
from engine.flags.overfitting import memorised, overfitting
from engine.flags.progress import converged, dead, no_gradient
from engine.flags.states import Today, follow, warns
from engine.flags.template import template
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
    for flag in follow(stated, found, job.step, looks, partial(_today, evidence=evidence, found=found)):
        job.looks.add_flag(flag)
        job.report.flag(flag)
    for flag in found:
        if _action(job, flag) == "stop" and (flag.level in WARNS or flag.flag == "converged"):
            reason = f"stopped by the flag {flag.flag}"
    raise_leaks(job, last=reason is not None or job.step == job.plan.total_steps)
    return reason


def _action(job: Job, flag: Flag) -> str:
    return job.recipe.flags.action(KINDS[flag.flag])


def _today(flag: Flag, evidence: Evidence, found: Sequence[Flag]) -> Today:
    """Return how things stand with a flag that is not shown; one that another has taken the place of says so."""
    other = next((one for one in found if are_opposite(one, flag)), None)
    if other is None:
        return today_of(flag, evidence)
    message = f"It is seen as {other.flag} now: {other.message}"
    return Today(message, other.effect, other.lo, other.hi, other.n, replaced=True)


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


def standing_flags(evidence: Evidence, context: Context, stated: Sequence[Flag] = ()) -> list[Flag]:
    """Return the flags that the detectors raise on what was seen so far; none that contradicts another. `stated`: those
    of the looks before.
    """
    jumps = next((flag for flag in stated if (flag.flag, flag.suite) == ("instability", "train")), None)
    unstable_since = jumps.since_step if jumps and warns(jumps) else None
    heldout, seen, general = evidence.heldout, evidence.seen, evidence.general
    losses, norms, first = evidence.losses, evidence.norms, evidence.first_step
    flags = [
        overfitting(heldout, seen, context) if heldout and seen else None,
        memorised(seen, context) if seen else None,
        forgetting(general, context, heldout, evidence.samples) if general else None,
        displacement(evidence.pairs, context) if evidence.pairs else None,
        instability(losses, norms, first, context, unstable_since) if len(losses) else None,
        (no_gradient(norms, first + len(norms) - 1, context) if first == 1 else None)
        or (dead(seen, context) if seen else None),
        converged(heldout, context) if heldout else None,
        template(evidence.answers, context.total_steps or 0),
    ]
    return without_contradictions([flag for flag in flags if flag], stated, evidence, context)


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
