"""Raise flags from the evaluations so far, and choose the step to keep if one of them stops the run."""

from __future__ import annotations

from dataclasses import replace

from engine.evals.looks import Looks
from engine.flags.flag import LEVELS, Context, Flag
from engine.flags.forgetting import forgetting
from engine.flags.forgetting import hits as forgetting_hits
from engine.flags.instability import instability
from engine.flags.overfitting import memorised, overfitting
from engine.flags.progress import converged, dead, no_gradient
from engine.flags.template import template
from engine.recipe.fields import SAMPLES
from engine.recipe.sections import Recipe
from engine.training import checkpoint
from engine.training.job import Job
from engine.training.leaking import raise_leaks
from engine.training.optimiser import learning_rates

# The key of the recipe's section `flags` for each flag.
KINDS = {
    "overfitting": "overfitting",
    "overconfident": "overfitting",
    "memorised": "overfitting",
    "instability": "instability",
    "forgetting": "forgetting",
    "dead": "dead",
    "converged": "plateau",
    "endless": "template",
    "repeating": "template",
}


def raise_flags(job: Job) -> str | None:
    """Log flags that are new or got worse; return the reason if one is to stop the run."""
    reason, rates = None, learning_rates(job.recipe.train, job.plan.total_steps)
    for flag in standing_flags(job.looks, replace(context_of(job.recipe), rates=rates)):
        action = job.recipe.flags.action(KINDS[flag.flag])
        if action == "off":
            continue
        written = job.looks.level_of(flag.flag, flag.suite)
        if written is None or LEVELS.index(flag.level) > LEVELS.index(written):
            job.looks.add_flag(flag.flag, flag.suite, flag.level)
            job.report.flag(flag)
        if action == "stop" and (flag.level in ("warn", "critical") or flag.flag == "converged"):
            reason = f"stopped by the flag {flag.flag}"
    raise_leaks(job, last=reason is not None or job.step == job.plan.total_steps)
    return reason


def standing_flags(looks: Looks, context: Context) -> list[Flag]:
    """Return the flags that the detectors raise on the looks so far."""
    heldout, seen, general, samples = map(looks.history, ("heldout", "seen", "general", SAMPLES))
    first, losses, norms = looks.training()
    flags = [
        overfitting(heldout, seen, context) if heldout and seen else None,
        memorised(seen, context) if seen else None,
        forgetting(general, context, heldout, samples) if general else None,
        instability(losses, norms, first, context) if len(losses) else None,
        (no_gradient(norms, first + len(norms) - 1, context) if first == 1 else None)
        or (dead(seen, context) if seen else None),
        converged(heldout, context) if heldout else None,
        template(looks.answers, context.total_steps or 0),
    ]
    return [flag for flag in flags if flag]


def best_step(looks: Looks, recipe: Recipe) -> int | None:
    """Return the step whose weights are kept if a flag stops the run."""
    best = best_look(looks, recipe)
    return best[0] if best else None


def best_look(looks: Looks, recipe: Recipe) -> tuple[int, str] | None:
    """Return the evaluated step (above 0) with the lowest held-out loss (an estimate where a part of the suite was
    scored), and why it was chosen. Where forgetting is to stop the run: the best step without forgetting, or else the
    one with the lowest general loss.
    """
    heldout = looks.history("heldout")
    if heldout is None:
        return None
    candidates = range(1, len(heldout.steps))
    general, why = looks.history("general"), "it has the lowest held-out loss"
    if general and recipe.flags.forgetting.do == "stop":
        weighed = heldout if context_of(recipe).weighs else None
        forgetting_seen = forgetting_hits(general, recipe.flags.forgetting, weighed)["warn"]
        without_forgetting = [look for look in candidates if not forgetting_seen[look - 1]]
        if candidates and not without_forgetting:
            step = general.steps[min(candidates, key=general.loss)]
            return step, "it has the lowest general loss; forgetting was seen at every evaluation"
        if len(without_forgetting) < len(candidates):
            why += " among the steps without forgetting"
        candidates = without_forgetting  # type: ignore[assignment]
    return (heldout.steps[min(candidates, key=heldout.loss)], why) if candidates else None


def stop_at_best(job: Job, reason: str) -> str:
    """Load the weights of the best checkpoint into the model; return why the run ends, in one sentence."""
    reason = f"{reason} at step {job.step}"
    chosen = best_look(job.looks, job.recipe)
    if chosen is None:
        return reason
    step, why = chosen
    if step != job.step:
        checkpoint.load_weights(job.run.checkpoints / checkpoint.checkpoint_name(step), job.model)
    return f"{reason}; the weights of step {step} are kept: {why}"


def is_new_best(job: Job) -> bool:
    """Whether this step needs a checkpoint because a flag may return to it."""
    return (
        job.recipe.flags.may_stop and job.looks.has(job.step) and best_step(job.looks, job.recipe) == job.step
    )


def context_of(recipe: Recipe) -> Context:
    """Return what advice depends on."""
    assert recipe.train.lr is not None  # Recipe fills it in
    return Context(
        method=recipe.method.name,
        lr=recipe.train.lr,
        replay=recipe.data.replay.ratio if recipe.data.replay else 0.0,
        general=next(iter(recipe.general.values()), None),
        epochs=recipe.train.epochs if recipe.train.max_steps is None else 1.0,
        warmup=recipe.train.warmup or "5%",
        task=recipe.task.name,
        stops=recipe.flags.overfitting.do == "stop",
        flags=recipe.flags,
    )
