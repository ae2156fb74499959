"""Forgetting: the general suite is worse than it was under the base model, beyond noise and margin.

Each example is compared with itself at step 0. A plain test against zero would flag nearly every clean
run, since fine-tuning always moves the general loss a little; hence the margins. Tested are the suite as a whole
and each of its slices.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.special import ndtr

from engine.basics.statistics import Estimate
from engine.flags import actions
from engine.flags.flag import Context, Flag, Forecast, History, Level, worst_examples
from engine.flags.forecast import forecast
from engine.flags.multiplicity import HITS_IN_A_ROW, holm, level_at, standing, streak

MARGINS: dict[Level, float] = {"warn": 0.05, "critical": 0.15}  # nats per token

Groups = dict[str, list[bool]]  # slice to whether it hit, look by look (from 1)


def hits(history: History) -> dict[Level, list[bool]]:
    """Return at which looks (from 1) the loss was beyond each margin, as a whole or in a slice."""
    return {
        level: [any(look) for look in zip(*groups.values(), strict=True)]
        for level, groups in _hits(history).items()
    }


def forgetting(history: History, context: Context) -> Flag | None:
    """Return the flag as it stands at the last look, or None.

    Level `watch` is a leading sign: a first hit, or a forecast that is beyond the margin at the run's end.
    """
    if history.looks < 1:
        return None
    by_level = _hits(history)
    levels = {
        group: standing({level: groups[group] for level, groups in by_level.items()})
        for group in by_level["warn"]
    }
    for level in ("critical", "warn"):
        if groups := [group for group, reached in levels.items() if reached == level]:
            return _flag(history, context, level, _worst_group(history, groups), by_level["warn"])
    return _watch(history, context, by_level["warn"])


def _hits(history: History) -> dict[Level, Groups]:
    groups = history.groups()
    by_level: dict[Level, Groups] = {level: {group: [] for group in groups} for level in MARGINS}
    for look in range(1, len(history.steps)):
        estimates = {name: _change(history, look, chosen) for name, chosen in groups.items()}
        for level, margin in MARGINS.items():
            p_values = {name: estimate.p_above(margin) for name, estimate in estimates.items()}
            for name, hit in holm(p_values, level_at(look)).items():
                by_level[level][name].append(hit)
    return by_level


def _change(history: History, look: int, chosen: np.ndarray) -> Estimate:
    """Estimate the rise since step 0 of the chosen examples."""
    return history.estimate(look, 0, chosen).estimate


def _worst_group(history: History, groups: Sequence[str]) -> str:
    """Return the suite as a whole if it is among `groups`, else the slice that rose most."""
    if "" in groups:
        return ""
    masks = history.groups()
    return max(groups, key=lambda name: _change(history, -1, masks[name]).value)


def _watch(history: History, context: Context, group_hits: Groups) -> Flag | None:
    hit_groups = [group for group, looks in group_hits.items() if looks[-1]]
    if hit_groups:
        return _flag(history, context, "watch", _worst_group(history, hit_groups), group_hits)
    for group, chosen in history.groups().items():
        expected = forecast(history, context, chosen)
        if expected and expected.lo > MARGINS["warn"]:
            return _flag(history, context, "watch", group, group_hits)
    return None


def _flag(history: History, context: Context, level: Level, group: str, group_hits: Groups) -> Flag:
    chosen = history.groups()[group]
    part = history.only(chosen)
    estimate = _change(history, -1, chosen)
    expected = forecast(history, context, chosen)
    lo, hi = estimate.interval()
    flips = flipped(part)
    since = history.steps[len(history.steps) - max(1, streak(group_hits[group]))]
    name = f"{history.suite} loss" + (f" in the slice {group}" if group else "")
    message = (
        f"The {name} is {estimate.value:.3f} nats per token above the base model's (95% interval {lo:.3f} to "
        f"{hi:.3f}, {estimate.n} examples): {part.loss(0):.3f} at step 0, {part.loss(-1):.3f} at step "
        f"{history.steps[-1]}, since step {since}."
    )
    return Flag(
        flag="forgetting",
        level=level,
        step=history.steps[-1],
        since_step=since,
        suite=history.suite,
        slice=group,
        effect=estimate.value,
        lo=lo,
        hi=hi,
        n=estimate.n,
        looks=history.looks,
        message=" ".join([message, *_more_sentences(history, part, flips, expected, group_hits, level)]),
        actions=actions.forgetting(context),
        worst=worst_examples(part, part.nll[0]),
        lost=flips.lost if flips else None,
        gained=flips.gained if flips else None,
        forecast=expected,
    )


def _more_sentences(
    history: History,
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
        sentences.append(f"Slices above the margin: {', '.join(slices)} of {len(history.groups()) - 1}.")
    if flips:
        sentences.append(
            f"Of {flips.tokens} tokens, {flips.lost} that the base model had right are wrong now, and {flips.gained} "
            f"the other way round (p = {flips.p:.2g})."
        )
    if (kl := divergence(part)) is not None:
        sentences.append(
            f"The KL divergence from the base model's predictions is {kl.value:.3f} nats per token."
        )
    if expected:
        sentences.append(
            f"Forecast for the end, step {expected.step}: {expected.value:.3f} "
            f"(80% interval {expected.lo:.3f} to {expected.hi:.3f})."
        )
    if level == "watch":
        sentences.append("An early sign only: not yet seen at two looks in a row.")
    return sentences


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
