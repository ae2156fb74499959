"""Overfitting: the held-out loss has turned up beyond noise since its best evaluation.

The best of many evaluations is partly luck, so any later one seems worse. So the held-out examples are split in two
halves: the best step is chosen on one and the rise since then is measured on the other, both ways round.
The loss on training examples shows the cause: it still falls (overfitting) or rises too (instability).

Harm is another question. An overconfident model loses likelihood but answers no worse; dividing the logits by a
temperature corrects that (C. Guo et al., "On calibration of modern neural networks", 2017). Where it removes most of
the rise and the task's measure is not worse, the flag is information: `overconfident`.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from engine.basics.statistics import Estimate, change, ratio
from engine.flags import actions
from engine.flags.flag import Context, Flag, History, Level, losses, worst_examples
from engine.flags.multiplicity import HITS_IN_A_ROW, level_at, standing, streak
from engine.recipe.margins import OnRise

DEFAULT = OnRise(do="warn")
# Nats per token, where no recipe says otherwise.
MARGINS: dict[Level, float] = {"warn": DEFAULT.warn, "critical": DEFAULT.critical}
FEWEST = 4  # examples in a half
REMOVED = 0.7  # of the rise: from here on temperature explains it
WORSE = 0.02  # of the task's measure: a larger drop than this is one, however unsure
SURE = 0.05  # one-sided, that the measure dropped or that the seen loss rose
SATURATED = 0.99  # of the tokens of training examples right


@dataclass(frozen=True)
class Rise:
    """The rise since the best look, `best` chosen without the example that it is used for."""

    estimate: Estimate
    scored: np.ndarray  # bool [examples], at both looks
    best: np.ndarray  # int64 [examples], a look
    before: np.ndarray  # float64 [examples], nll at that look; estimated for those that only this look scored


@dataclass(frozen=True)
class Harm:
    """What is left of a rise once the temperature is right, and the task's measure since the best look."""

    temperature: float
    removed: float  # share of the rise
    metric: Estimate | None  # change

    @property
    def none(self) -> bool:
        """Overconfident, not worse."""
        if self.removed < REMOVED or self.metric is None:
            return False
        dropped = Estimate(-self.metric.value, self.metric.se, self.metric.n)
        return dropped.value <= WORSE and dropped.p_above(0.0) >= SURE


def hits(heldout: History, *, margins: OnRise = DEFAULT) -> dict[Level, list[bool]]:
    """Return at which looks (from 1) the loss had risen beyond each margin since its best."""
    by_level: dict[Level, float] = {"warn": margins.warn, "critical": margins.critical}
    looks = [(level_at(look), rise_at(heldout, look)) for look in range(1, len(heldout.steps))]
    return {
        level: [rise is not None and rise.estimate.p_above(margin) < alpha for alpha, rise in looks]
        for level, margin in by_level.items()
    }


def overfitting(heldout: History, seen: History, context: Context) -> Flag | None:
    """Return the flag as it stands at the last look (`overfitting`, `instability` or `overconfident`), or None.

    `seen` has the same evaluations as `heldout`.
    """
    by_level = hits(heldout, margins=context.flags.overfitting)
    rise = rise_at(heldout, heldout.looks) if heldout.looks else None
    level = standing(by_level) or ("watch" if by_level["warn"] and by_level["warn"][-1] else None)
    if level is None or rise is None:
        return None
    best = int(np.median(rise.best[rise.scored]))
    since_best = _seen_change(seen, best)
    overfitted = since_best.value <= 0 or since_best.p_above(0.0) >= SURE
    harm = harm_of(heldout, rise)
    harmless = overfitted and harm is not None and harm.none and level != "watch"
    name = "overconfident" if harmless else "overfitting" if overfitted else "instability"
    lo, hi = rise.estimate.interval()
    return Flag(
        flag=name,
        level="info" if harmless else level,
        step=heldout.steps[-1],
        since_step=heldout.steps[len(heldout.steps) - max(1, streak(by_level["warn"]))],
        suite=heldout.suite,
        effect=rise.estimate.value,
        lo=lo,
        hi=hi,
        n=rise.estimate.n,
        looks=heldout.looks,
        message=" ".join(_message(heldout, seen, rise, best, overfitted, harm, level)),
        actions=_actions(name, heldout.steps[best], context),
        worst=worst_examples(heldout, np.where(rise.scored, rise.before, np.nan)),
        per=heldout.per,
    )


def memorised(seen: History, context: Context) -> Flag | None:
    """Return information if the training examples are memorised, at two looks in a row."""
    if seen.right is None or seen.looks < HITS_IN_A_ROW:
        return None
    accuracy = []
    for look in range(len(seen.steps)):
        scored = seen.scored(look)
        accuracy.append(ratio(seen.right[look][scored], seen.tokens[scored]))
    known = [estimate.value >= SATURATED for estimate in accuracy]
    if streak(known) < HITS_IN_A_ROW:
        return None
    now, since = accuracy[-1], seen.steps[len(known) - streak(known)]
    lo, hi = now.interval()
    return Flag(
        flag="memorised",
        level="info",
        step=seen.steps[-1],
        since_step=since,
        suite=seen.suite,
        effect=now.value,
        lo=lo,
        hi=min(1.0, hi),
        n=now.n,
        looks=seen.looks,
        message=(
            f"Since step {since}, {now.value:.1%} of the tokens of {now.n} training examples are right: they are "
            "memorised, and more passes over them teach nothing."
        ),
        actions=actions.memorised(context),
    )


def rise_at(history: History, look: int) -> Rise | None:
    """Estimate the rise from the best look to this one; None if this is the best or there are too few examples."""
    scored, everywhere = history.scored(0, look), half_of(history.ids)
    halves, tokens, nll = everywhere[scored], history.tokens[scored], history.nll[: look + 1, scored]
    if min(halves.sum(), (~halves).sum()) < FEWEST:
        return None
    best_of = {half: _best(nll[:, halves == half], tokens[halves == half]) for half in (True, False)}
    if look in best_of.values():
        return None
    before, rest = np.empty(len(tokens)), 0.0
    for half in (True, False):
        in_half = halves == half
        before[in_half], error = _filled(nll[:, in_half], tokens[in_half], best_of[not half])
        rest = float(np.hypot(rest, error * tokens[in_half].sum() / tokens.sum()))
    best = np.where(everywhere, best_of[False], best_of[True])
    both = scored & ~np.isnan(history.nll[best, np.arange(len(best))])
    known = both[scored]
    own = change(before[known], nll[-1][known], tokens[known]).se * float(np.sqrt(known.mean()))
    value = change(before, nll[-1], tokens).value
    filled = np.full(len(best), np.nan)
    filled[scored] = before
    return Rise(Estimate(value, float(np.hypot(own, rest)), len(tokens)), both, best, filled)


def _best(nll: np.ndarray, tokens: np.ndarray) -> int:
    """Return the look at which the loss of these examples was lowest; `nll` [looks, examples], the last one whole."""
    loss_by_look = losses(nll, tokens)
    loss_by_look[(~np.isnan(nll)).sum(axis=1) < FEWEST] = np.inf
    return int(np.argmin(loss_by_look)) if loss_by_look.min() < loss_by_look[-1] else len(nll) - 1


def _filled(nll: np.ndarray, tokens: np.ndarray, best: int) -> tuple[np.ndarray, float]:
    """Return nll [examples] at the best look, and the standard error of its mean from what that look did not score.

    Those examples are taken from the whole look before or after it that gives the smaller error, moved by the change
    of the others in between.
    """
    known = ~np.isnan(nll[best])
    if known.all():
        return nll[best], 0.0
    whole = np.flatnonzero(~np.isnan(nll).any(axis=1))
    near = {int(whole[whole < best][-1]), int(whole[whole > best][0])}
    moved = {at: change(nll[at][known], nll[best][known], tokens[known]) for at in near}
    nearest = min(near, key=lambda at: moved[at].se)
    filled = np.where(known, nll[best], nll[nearest] + moved[nearest].value * tokens)
    return filled, moved[nearest].se * float(np.sqrt(1 - known.mean()))


def harm_of(heldout: History, rise: Rise) -> Harm | None:
    """Return how much of a rise, to the last look, temperature explains; None if it was not measured."""
    if heldout.tempered is None or rise.estimate.value <= 0:
        return None
    examples = np.flatnonzero(rise.scored)
    # The loss itself is that at temperature 1, and nearly always the least there is at the best look.
    temperatures = (1.0, *heldout.temperatures)
    now = np.vstack([heldout.nll[-1][examples], heldout.tempered[-1][:, examples]])
    before = np.vstack([rise.before[examples], heldout.tempered[rise.best[examples], :, examples].T])
    at = int(np.argmin(now.sum(axis=1)))
    left, risen = now[at].sum() - before.sum(axis=1).min(), now[0].sum() - before[0].sum()
    if risen <= 0:
        return None
    return Harm(temperatures[at], float(1 - left / risen), _metric_change(heldout, rise))


def _metric_change(heldout: History, rise: Rise) -> Estimate | None:
    """Return the change of the task's own measure, or of token accuracy, since the best look."""
    examples = np.flatnonzero(rise.scored)
    best = rise.best[examples]
    if heldout.metric is not None:
        moved = heldout.metric[-1][examples] - heldout.metric[best, examples]
        return ratio(moved, np.ones(len(examples)))
    if heldout.right is not None:
        moved = heldout.right[-1][examples] - heldout.right[best, examples]
        return ratio(moved, heldout.tokens[examples])
    return None


def _seen_change(seen: History, best: int) -> Estimate:
    scored = seen.scored(best, seen.looks)
    return change(seen.nll[best][scored], seen.nll[-1][scored], seen.tokens[scored])


@lru_cache(maxsize=4)
def half_of(ids: tuple[str, ...]) -> np.ndarray:
    """Return which examples are in the first half, by content hash: bool [examples]."""
    return np.array([hashlib.sha256(f"half:{id}".encode()).digest()[0] % 2 == 0 for id in ids], dtype=bool)


def _message(
    heldout: History, seen: History, rise: Rise, best: int, overfitted: bool, harm: Harm | None, level: Level
) -> list[str]:
    lo, hi = rise.estimate.interval()
    sentences = [
        f"The {heldout.suite} loss has risen by {rise.estimate.value:.3f} {heldout.unit} (95% interval {lo:.3f} to "
        f"{hi:.3f}, {rise.estimate.n} examples) since its best at step {heldout.steps[best]}, while the loss on "
        f"training examples {'did not rise' if overfitted else 'rose too'} (from {seen.loss(best):.3f} to "
        f"{seen.loss(-1):.3f})."
    ]
    if harm:
        sentences.append(
            f"At temperature {harm.temperature:g}, {max(0.0, min(1.0, harm.removed)):.0%} of the rise is gone"
            + (f", and the task's measure changed by {harm.metric.value:+.3f}" if harm.metric else "")
            + (": overconfident, not worse." if harm.none else ".")
        )
    if level == "watch":
        sentences.append("An early sign only: not yet seen at two looks in a row.")
    return sentences


def _actions(name: str, best_step: int, context: Context) -> tuple[actions.Action, ...]:
    if name == "overconfident":
        return actions.overconfident(context)
    return actions.overfitting(context, best_step) if name == "overfitting" else actions.instability(context)
