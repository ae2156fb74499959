"""Forgetting: general text is worse than it was under the base model, beyond noise, margin and what the task gained.

Each example is compared with itself at step 0. A plain test against zero would flag nearly every clean
run, since fine-tuning always moves the general loss a little; hence the margins, which are the user's
(`flags.forgetting`). Tested are the suite as a whole and each of its slices, all of real text: texts that the base
model wrote itself can only become less likely, so that they are told as a distance and never tested. What a rise is
weighed against is in price.py.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr

from engine.basics.statistics import Estimate
from engine.flags import actions
from engine.flags.flag import Flag, Forecast, Level
from engine.flags.forecast import forecast
from engine.flags.history import Context, History, worst_examples
from engine.flags.multiplicity import HITS_IN_A_ROW, holm, level_at, standing, streak
from engine.flags.price import Trade, gain_at
from engine.recipe.margins import OnForgetting

DEFAULT = OnForgetting(do="warn")
# Nats per token, where no recipe says otherwise.
MARGINS: dict[Level, float] = {"warn": DEFAULT.warn, "critical": DEFAULT.critical}

Groups = dict[str, list[bool]]  # slice to whether it hit, look by look (from 1)


def hits(
    history: History, margins: OnForgetting = DEFAULT, heldout: History | None = None
) -> dict[Level, list[bool]]:
    """Return at which looks (from 1) the loss was beyond the soft margin (`info`), out of proportion to the gain on
    `heldout` (`warn`) and beyond the hard margin (`critical`), as a whole or in a slice.

    Without `heldout`, nothing was gained.
    """
    return {
        level: [any(look) for look in zip(*groups.values(), strict=True)]
        for level, groups in _hits(history, margins, heldout).items()
    }


def forgetting(
    history: History, context: Context, heldout: History | None = None, samples: History | None = None
) -> Flag | None:
    """Return the flag as it stands at the last look, or None.

    Level `info` is a price in proportion to what was gained on `heldout`; `watch` is a leading sign: a first hit, or a
    forecast that is beyond the margin at the run's end. `samples`: texts that the base model wrote itself.
    """
    if history.looks < 1:
        return None
    suites = _Suites(history, heldout if context.weighs else None, samples)
    by_level = _hits(history, context.flags.forgetting, suites.heldout)
    levels = {
        group: standing({level: groups[group] for level, groups in by_level.items()})
        for group in by_level["warn"]
    }
    for level in ("critical", "warn"):
        if groups := [group for group, reached in levels.items() if reached == level]:
            return _flag(suites, context, level, _worst_group(history, groups), by_level["warn"])
    if flag := _watch(suites, context, by_level["warn"]):
        return flag
    if groups := [group for group, reached in levels.items() if reached == "info"]:
        return _flag(suites, context, "info", _worst_group(history, groups), by_level["info"])
    return None


@dataclass(frozen=True)
class _Suites:
    general: History
    heldout: History | None
    samples: History | None


def _hits(history: History, margins: OnForgetting, heldout: History | None) -> dict[Level, Groups]:
    groups = history.groups()
    by_level: dict[Level, Groups] = {
        level: {group: [] for group in groups} for level in ("info", "warn", "critical")
    }
    for look in range(1, len(history.steps)):
        gain = gain_at(heldout, history.steps[look])
        p_values = {
            name: trade_of(_change(history, look, chosen), gain, margins, name).p_values()
            for name, chosen in groups.items()
        }
        for level, of_groups in by_level.items():
            rejected = holm({name: p[level] for name, p in p_values.items()}, level_at(look))
            for name, hit in rejected.items():
                of_groups[name].append(hit)
    return by_level


def trade_of(price: Estimate, gain: Estimate | None, margins: OnForgetting, group: str) -> Trade:
    """Return the trade of a slice, or of the suite as a whole ("")."""
    return Trade(price, gain, *margins.margins(group), margins.per_gain)


def _change(history: History, look: int, chosen: np.ndarray) -> Estimate:
    """Estimate the rise since step 0 of the chosen examples."""
    return history.estimate(look, 0, chosen).estimate


def _worst_group(history: History, groups: Sequence[str]) -> str:
    """Return the suite as a whole if it is among `groups`, else the slice that rose most."""
    if "" in groups:
        return ""
    masks = history.groups()
    return max(groups, key=lambda name: _change(history, -1, masks[name]).value)


def _watch(suites: _Suites, context: Context, group_hits: Groups) -> Flag | None:
    history, margins = suites.general, context.flags.forgetting
    hit_groups = [group for group, looks in group_hits.items() if looks[-1]]
    if hit_groups:
        return _flag(suites, context, "watch", _worst_group(history, hit_groups), group_hits)
    gain = gain_at(suites.heldout, history.steps[-1])
    for group, chosen in history.groups().items():
        expected = forecast(history, context, chosen)
        trade = trade_of(_change(history, -1, chosen), gain, margins, group)
        if expected and expected.lo > trade.margin:
            return _flag(suites, context, "watch", group, group_hits)
    return None


def _flag(suites: _Suites, context: Context, level: Level, group: str, group_hits: Groups) -> Flag:
    history = suites.general
    chosen = history.groups()[group]
    part = history.only(chosen)
    gain = gain_at(suites.heldout, history.steps[-1])
    trade = trade_of(_change(history, -1, chosen), gain, context.flags.forgetting, group)
    expected = forecast(history, context, chosen)
    lo, hi = trade.price.interval()
    flips = flipped(part)
    since = history.steps[len(history.steps) - max(1, streak(group_hits[group]))]
    name = f"{history.suite} loss" + (f" in the slice {group}" if group else "")
    message = (
        f"The {name} is {trade.price.value:.3f} nats per token above the base model's (95% interval {lo:.3f} to "
        f"{hi:.3f}, {trade.price.n} examples): {part.loss(0):.3f} at step 0, {part.loss(-1):.3f} at step "
        f"{history.steps[-1]}, since step {since}."
    )
    more = _more_sentences(suites, part, flips, expected, group_hits, level)
    return Flag(
        flag="forgetting",
        level=level,
        step=history.steps[-1],
        since_step=since,
        suite=history.suite,
        slice=group,
        effect=trade.price.value,
        lo=lo,
        hi=hi,
        n=trade.price.n,
        looks=history.looks,
        message=" ".join([message, *_trade_sentences(trade, level), *more]),
        actions=actions.in_proportion() if level == "info" else actions.forgetting(context),
        worst=worst_examples(part, part.nll[0]),
        lost=flips.lost if flips else None,
        gained=flips.gained if flips else None,
        forecast=expected,
    )


def _trade_sentences(trade: Trade, level: Level) -> list[str]:
    """Say what was paid for what was gained, and what that means."""
    if trade.gain is None:
        return []
    paid, (lo, hi) = trade.price.value, trade.gain.interval()
    interval = f"95% interval {lo:.3f} to {hi:.3f}, {trade.gain.n} examples"
    if trade.paid_per_gain is None or lo <= 0:
        return [
            f"Paid {paid:.3f} for no gain beyond noise: the held-out loss fell by {trade.gain.value:.3f} ({interval})."
        ]
    verdict = {
        "critical": f"beyond the hard margin of {trade.critical:g}, whatever was gained",
        "warn": f"out of proportion (above {trade.margin:.3f})",
        "watch": f"{trade.margin:.3f} would be in proportion",
        "info": f"in proportion (up to {trade.margin:.3f})",
    }[level]
    return [
        f"Paid {paid:.3f} for a gain of {trade.gain.value:.3f} nats per held-out token ({interval}), "
        f"{trade.paid_per_gain:.2f} for each nat: {verdict}."
    ]


def _more_sentences(
    suites: _Suites,
    part: History,
    flips: Flips | None,
    expected: Forecast | None,
    group_hits: Groups,
    level: Level,
) -> list[str]:
    """Return sentences with the other measurements."""
    sentences = []
    slices = [name for name, looks in group_hits.items() if name and streak(looks) >= HITS_IN_A_ROW]
    if slices:
        above = "above the margin" if level == "info" else "out of proportion"
        sentences.append(f"Slices {above}: {', '.join(slices)} of {len(suites.general.groups()) - 1}.")
    if flips:
        sentences.append(
            f"Of {flips.tokens} tokens, {flips.lost} that the base model had right are wrong now, and {flips.gained} "
            f"the other way round (p = {flips.p:.2g})."
        )
    if (kl := divergence(part)) is not None:
        sentences.append(
            f"The KL divergence from the base model's predictions is {kl.value:.3f} nats per token."
        )
    if suites.samples is not None and suites.samples.steps[-1] == part.steps[-1]:
        moved = distance(suites.samples)
        sentences.append(
            f"What the base model wrote itself has become less likely by {moved.value:.3f} nats per token: a distance "
            "from the base model, not a loss."
        )
    if expected:
        sentences.append(
            f"Forecast for the end, step {expected.step}: {expected.value:.3f} "
            f"(80% interval {expected.lo:.3f} to {expected.hi:.3f})."
        )
    if level == "watch":
        sentences.append("An early sign only: not yet seen at two looks in a row.")
    return sentences


def distance(samples: History) -> Estimate:
    """Estimate KL(base || now), nats per token, at the last look: how much less likely texts have become that were
    drawn from the base model. It is 0 at step 0 and, but for noise, never below.
    """
    return samples.estimate(-1, 0).estimate


@dataclass(frozen=True)
class Flips:
    """Tokens that changed sides against the base model; `p` is of the one-sided test that no more were lost."""

    lost: int
    gained: int
    tokens: int
    p: float


def flipped(history: History, look: int = -1) -> Flips | None:
    """Compute McNemar's test with examples (or documents) as clusters, since tokens of one depend on each other; None
    if not measured.

    z = sum(b - c) / sqrt(sum((b - c)^2)) over clusters with b tokens lost and c gained; McNemar's own for clusters of
    one token. After V. Durkalski et al., "Analysis of clustered matched-pair data", 2003.
    """
    if history.lost is None or history.gained is None:
        return None
    scored = history.scored(0, look)
    lost, gained = history.lost[look][scored], history.gained[look][scored]
    net = (lost - gained).astype(np.float64)
    if (documents := history.draws(scored)) is not None:
        net = np.bincount(documents, net)
    spread = math.sqrt((net**2).sum())
    p = float(ndtr(-net.sum() / spread)) if spread else 1.0
    return Flips(int(lost.sum()), int(gained.sum()), int(history.tokens[scored].sum()), p)


def divergence(history: History, look: int = -1) -> Estimate | None:
    """Return the mean KL divergence from the base model, nats per token, over the examples where it was measured."""
    if history.kl is None:
        return None
    measured = ~np.isnan(history.kl[look])
    if not measured.any():
        return None
    return history.mean(history.kl[look] * history.tokens, measured)
