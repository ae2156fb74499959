"""Instability: training losses or gradients that jump far out of what the steps before them were like.

The scale is robust (median and median absolute deviation of the last steps), so that a spike does not hide the next
one. It knows nothing of mixtures, though: where one row in twenty is hard, and the others are all alike, every hard one
is many deviations away. So a step has only jumped if it is beyond what the earlier steps had shown, or if there are
more such steps among the latest than their share so far makes likely. One spike that passes is information; spikes that
stay are a warning; a loss above where it began is critical. A warning stands for as long as the loss has not come back.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from scipy.special import bdtrc

from engine.flags import actions
from engine.flags.flag import Flag, Level
from engine.flags.history import Context
from store.best import judged_by

WINDOW, FEWEST = 50, 20  # steps before, that a step is compared with
MEMORY, BEYOND = 1000, 1.25  # steps before, that show what is usual; times the largest of them
SPIKE, LEAST = 8.0, 0.2  # robust standard deviations, and nats per token, above the median
EXPLODED = 10.0  # times the median gradient norm
LATEST, HITS = 5, 2  # a warning needs this many hits among the latest steps
# The chance, in a mixture, that so many of the latest steps are the largest of all; and that so many are outliers.
BY_CHANCE, UNLIKELY = 0.004, 0.001
_MAD_TO_SD = 1.4826  # of a normal distribution


@dataclass(frozen=True)
class Jump:
    """For each step, float64 [steps]: level and scale of the steps before, and whether it jumped. NaN: too early."""

    level: np.ndarray
    scale: np.ndarray
    hit: np.ndarray  # bool


def instability(
    losses: np.ndarray,
    norms: np.ndarray,
    first_step: int,
    context: Context,
    since_step: int | None = None,
    every: int = 1,
) -> Flag | None:
    """Return the flag as it stands at the last step. `losses` (nats per token) and `norms` (of the gradient, before
    clipping) are float [steps]; the first is of optimiser step `first_step`, and each later one of `every` steps after
    the one before, where another trainer logs some steps only. `since_step`: of a warning that stands; it is shown
    until the loss is back where it was before that step.
    """
    loss, norm = loss_jumps(losses), norm_jumps(norms)
    either = loss.hit | norm.hit
    latest = either[-LATEST:]
    if not latest.any():
        return _not_recovered(losses, first_step, context, since_step, every)
    level = _level(losses, latest)
    since = len(either) - LATEST + int(np.argmax(latest)) if len(either) > LATEST else int(np.argmax(either))
    since = first_step + every * since
    at = len(losses) - 1 - int(np.argmax(latest[::-1]))  # the latest hit
    effect, spread = losses[at] - loss.level[at], 2 * loss.scale[at]
    return Flag(
        flag="instability",
        level=level,
        step=first_step + every * (len(losses) - 1),
        since_step=min(since, since_step or since),
        suite="train",
        effect=float(effect),
        lo=float(effect - spread),
        hi=float(effect + spread),
        n=int(min(WINDOW, at)),
        looks=len(losses),
        message=_message(
            losses, norms, loss, norm, at, first_step + every * at, level, judged_by(context.task).unit
        ),
        actions=actions.instability(context),
        per=judged_by(context.task).per,
    )


def loss_jumps(losses: np.ndarray) -> Jump:
    """Find the latest steps whose loss is far above that of the steps before, and beyond what these had shown; float
    [steps].
    """

    def outlying(level: np.ndarray, scale: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        rise = losses - level
        return (rise > SPIKE * scale) & (rise > LEAST), rise

    return _jumps(losses, outlying)


def norm_jumps(norms: np.ndarray) -> Jump:
    """Find the latest steps whose gradient norm is a multiple of that of the steps before, and beyond what these had
    shown; float [steps].
    """

    def outlying(level: np.ndarray, scale: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        return norms > EXPLODED * level, np.where(level > 0, norms / level, np.nan)

    return _jumps(norms, outlying)


Outlying = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]


def _jumps(values: np.ndarray, outlying: Outlying) -> Jump:
    """`outlying` gives which steps are outliers, and how far out each is, from level and scale before them. What the
    earlier steps had shown is only looked at where there is something to compare with it.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        level, scale = _before(values, LATEST)
        if not outlying(level, scale)[0].any():
            return Jump(level, scale, np.zeros(len(values), dtype=bool))
        level, scale = _before(values, MEMORY)
        return Jump(level, scale, _unusual(*outlying(level, scale)))


def back_to_normal(
    losses: np.ndarray, norms: np.ndarray, first_step: int, since_step: int, every: int = 1
) -> str:
    """Return in a sentence where the training loss stands, after jumps from `since_step` on that have passed."""
    at = (since_step - first_step) // every
    if not 0 < at < len(losses):
        return f"No step has jumped since step {since_step}."
    now, before = float(np.median(losses[-LATEST:])), _before_step(losses, at)[0]
    return (
        f"None of the last {LATEST} steps jumped, and the training loss is {now:.3f} (it was {before:.3f} before "
        f"step {since_step})."
    )


def _unusual(outlying: np.ndarray, size: np.ndarray) -> np.ndarray:
    """Return which of the latest steps jumped, bool [steps]: those outliers that are clearly larger than all that came
    before the latest steps; or all of them, if so many are unlikely at the share of outliers so far.

    Of steps in random order, the chance that the c largest of m + 5 are all among the last 5 is 5/(m + 5) · 4/(m + 4) ·
    … (c factors). Where that is likely, because few steps came before, one jump is shown, which is no warning.
    """
    hit = np.zeros(len(outlying), dtype=bool)
    latest = slice(max(0, len(outlying) - LATEST), len(outlying))
    earlier = size[: latest.start]
    known = int((~np.isnan(earlier)).sum())
    largest = max(0.0, float(np.nanmax(earlier))) if known else 0.0
    with np.errstate(invalid="ignore"):
        hit[latest] = outlying[latest] & (size[latest] > BEYOND * largest)
    beyond = np.arange(int(hit.sum()))
    if len(beyond) >= HITS and np.prod((LATEST - beyond) / (known + LATEST - beyond)) > BY_CHANCE:
        hit[:] = np.arange(len(hit)) == latest.start + int(np.nanargmax(size[latest]))
    count = int(outlying[latest].sum())
    share = (int(outlying[: latest.start].sum()) + 1) / (known + 2)
    if count >= HITS and bdtrc(count - 1, LATEST, share) < UNLIKELY:
        hit[latest] = outlying[latest]
    return hit


def _before(values: np.ndarray, last: int) -> tuple[np.ndarray, np.ndarray]:
    """Return the median and robust standard deviation of up to WINDOW steps before each of the `last` ones; NaN for
    the others, and for the first steps.
    """
    n = len(values)
    level, scale = np.full(n, np.nan), np.full(n, np.nan)
    start = max(FEWEST, n - last)
    if start >= n:
        return level, scale
    for step in range(start, min(n, WINDOW)):
        level[step : step + 1], scale[step : step + 1] = _robust(values[None, :step])
    if n > WINDOW:
        start = max(start, WINDOW)
        windows = np.lib.stride_tricks.sliding_window_view(values, WINDOW)[start - WINDOW : n - WINDOW]
        level[start:], scale[start:] = _robust(windows)
    return level, scale


def _robust(windows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return median and robust standard deviation of each row; float [rows, steps] to float [rows]."""
    level = np.median(windows, axis=1)
    return level, _MAD_TO_SD * np.median(np.abs(windows - level[:, None]), axis=1)


def _before_step(losses: np.ndarray, at: int) -> tuple[float, float]:
    """Return the median loss of up to WINDOW steps before a step, and their robust standard deviation; `losses` is
    float [steps] without NaN.
    """
    level, scale = _robust(losses[None, max(0, at - WINDOW) : at])
    return float(level[0]), float(scale[0])


def _not_recovered(
    losses: np.ndarray, first_step: int, context: Context, since_step: int | None, every: int
) -> Flag | None:
    """Return the warning that stands, if the loss is still above where it was before the jumps."""
    at = -1 if since_step is None else (since_step - first_step) // every
    if since_step is None or not 0 < at < len(losses):
        return None
    latest, before = losses[-2 * LATEST :], min(WINDOW, at)
    level, spread = _before_step(losses, at)
    rise = float(np.median(latest)) - level
    if not rise > max(LEAST, 2 * spread):
        return None
    return Flag(
        flag="instability",
        level=_level(losses, np.ones(HITS, dtype=bool)),
        step=first_step + every * (len(losses) - 1),
        since_step=since_step,
        suite="train",
        effect=rise,
        lo=rise - 2 * spread,
        hi=rise + 2 * spread,
        n=before,
        looks=len(losses),
        message=(
            f"The training loss has not come back since it jumped at step {since_step}: {level + rise:.3f} "
            f"{judged_by(context.task).unit} over the last {len(latest)} steps, {level:.3f} over the {before} "
            "before it."
        ),
        actions=actions.instability(context),
        per=judged_by(context.task).per,
    )


def _level(losses: np.ndarray, latest: np.ndarray) -> Level:
    if latest.sum() < HITS:
        return "info"
    return "critical" if np.median(losses[-LATEST:]) > np.median(losses[:LATEST]) + LEAST else "warn"


def _message(
    losses: np.ndarray,
    norms: np.ndarray,
    loss: Jump,
    norm: Jump,
    at: int,
    step: int,
    level: Level,
    unit: str,
) -> str:
    parts = []
    if loss.hit[at]:
        parts.append(f"the training loss jumped to {losses[at]:.3f} from {loss.level[at]:.3f} {unit}")
    if norm.hit[at]:
        parts.append(f"the gradient norm jumped to {norms[at]:.3g} from {norm.level[at]:.3g}")
    sentence = " and ".join(parts)
    compared = f"against the median of the {min(WINDOW, at)} steps before"
    end = {
        "info": "It has recovered or may still recover.",
        "warn": f"{int((loss.hit | norm.hit)[-LATEST:].sum())} of the last {LATEST} steps jumped.",
        "critical": "The loss is above where training began: what was learned is lost.",
    }
    return f"{sentence[0].upper()}{sentence[1:]} at step {step} ({compared}). {end[level]}"
