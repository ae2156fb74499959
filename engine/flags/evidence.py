"""All that a run has shown so far: what the detectors read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from engine.flags.history import History
from engine.flags.template import Answers


@dataclass(frozen=True)
class Evidence:
    """Histories of the suites (None: not measured), answers, and the training steps from `first_step` on."""

    heldout: History | None  # by what the task is judged by, as `seen` is
    seen: History | None
    general: History | None
    samples: History | None  # what the base model wrote itself
    pairs: History | None  # of preferences: the held-out pairs with the likelihood of their chosen answers
    answers: Sequence[Answers]
    first_step: int
    losses: np.ndarray  # float64 [steps]
    norms: np.ndarray  # float64 [steps], of the gradient before clipping
