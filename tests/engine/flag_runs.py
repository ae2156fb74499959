"""Runs whose truth is known: losses per example that fall, turn or drift as told, with noise."""

from __future__ import annotations

import numpy as np

from engine.flags.history import Context, History

CONTEXT = Context("full", 3e-4, 0.0)
LOOKS = 11  # step 0 and ten evaluations


def history(means, rng, suite="heldout", n=100, noise=0.1, between=1.0, every=10) -> History:
    """Losses per token around `means` [looks]: examples differ by `between`, and wander by `noise` a look."""
    tokens = rng.integers(8, 60, n)
    level = 2 + between * rng.standard_normal(n).clip(-1.5, 1.5)
    wander = np.cumsum(noise * rng.standard_normal((len(means), n)), axis=0)
    per_token = level + np.asarray(means)[:, None] + wander - wander[:1]
    steps = tuple(every * look for look in range(len(means)))
    ids = tuple(f"{rng.integers(2**40):x}" for _ in range(n))
    return History(suite, steps, ids, per_token * tokens, tokens)


def ever(detect, *histories: History) -> list:
    """Every flag (level `watch` apart) that a run would have seen, look by look."""
    looks = range(1, len(histories[0].steps))
    found = [detect(*(h.until(look) for h in histories), CONTEXT) for look in looks]
    return [flag for flag in found if flag and flag.level != "watch"]


def falling(to=-1.0):
    return np.linspace(0, to, LOOKS)


def turning(rise=0.5):
    """Down to a best at look 4, then up."""
    return np.concatenate([np.linspace(0, -1, 5), np.linspace(-1, -1 + rise, LOOKS - 4)[1:]])


def jumping(to):
    """At the base's level at step 0, at `to` at every look."""
    return np.minimum(1, np.arange(LOOKS)) * to
