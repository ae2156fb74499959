"""Overfitting: the held-out loss has turned up beyond noise since its best evaluation.

The best of many evaluations is partly luck, so any later one seems worse. So the held-out examples are split in five
folds: for each, the best step is chosen on the other four and the rise since then is measured on this one. Where the
whole model wobbles from look to look, every fold has the same luck: the rise must be above that, too.
The loss on training examples shows the cause: it still falls (overfitting) or rises too (instability).

Harm is another question. An overconfident model loses likelihood but answers no worse; dividing the logits by a
temperature corrects that (C. Guo et al., "On calibration of modern neural networks", 2017). Where it removes most of
the rise and the task's measure is not worse, the flag is information: `overconfident`.
"""

from __future__ import annotations

import hashlib
import math
from bisect import insort
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from scipy.special import ndtri

from engine.basics.statistics import Estimate, change, ratio, ratios
from engine.flags import actions
from engine.flags.flag import Flag, Level
from engine.flags.history import Context, History, worst_examples
from engine.flags.multiplicity import HITS_IN_A_ROW, level_at, standing, streak
from engine.recipe.margins import OnRise

DEFAULT = OnRise(do="warn")
# Nats per token, where no recipe says otherwise.
MARGINS: dict[Level, float] = {"warn": DEFAULT.warn, "critical": DEFAULT.critical}
# Spent by the levels of the looks. The rise since the best of many looks is tested, not that since a fixed one, so that
# the chance of a false flag is far smaller: it was at most 5% in the regimes of benchmarks/flag_simulation.py.
ALPHA = 0.15
FEWEST = 8  # examples
FOLDS = 5
WARM_UP, AFTER = 0.1, 0.05  # of a run: a rise that soon is most often a bump that passes
# From a simulation of looks that differ by chance: the median of the product of neighbouring third differences, with
# the sign turned, is WOBBLE times their variance; BY_CHANCE times the covariance is what examples explain, and some.
WOBBLE, BY_CHANCE = 6.4, 0.6
WIDER = 0.4  # the quantile of few products is this much higher, over the root of their number
UNKNOWN_WOBBLE = 0.01  # nats per token: of the first looks
MOST_WOBBLE = 0.0125  # nats per token: more than that is instability, or a curve that turns sharply
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
        dropped = self.metric.negative
        return dropped.value <= WORSE and dropped.p_above(0.0) >= SURE


def hits(heldout: History, settled: float = 0, *, margins: OnRise = DEFAULT) -> dict[Level, list[bool]]:
    """Return at which looks (from 1) the loss had risen beyond each margin since its best.

    Before the step `settled` only a rise beyond the margin of critical counts.
    """
    by_level: dict[Level, float] = {"warn": margins.warn, "critical": margins.critical}
    hits: dict[Level, list[bool]] = {level: [] for level in by_level}
    for look, estimate in enumerate(_estimates(heldout), start=1):
        early, alpha = heldout.steps[look] < settled, level_at(look, ALPHA)
        for level, margin in by_level.items():
            least = margins.critical if early else margin
            hits[level].append(estimate is not None and estimate.p_above(least) < alpha)
    return hits


def settled_at(context: Context) -> float:
    """Return the step from which a small rise counts: after a tenth of the run, and after its warm-up; 0 if unknown."""
    if context.rates is None:
        return 0.0
    total, peak = len(context.rates), int(np.argmax(context.rates))
    return max(WARM_UP * total, peak + AFTER * total if peak < total - 1 else 0.0)


def overfitting(heldout: History, seen: History | None, context: Context) -> Flag | None:
    """Return the flag as it stands at the last look (`overfitting`, `instability` or `overconfident`), or None.

    `seen` has the same evaluations as `heldout`; None where no training examples are scored.
    """
    by_level = hits(heldout, settled_at(context), margins=context.flags.overfitting)
    rise = rise_at(heldout, heldout.looks) if heldout.looks else None
    level = standing(by_level) or ("watch" if by_level["warn"] and by_level["warn"][-1] else None)
    if level is None or rise is None:
        return None
    best = int(np.median(rise.best[rise.scored]))
    since_best = seen.change(best, seen.looks) if seen else None
    cause = cause_of(since_best) if since_best else None
    harm = harm_of(heldout, rise)
    harmless = cause == "overfitting" and harm is not None and harm.none and level != "watch"
    # Where the cause is not known, the likelier one gives the name.
    rose = since_best is not None and since_best.value > MARGINS["warn"]
    likelier = "instability" if rose else "overfitting"
    name = "overconfident" if harmless else cause or likelier
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
        message=" ".join(_message(heldout, seen, rise, best, since_best, harm, level)),
        actions=_actions(name, heldout.steps[best], context),
        worst=worst_examples(heldout, np.where(rise.scored, rise.before, np.nan)),
        per=heldout.per,
    )


def cause_of(since_best: Estimate) -> str | None:
    """Return what a change of the loss on training examples says of a rise: `instability` if it rose too, beyond noise,
    `overfitting` if it surely did not rise by more than the margin; None if neither is shown.
    """
    if since_best.p_above(0.0) < SURE:
        return "instability"
    return "overfitting" if surely_did_not_rise(since_best) else None


def surely_did_not_rise(moved: Estimate) -> bool:
    """Whether a change of the loss on training examples is surely less than a rise by the margin."""
    return moved.negative.p_above(-MARGINS["warn"]) < SURE


def memorised(seen: History, context: Context) -> Flag | None:
    """Return information if the training examples are memorised, at two looks in a row."""
    if seen.right is None or seen.looks < HITS_IN_A_ROW:
        return None
    accuracy = []
    for look in range(len(seen.steps)):
        scored = seen.scored(look)
        accuracy.append(seen.mean(seen.right[look], scored))
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
    scored, everywhere = history.scored(0, look), _folds(history)
    folds, tokens, nll = everywhere[scored], history.tokens[scored], history.nll[: look + 1, scored]
    if len(tokens) < FEWEST:
        return None
    loss = _loss_of_others(nll, tokens, folds)
    best_without = np.argmin(loss, axis=0)
    if (loss[best_without, np.arange(FOLDS)] >= loss[-1]).any():
        return None
    before, missing = nll[best_without[folds], np.arange(len(tokens))], 0.0
    known = ~np.isnan(before)
    for fold in set(folds[~known].tolist()):
        inside = folds == fold
        before[inside], error = _filled(nll[:, inside], tokens[inside], int(best_without[fold]))
        missing = float(np.hypot(missing, error * tokens[inside].sum() / tokens.sum()))
    draws = history.draws(scored)
    own = change(before[known], nll[-1][known], tokens[known], None if draws is None else draws[known])
    value = change(before, nll[-1], tokens).value
    se = float(np.hypot(own.se * np.sqrt(known.mean()), missing))
    filled, both = np.full(len(everywhere), np.nan), scored.copy()
    filled[scored], both[scored] = before, known
    estimate = Estimate(value, se, len(tokens), own.df, own.skew if known.all() else 0.0)
    return Rise(estimate, both, best_without[everywhere], filled)


def _estimates(history: History) -> list[Estimate | None]:
    """Return the rise at each look from 1 on as it is tested: what the best look may owe to luck is taken off."""
    looks = range(1, len(history.steps))
    if np.isnan(history.nll).any():
        rises = [rise_at(history, look) for look in looks]
        estimates = [None if rise is None else rise.estimate for rise in rises]
    else:
        estimates = _of_whole_looks(history)
    wobbles = wobble_by_look(history)
    return [
        estimate and _wobbling(estimate, wobbles[look], look)
        for look, estimate in zip(looks, estimates, strict=True)
    ]


def _of_whole_looks(history: History) -> list[Estimate | None]:
    """Return the estimate of `rise_at` at each look from 1 on, where each scored all examples: all looks at once."""
    folds, count = _folds(history), len(history.steps)
    if len(folds) < FEWEST or count < 2:
        return [None] * (count - 1)
    loss = _loss_of_others(history.nll, history.tokens, folds)
    lowest = np.minimum.accumulate(loss, axis=0)
    # The look at which the lowest loss so far was reached.
    best = np.maximum.accumulate(
        np.where(np.diff(lowest, axis=0, prepend=np.inf) < 0, np.arange(count)[:, None], 0), axis=0
    )
    before = history.nll[best[:, folds], np.arange(len(folds))]
    everyone = np.ones(len(folds), dtype=bool)
    rises = ratios(history.nll - before, history.tokens, history.draws(everyone))
    is_best = (best == np.arange(count)[:, None]).any(axis=1)
    return [None if is_best[look] else rises[look] for look in range(1, count)]


def _folds(history: History) -> np.ndarray:
    return fold_of(history.documents or history.ids)


def _loss_of_others(nll: np.ndarray, tokens: np.ndarray, folds: np.ndarray) -> np.ndarray:
    """Return the loss of the examples of all other folds at each look: float64 [looks, FOLDS], as by `losses`.

    `nll` [looks, examples], of which the first and the last look are whole.
    """
    member = np.zeros((len(folds), FOLDS))
    member[np.arange(len(folds)), folds] = 1.0

    def of_others(rows: np.ndarray) -> np.ndarray:
        by_fold = rows @ member
        return by_fold.sum(axis=1, keepdims=True) - by_fold

    known, x = ~np.isnan(nll), tokens.astype(np.float64)
    if known.all():
        return of_others(nll) / of_others(x[None])
    last = np.maximum.accumulate(np.where(known.all(axis=1), np.arange(len(nll)), 0))
    moved = of_others(np.where(known, nll - nll[last], 0.0)) / np.maximum(1, of_others(known * x))
    loss = of_others(nll[last]) / of_others(x[None]) + moved
    loss[known.sum(axis=1) < FEWEST] = np.inf
    return loss


def _filled(nll: np.ndarray, tokens: np.ndarray, best: int) -> tuple[np.ndarray, float]:
    """Return nll [examples] at the best look, and the standard error of its mean from what that look did not score.

    Those examples are taken from the whole look before or after it that gives the smaller error, moved by the change
    of the others in between.
    """
    known = ~np.isnan(nll[best])
    whole = np.flatnonzero(~np.isnan(nll).any(axis=1))
    near = [int(whole[whole < best][-1]), int(whole[whole > best][0])]
    if not known.any():
        return nll[near[0]], np.inf
    moved = {at: change(nll[at][known], nll[best][known], tokens[known]) for at in near}
    nearest = min(near, key=lambda at: moved[at].se)
    filled = np.where(known, nll[best], nll[nearest] + moved[nearest].value * tokens)
    return filled, moved[nearest].se * float(np.sqrt(1 - known.mean()))


def _wobbling(estimate: Estimate, wobble: float, looks: int) -> Estimate:
    """Return a rise less what the best of that many looks, and of step 0, is expected to be better by if the whole
    model wobbles (G. Blom, "Statistical estimates and transformed beta-variables", 1958), as unsure as that makes it.
    """
    luck = wobble * float(ndtri((looks + 0.625) / (looks + 1.25)))
    return replace(estimate, value=estimate.value - luck, se=float(np.hypot(estimate.se, wobble)))


def wobble_by_look(history: History) -> np.ndarray:
    """Return by how much all examples together move up and down from look to look, as known at each look: a standard
    deviation in nats per token, float64 [looks].

    More examples do not make it smaller, and splitting them does not take it out of the choice of the best look. It is
    taken from the third differences over the looks, which are small for any smooth curve; those of neighbouring looks
    have opposite signs where looks differ by chance, and the same sign on a curve that bends. What the scatter of the
    examples explains of it is left out. From few looks it is taken rather too large.
    """
    wobble = np.full(len(history.steps), UNKNOWN_WOBBLE)
    ordered: list[float] = []
    for look, product in enumerate(_products(history).tolist(), start=4):
        insort(ordered, product)
        if look > 4:
            place = (len(ordered) - 1) * (0.5 + WIDER / math.sqrt(len(ordered)))
            below = int(place)
            upper = ordered[min(below + 1, len(ordered) - 1)]
            variance = ordered[below] + (place - below) * (upper - ordered[below])
            wobble[look] = min(MOST_WOBBLE, math.sqrt(max(0.0, variance)))
    return wobble


def _products(history: History) -> np.ndarray:
    """Return an estimate of the wobble's variance from every five looks in a row: float64 [looks - 3]."""
    if len(history.steps) < 5:
        return np.empty(0)
    third = np.diff(history.nll, 3, axis=0)  # [looks - 2, examples]
    first, second = third[:-1], third[1:]
    known = ~np.isnan(first + second)
    tokens = known * history.tokens
    total = np.maximum(1, tokens.sum(axis=1))
    centred, means = [], []
    for rows in (first, second):
        mean = np.where(known, rows, 0.0).sum(axis=1) / total
        centred.append(np.where(known, rows - mean[:, None] * history.tokens, 0.0))
        means.append(mean)
    scatter = (centred[0] * centred[1]).sum(axis=1) / total**2
    return (BY_CHANCE * scatter - means[0] * means[1]) / WOBBLE


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
    everyone = np.arange(len(rise.best))
    if heldout.metric is not None:
        moved = (heldout.metric[-1] - heldout.metric[rise.best, everyone])[rise.scored]
        return ratio(moved, np.ones(len(moved)), heldout.draws(rise.scored))
    if heldout.right is not None:
        return heldout.mean(heldout.right[-1] - heldout.right[rise.best, everyone], rise.scored)
    return None


@lru_cache(maxsize=8)
def fold_of(names: tuple[str, ...]) -> np.ndarray:
    """Return the fold of each example, by a hash of its document's name or of its content: int64 [examples]."""
    digests = (hashlib.sha256(f"fold:{name}".encode()).digest() for name in names)
    return np.array([int.from_bytes(digest[:4]) % FOLDS for digest in digests])


def _message(
    heldout: History,
    seen: History | None,
    rise: Rise,
    best: int,
    since_best: Estimate | None,
    harm: Harm | None,
    level: Level,
) -> list[str]:
    lo, hi = rise.estimate.interval()
    sentences = [
        f"The {heldout.suite} loss has risen by {rise.estimate.value:.3f} {heldout.unit} (95% interval {lo:.3f} to "
        f"{hi:.3f}, {rise.estimate.n} examples) since its best at step {heldout.steps[best]}"
        f"{_on_training_examples(seen, best, since_best)}"
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


def _on_training_examples(seen: History | None, best: int, since_best: Estimate | None) -> str:
    """Say, as the end of a sentence, what the loss on training examples did meanwhile."""
    if seen is None or since_best is None:
        return ". No training examples are scored, so the cause is not known."
    known = {"overfitting": "did not rise", "instability": "rose too"}
    moved = known.get(cause_of(since_best) or "", f"may have risen or not, by {since_best.value:+.3f}")
    end = (
        f", while the loss on training examples {moved} (from {seen.loss(best):.3f} to {seen.loss(-1):.3f})."
    )
    if moved in known.values():
        return end
    lo, hi = since_best.interval()
    return f"{end} So the cause is not known: its 95% interval is {lo:+.3f} to {hi:+.3f}."


def _actions(name: str, best_step: int, context: Context) -> tuple[actions.Action, ...]:
    if name == "overconfident":
        return actions.overconfident(context)
    return actions.overfitting(context, best_step) if name == "overfitting" else actions.instability(context)
