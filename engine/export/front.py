"""The front of gain against price: what a run's weights are worth at each factor between the base (0) and what was
trained (1), and which factor to take. Pure functions of numpy arrays.

Interpolating fine-tuned weights with those they came from (WiSE-FT, Wortsman et al. 2022, arXiv:2109.01903) often keeps
most of the task and gives back much of the rest. The factor is chosen on one half of the rows and confirmed on the
other, so that the figures that are told are not those that it was chosen by.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from engine.basics.statistics import Estimate, change, ratio
from engine.data.split import rank
from store.scale_lines import ScalePart, ScalePoint, Scaling

# Beyond 1 nothing was trained, and prices rise faster than gains.
GRID = tuple(step / 10 for step in range(11))
KEEP = 0.9  # of the best gain: what a factor keeps at least
ROOM = 0.8  # of the margin for forgetting: a price at the margin itself is above it in every second sample
CHOOSE, CONFIRM = "choose", "confirm"  # what a half of the rows is for
FEWEST = 4  # held-out rows: two a half, fewer have no interval


# By slice of the general text, "" for all of it: the rise of its loss that is warned of, nats per token.
Margins = Callable[[str], float]


@dataclass(frozen=True)
class Losses:
    """A suite's examples at one factor: `sums` float64 [examples] over `units` [examples] (tokens, or 1 a pair)."""

    sums: np.ndarray
    units: np.ndarray
    slices: tuple[str, ...] = ()

    @property
    def loss(self) -> Estimate:
        return ratio(self.sums, self.units)

    def since(self, other: Losses) -> Estimate:
        """Return how much higher the loss is than at another factor, paired by example."""
        return change(other.sums, self.sums, self.units)

    def only(self, name: str) -> Losses:
        """Return the examples of a slice."""
        chosen = np.array(self.slices) == name
        return Losses(self.sums[chosen], self.units[chosen])


@dataclass(frozen=True)
class Point:
    """One factor on one half of the rows. Losses in nats per token (of preference pairs: nats per pair), changes since
    factor 0, paired by example.
    """

    factor: float
    heldout: Estimate
    change: Estimate  # of the held-out loss; below 0: gained
    general: Estimate | None = None  # change of the loss on general text; None: there is none
    slices: tuple[tuple[str, Estimate], ...] = ()  # the same by slice, where there are several

    @property
    def gain(self) -> float:
        return -self.change.value

    @property
    def rises(self) -> dict[str, float]:
        """The rise of the loss on general text, as a whole ("") and by slice; empty without any."""
        return {name: part.value for name, part in (("", self.general), *self.slices) if part}

    @property
    def price(self) -> float:
        """The rise on general text, as a whole or in the slice that is hit worst; 0 without any."""
        return max(self.rises.values(), default=0.0)

    def room(self, margins: Margins) -> bool:
        """Whether every rise leaves room below its margin."""
        return all(rise <= ROOM * margins(name) for name, rise in self.rises.items())


@dataclass(frozen=True)
class Choice:
    """The factor to take, and why."""

    factor: float | None  # None: no factor is better than the base model
    best: float  # factor of the most gain
    within: bool  # whether its price leaves room below the margin
    why: str


@dataclass(frozen=True)
class Verdict:
    """The chosen factor on the half that it was not chosen on, beside what was trained (factor 1)."""

    factor: float
    kept: float  # share of the gain of factor 1; NaN where that gained nothing
    cost: Estimate  # held-out loss above that of factor 1, paired
    saved: Estimate | None  # general loss below that of factor 1, paired
    helps: bool
    message: str


@dataclass(frozen=True)
class Front:
    """What a run is worth at each factor, which one was chosen, and what the other half of the rows says of it."""

    run: int
    step: int
    unit: str  # of the held-out loss: `nats per token`, `nats per pair`
    margin: float
    points: list[Point]  # of the half that chose
    confirmed: list[Point]  # of the other: factor 0, the chosen one, 1
    rows: dict[str, tuple[int, int]]  # by suite: how many chose, and confirmed
    choice: Choice
    verdict: Verdict | None  # None: no factor was chosen

    @property
    def message(self) -> str:
        return self.verdict.message if self.verdict else self.choice.why

    @property
    def kept(self) -> float | None:
        """The share of the whole run's gain that stays; None if it gained nothing, or no factor was chosen."""
        return self.verdict.kept if self.verdict and np.isfinite(self.verdict.kept) else None

    @property
    def helps(self) -> bool:
        return self.verdict is not None and self.verdict.helps

    def as_dict(self) -> dict[str, Any]:
        points = [(CHOOSE, self.points), (CONFIRM, self.confirmed)]
        return {
            "run": self.run,
            "step": self.step,
            "unit": self.unit,
            "margin": self.margin,
            "rows": {name: {"choose": ours, "confirm": theirs} for name, (ours, theirs) in self.rows.items()},
            "points": [point_dict(one, half) for half, of_half in points for one in of_half],
            "factor": self.choice.factor,
            "why": self.choice.why,
            "best": self.choice.best,
            "within": self.choice.within,
            "kept": self.kept,
            "helps": self.helps,
            "message": self.message,
        }

    @property
    def line(self) -> Scaling:
        """The same for the run's log."""
        points = [
            ScalePoint(
                factor=one.factor,
                half=half,
                heldout=one.heldout.value,
                change=_part("", one.change),
                general=[_part(name, part) for name, part in (("", one.general), *one.slices) if part],
            )
            for half, of_half in ((CHOOSE, self.points), (CONFIRM, self.confirmed))
            for one in of_half
        ]
        return Scaling(self.step, self.choice.factor, self.helps, self.kept, self.message, points)


def point(
    factor: float, heldout: Losses, base: Losses, general: Losses | None, of_base: Losses | None
) -> Point:
    """Compare the losses at a factor with those at factor 0, of the same examples."""
    if general is None or of_base is None:
        return Point(factor, heldout.loss, heldout.since(base))
    names = sorted(set(general.slices))
    parts = [(name, general.only(name).since(of_base.only(name))) for name in names if len(names) > 1]
    return Point(factor, heldout.loss, heldout.since(base), general.since(of_base), tuple(parts))


def halves(ids: Sequence[str], slices: Sequence[str] = ()) -> tuple[np.ndarray, np.ndarray]:
    """Return two sets of indices, each half of every slice, by content hash."""
    of = slices or [""] * len(ids)
    order = sorted(range(len(ids)), key=lambda at: (of[at], rank(ids[at], "scale"), ids[at]))
    return np.array(sorted(order[::2])), np.array(sorted(order[1::2]))


def choose(points: Sequence[Point], margins: Margins) -> Choice:
    """Choose among the points of one half.

    Of the factors that keep `KEEP` of the best gain and leave room below the margin, the one with the most gain less
    price; where none leaves room, the one with the most gain of those that do and keep `KEEP` of what the whole run
    gained, which may be far from the best; else the cheapest that keeps `KEEP` of the best gain.
    """
    best = max(points, key=lambda point: point.gain)
    if best.gain <= 0:
        return Choice(
            None, best.factor, False, "no factor does better on the held-out rows than the base model"
        )
    keeping = [point for point in points if point.gain >= KEEP * best.gain]
    cheap = [point for point in keeping if point.room(margins)]
    if cheap:
        chosen = max(cheap, key=lambda point: point.gain - point.price)
        why = "the most gain less price, with room below the margin for forgetting"
        return Choice(chosen.factor, best.factor, True, why)
    affordable = [point for point in points if point.gain > 0 and point.room(margins)]
    whole = max(points, key=lambda point: point.factor)
    enough = [point for point in affordable if point.gain >= KEEP * whole.gain]
    if enough:
        chosen = max(enough, key=lambda point: point.gain)
        why = (
            "the most gain with room below the margin for forgetting, and no less than the whole run's; "
            f"{best.factor:g} gains more ({chosen.gain / best.gain:.0%} of that is kept), at a price beyond the margin"
        )
        return Choice(chosen.factor, best.factor, True, why)
    chosen = min(keeping, key=lambda point: point.price)
    why = f"the cheapest that keeps {KEEP:.0%} of the best gain; none of these has room below the margin for forgetting"
    if affordable:
        most = max(affordable, key=lambda point: point.gain)
        why += f" ({most.factor:g} does, and keeps {most.gain / best.gain:.0%})"
    return Choice(chosen.factor, best.factor, False, why)


def confirm(
    factor: float,
    heldout: tuple[Losses, Losses, Losses],
    general: tuple[Losses, Losses, Losses] | None,
) -> Verdict:
    """Judge a factor on the other half; losses at factor 0, at the factor, and at 1.

    It helps if it keeps `KEEP` of the gain, and either text is given back or the task gains, beyond noise (one-sided
    5%).
    """
    base, here, whole = heldout
    cost = here.since(whole)
    gain, gain_here = base.loss.value - whole.loss.value, base.loss.value - here.loss.value
    kept = gain_here / gain if gain > 0 else float("nan")
    saved = general[2].since(general[1]) if general else None
    better = whole.since(here).p_above(0.0) < 0.05
    cheaper = saved is not None and saved.p_above(0.0) < 0.05
    keeps = kept >= KEEP if gain > 0 else gain_here > 0
    message = _message(factor, kept, gain_here, gain, cost, general)
    return Verdict(factor, kept, cost, saved, factor < 1 and keeps and (better or cheaper), message)


def _message(
    factor: float,
    kept: float,
    here: float,
    whole: float,
    cost: Estimate,
    general: tuple[Losses, Losses, Losses] | None,
) -> str:
    lo, hi = cost.interval()
    if factor == 1:
        return "all that was trained is the best choice: no smaller factor keeps as much of the gain for less"
    share = f"{kept:.0%} of the gain stays" if np.isfinite(kept) else "the whole run gained nothing"
    sentence = (
        f"at {factor:g} the held-out loss falls by {here:.3f} instead of {whole:.3f} ({share}; it is {cost.value:+.3f} "
        f"above that of the whole run, 95% interval {lo:+.3f} to {hi:+.3f})"
    )
    if general is None:
        return f"{sentence}; there is no general text to see the price on"
    before, now, full = general
    lo, hi = full.since(now).interval()
    return (
        f"{sentence}; general text is {now.since(before).value:+.3f} from the base instead of "
        f"{full.since(before).value:+.3f} ({full.since(now).value:.3f} given back, {lo:.3f} to {hi:.3f})"
    )


def point_dict(point: Point, half: str) -> dict[str, Any]:
    """Return a point for JSON and the log: `half` is `choose` or `confirm`."""
    slices = {name: _interval(part) for name, part in point.slices}
    general = _interval(point.general) if point.general else None
    return {
        "half": half,
        "factor": point.factor,
        "heldout": point.heldout.value,
        "change": _interval(point.change),
        "general": general,
        "slices": slices,
        "price": point.price,
    }


def _interval(estimate: Estimate) -> dict[str, Any]:
    lo, hi = (float(end) if np.isfinite(end) else None for end in estimate.interval())
    return {"value": estimate.value, "lo": lo, "hi": hi, "n": estimate.n}


def _part(name: str, estimate: Estimate) -> ScalePart:
    return ScalePart(name, **_interval(estimate))
