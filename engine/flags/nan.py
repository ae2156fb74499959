"""A loss or a gradient that is no longer a number: nothing after it can be trusted."""

from __future__ import annotations

import math

from engine.flags import actions
from engine.flags.flag import Flag
from engine.flags.history import Context


def nan(
    step: int, loss: float, grad_norm: float, context: Context, outcome: str = "the run cannot continue"
) -> Flag | None:
    """Return the flag if the loss or the gradient norm of optimiser step `step` is infinite or not a number."""
    if math.isfinite(loss) and math.isfinite(grad_norm):
        return None
    what = f"loss is {loss}" if not math.isfinite(loss) else f"gradient norm is {grad_norm}"
    return Flag(
        flag="nan",
        level="critical",
        step=step,
        since_step=step,
        suite="train",
        effect=math.nan,
        lo=math.nan,
        hi=math.nan,
        n=0,
        looks=step,
        message=f"The training {what} at step {step}; {outcome}.",
        actions=actions.not_a_number(context),
    )
