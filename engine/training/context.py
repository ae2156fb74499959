"""What advice and detectors depend on, from a recipe."""

from __future__ import annotations

from engine.flags.history import Context
from engine.recipe.sections import Recipe
from engine.recipe.tasks import Dpo


def context_of(recipe: Recipe) -> Context:
    """Return what advice depends on."""
    assert recipe.train.lr is not None  # Recipe fills it in
    return Context(
        method=recipe.method.name,
        lr=recipe.train.lr,
        replay=recipe.data.replay.ratio if recipe.data.replay else 0.0,
        epochs=recipe.train.epochs if recipe.train.max_steps is None else 1.0,
        warmup=recipe.train.warmup or "5%",
        task=recipe.task.name,
        beta=recipe.task.beta if isinstance(recipe.task, Dpo) else 0.0,
        label_smoothing=recipe.task.label_smoothing if isinstance(recipe.task, Dpo) else 0.0,
        stops=recipe.flags.overfitting.do == "stop",
        flags=recipe.flags,
    )
