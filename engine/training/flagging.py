"""From the evaluations so far to flags, and to the step worth keeping if one of them stops the run."""

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
from engine.recipe.sections import Recipe
from engine.training import checkpoint
from engine.training.job import Job
from engine.training.leaking import raise_leaks
from engine.training.optimiser import learning_rates

# What the recipe calls the kind that a flag is of.
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
    """Write flags that are new or got worse; the reason if one is to stop the run."""
    reason, rates = None, learning_rates(job.recipe.train, job.plan.total_steps)
    for flag in standing_flags(job.looks, replace(context_of(job.recipe), rates=rates)):
        action = getattr(job.recipe.flags, KINDS[flag.flag])
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
    """What every detector says of the looks so far."""
    heldout, seen, general = (looks.history(name) for name in ("heldout", "seen", "general"))
    first, losses, norms = looks.training()
    found = [
        overfitting(heldout, seen, context) if heldout and seen else None,
        memorised(seen, context) if seen else None,
        forgetting(general, context) if general else None,
        instability(losses, norms, first, context) if len(losses) else None,
        (no_gradient(norms, first + len(norms) - 1, context) if first == 1 else None)
        or (dead(seen, context) if seen else None),
        converged(heldout, context) if heldout else None,
        template(looks.answers, context.total_steps or 0),
    ]
    return [flag for flag in found if flag]


def best_step(looks: Looks, recipe: Recipe) -> int | None:
    """The step whose weights a run keeps that a flag stops."""
    found = best_look(looks, recipe)
    return found[0] if found else None


def best_look(looks: Looks, recipe: Recipe) -> tuple[int, str] | None:
    """The evaluated step (above 0) with the lowest held-out loss, which of a look at a part of the suite is estimated;
    where forgetting is to stop the run, among those at which it had not been seen, or else that with the lowest general
    loss. And by which of these it was chosen.
    """
    heldout = looks.history("heldout")
    if heldout is None:
        return None
    candidates = range(1, len(heldout.steps))
    general, why = looks.history("general"), "it has the lowest held-out loss"
    if general and recipe.flags.forgetting == "stop":
        seen = forgetting_hits(general)["warn"]
        free = [look for look in candidates if not seen[look - 1]]
        if candidates and not free:
            least = general.steps[min(candidates, key=general.loss)]
            return least, "it has the lowest general loss; forgetting was seen at every evaluation"
        if len(free) < len(candidates):
            why += " among the steps without forgetting"
        candidates = free  # type: ignore[assignment]
    return (heldout.steps[min(candidates, key=heldout.loss)], why) if candidates else None


def stop_at_best(job: Job, reason: str) -> str:
    """Put the weights of the best checkpoint into the model; the whole reason why the run ends, in one sentence."""
    reason = f"{reason} at step {job.step}"
    found = best_look(job.looks, job.recipe)
    if found is None:
        return reason
    best, why = found
    if best != job.step:
        checkpoint.load_weights(job.run.checkpoints / checkpoint.checkpoint_name(best), job.model)
    return f"{reason}; the weights of step {best} are kept: {why}"


def is_new_best(job: Job) -> bool:
    """Whether this step must have a checkpoint because a flag may want to come back to it."""
    return (
        job.recipe.flags.may_stop and job.looks.has(job.step) and best_step(job.looks, job.recipe) == job.step
    )


def context_of(recipe: Recipe) -> Context:
    """What advice depends on."""
    assert recipe.train.lr is not None  # Recipe fills it in
    return Context(
        method=recipe.method.name,
        lr=recipe.train.lr,
        replay=recipe.data.replay.ratio if recipe.data.replay else 0.0,
        general=next(iter(recipe.general.values()), None),
        epochs=recipe.train.epochs if recipe.train.max_steps is None else 1.0,
        warmup=recipe.train.warmup or "5%",
        task=recipe.task.name,
        stops=recipe.flags.overfitting == "stop",
    )
