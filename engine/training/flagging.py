"""From the evaluations so far to flags, and to the step worth keeping if one of them stops the run."""

from __future__ import annotations

from engine.evals.looks import Looks
from engine.flags.flag import LEVELS, Context, Flag
from engine.flags.forgetting import forgetting
from engine.flags.forgetting import hits as forgetting_hits
from engine.flags.overfitting import overfitting
from engine.recipe import Recipe
from engine.training import checkpoint
from engine.training.job import Job


def raise_flags(job: Job) -> str | None:
    """Write flags that are new or got worse; the reason if one is to stop the run."""
    reason = None
    for flag, action in _standing_flags(job):
        written = job.looks.raised.get(flag.flag)
        if written is None or LEVELS.index(flag.level) > LEVELS.index(written):
            job.looks.raised[flag.flag] = flag.level
            job.report.flag(flag)
        if action == "stop" and flag.level in ("warn", "critical"):
            reason = f"stopped by the flag {flag.flag}: {flag.message}"
    return reason


def _standing_flags(job: Job) -> list[tuple[Flag, str]]:
    """Flags that stand at this evaluation, with what the recipe wants done."""
    context, wanted = context_of(job.recipe), job.recipe.flags
    heldout, seen, general = (job.looks.history(name) for name in ("heldout", "seen", "general"))
    flags: list[tuple[Flag | None, str]] = []
    if heldout and seen and wanted.overfitting != "off":
        flags.append((overfitting(heldout, seen, context), wanted.overfitting))
    if general and wanted.forgetting != "off":
        flags.append((forgetting(general, context), wanted.forgetting))
    # Leading signs come and go; they are not written.
    return [(flag, action) for flag, action in flags if flag and flag.level != "watch"]


def best_step(looks: Looks, recipe: Recipe) -> int | None:
    """The evaluated step (above 0) with the lowest held-out loss; where forgetting is to stop the run, among
    those at which it had not been seen.
    """
    heldout = looks.history("heldout")
    if heldout is None:
        return None
    candidates = range(1, len(heldout.steps))
    general = looks.history("general")
    if general and recipe.flags.forgetting == "stop":
        seen = forgetting_hits(general)["warn"]
        candidates = [look for look in candidates if not seen[look - 1]]  # type: ignore[assignment]
    return heldout.steps[min(candidates, key=heldout.loss)] if candidates else None


def go_back_to_best(job: Job) -> None:
    """Put the weights of the best checkpoint into the model, if there is a better one than the last."""
    best = best_step(job.looks, job.recipe)
    if best is None or best == job.step:
        return
    checkpoint.load_weights(job.run.checkpoints / checkpoint.checkpoint_name(best), job.model)
    job.report.log("info", f"the weights of step {best} are kept: they had the best held-out loss")


def is_new_best(job: Job) -> bool:
    """Whether this step must have a checkpoint because a flag may want to come back to it."""
    return may_stop(job.recipe) and job.looks.has(job.step) and best_step(job.looks, job.recipe) == job.step


def may_stop(recipe: Recipe) -> bool:
    return "stop" in (recipe.flags.overfitting, recipe.flags.forgetting)


def context_of(recipe: Recipe) -> Context:
    assert recipe.train.lr is not None  # Recipe fills it in
    return Context(
        method=recipe.method.name,
        lr=recipe.train.lr,
        replay=recipe.data.replay.ratio if recipe.data.replay else 0.0,
        general=recipe.evals.general,
        epochs=recipe.train.epochs if recipe.train.max_steps is None else 1.0,
        warmup=recipe.train.warmup or "5%",
    )
