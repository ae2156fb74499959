"""Instability: training losses or gradients that jump far out of what the steps before them were like.

The scale is robust (median and median absolute deviation of the last steps), so that a spike does not hide the next
one. One spike that passes is information; spikes that stay are a warning; a loss above where it began is critical.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from engine.flags import actions
from engine.flags.flag import Context, Flag, Level

WINDOW, FEWEST = 50, 20  # steps before, that a step is compared with
SPIKE, LEAST = 8.0, 0.2  # robust standard deviations, and nats per token, above the median
EXPLODED = 10.0  # times the median gradient norm
LATEST, HITS = 5, 2  # a warning needs this many hits among the latest steps
_MAD_TO_SD = 1.4826  # of a normal distribution


@dataclass(frozen=True)
class Jump:
    """For each step, float64 [steps]: level and scale of the steps before, and whether it jumped. NaN: too early."""

    level: np.ndarray
    scale: np.ndarray
    hit: np.ndarray  # bool


def instability(losses: np.ndarray, norms: np.ndarray, first_step: int, context: Context) -> Flag | None:
    """Return the flag as it stands at the last step. `losses` (nats per token) and `norms` (of the gradient, before
    clipping) are float [steps]; the first is of optimiser step `first_step`.
    """
    loss, norm = loss_jumps(losses, LATEST), norm_jumps(norms, LATEST)
    either = loss.hit | norm.hit
    latest = either[-LATEST:]
    if not latest.any():
        return None
    level = _level(losses, latest)
    since = len(either) - LATEST + int(np.argmax(latest)) if len(either) > LATEST else int(np.argmax(either))
    at = len(losses) - 1 - int(np.argmax(latest[::-1]))  # the latest hit
    effect, spread = losses[at] - loss.level[at], 2 * loss.scale[at]
    return Flag(
        flag="instability",
        level=level,
        step=first_step + len(losses) - 1,
        since_step=first_step + since,
        suite="train",
        effect=float(effect),
        lo=float(effect - spread),
        hi=float(effect + spread),
        n=int(min(WINDOW, at)),
        looks=len(losses),
        message=_message(losses, norms, loss, norm, at, first_step, level),
        actions=actions.instability(context),
    )


def loss_jumps(losses: np.ndarray, last: int | None = None) -> Jump:
    """Find steps whose loss is far above that of the steps before; float [steps]. Only the `last` ones are tested."""
    level, scale = _before(losses, last)
    rise = losses - level
    with np.errstate(invalid="ignore"):
        return Jump(level, scale, (rise > SPIKE * scale) & (rise > LEAST))


def norm_jumps(norms: np.ndarray, last: int | None = None) -> Jump:
    """Find steps whose gradient norm is a multiple of that of the steps before; float [steps]. Only the `last` ones are
    tested.
    """
    level, scale = _before(norms, last)
    with np.errstate(invalid="ignore"):
        return Jump(level, scale, norms > EXPLODED * level)


def _before(values: np.ndarray, last: int | None) -> tuple[np.ndarray, np.ndarray]:
    """Return the median and robust standard deviation of the steps before each one (NaN but for the `last` ones)."""
    level, scale = np.full(len(values), np.nan), np.full(len(values), np.nan)
    for step in range(max(FEWEST, len(values) - (last or len(values))), len(values)):
        window = values[max(0, step - WINDOW) : step]
        level[step] = np.median(window)
        scale[step] = _MAD_TO_SD * np.median(np.abs(window - level[step]))
    return level, scale


def _level(losses: np.ndarray, latest: np.ndarray) -> Level:
    if latest.sum() < HITS:
        return "info"
    return "critical" if np.median(losses[-LATEST:]) > np.median(losses[:LATEST]) + LEAST else "warn"


def _message(
    losses: np.ndarray, norms: np.ndarray, loss: Jump, norm: Jump, at: int, first_step: int, level: Level
) -> str:
    parts = []
    if loss.hit[at]:
        parts.append(f"the training loss jumped to {losses[at]:.3f} from {loss.level[at]:.3f} nats per token")
    if norm.hit[at]:
        parts.append(f"the gradient norm jumped to {norms[at]:.3g} from {norm.level[at]:.3g}")
    sentence = " and ".join(parts)
    compared = f"against the median of the {min(WINDOW, at)} steps before"
    end = {
        "info": "It has recovered or may still recover.",
        "warn": f"{int((loss.hit | norm.hit)[-LATEST:].sum())} of the last {LATEST} steps jumped.",
        "critical": "The loss is above where training began: what was learned is lost.",
    }
    return f"{sentence[0].upper()}{sentence[1:]} at step {first_step + at} ({compared}). {end[level]}"
