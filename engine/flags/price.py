"""What a run has paid in general text for what it has gained on the task.

The price of a slice is the rise of its loss since step 0, the gain is the fall of the held-out loss since step 0, both
paired by example and in nats per token. A price is out of proportion where it is above the soft margin and above
`per_gain` times the gain, or above the hard margin whatever was gained:

    price > min(critical, max(warn, per_gain · gain))

Each comparison is a test. Where both of two must hold, both have to be significant at the whole level (an
intersection-union test: R. Berger, "Multiparameter hypothesis testing and acceptance sampling", 1982). Either of two
suffices only between that and the hard margin: a run whose true price is exactly at the hard margin and exactly in
proportion has at most two chances of a false hit at a look; every other run has one.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from engine.basics.statistics import Estimate
from engine.flags.flag import Level
from engine.flags.history import History


@dataclass(frozen=True)
class Trade:
    """The price of a slice at a look and the gain there; `gain` is None where it is not known or is in other units."""

    price: Estimate
    gain: Estimate | None
    warn: float  # soft margin
    critical: float  # hard margin
    per_gain: float

    @property
    def margin(self) -> float:
        """Price from which on it is out of proportion, by the gain as estimated."""
        share = self.per_gain * self.gain.value if self.gain else 0.0
        return min(self.critical, max(self.warn, share))

    @property
    def paid_per_gain(self) -> float | None:
        """Nats paid per nat gained; None where nothing was gained."""
        return self.price.value / self.gain.value if self.gain and self.gain.value > 0 else None

    def p_values(self) -> dict[Level, float]:
        """p-values of the tests that the price is not above the soft margin (`info`), not out of proportion (`warn`),
        and not above the hard margin (`critical`); none is larger than the next.
        """
        soft, hard = self.price.p_above(self.warn), self.price.p_above(self.critical)
        return {"info": soft, "warn": min(hard, max(soft, self._p_above_share())), "critical": hard}

    def _p_above_share(self) -> float:
        """p-value of the test that the price is not above `per_gain` times the gain."""
        if self.gain is None or self.per_gain == 0:
            return 0.0
        share = self.per_gain
        se = float(np.hypot(self.price.se, share * self.gain.se))  # of different examples
        value, n = self.price.value - share * self.gain.value, min(self.price.n, self.gain.n)
        return Estimate(value, se, n, min(self.price.df, self.gain.df), self.price.skew).p_above(0.0)


def gain_at(heldout: History | None, step: int) -> Estimate | None:
    """Return the fall of the held-out loss from step 0 to a step, nats per token; None if it was not scored there."""
    if heldout is None or step not in heldout.steps or step == 0:
        return None
    return heldout.estimate(heldout.steps.index(step), 0).estimate.negative
