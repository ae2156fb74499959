"""What a look says of a flag that it does not show: the same effect, measured today, in a sentence."""

from __future__ import annotations

import numpy as np

from engine.basics.statistics import Estimate
from engine.flags.evidence import Evidence
from engine.flags.flag import Flag
from engine.flags.history import History, losses
from engine.flags.instability import back_to_normal
from engine.flags.states import Today


def today_of(flag: Flag, evidence: Evidence) -> Today:
    """Return how things stand with a flag that no detector shows now."""
    match flag.flag, flag.suite:
        case (("overfitting" | "overconfident" | "instability"), "heldout"):
            return _since_best(evidence.heldout)
        case "forgetting", _ if evidence.general:
            chosen = evidence.general.groups().get(flag.slice)
            if chosen is not None:
                now = evidence.general.estimate(-1, 0, chosen).estimate
                name = f"{flag.suite} loss" + (f" in the slice {flag.slice}" if flag.slice else "")
                return _measured(
                    now, f"the {name} differs from the base model's by", "not beyond noise and margin"
                )
        case "instability", "train":
            return Today(
                back_to_normal(evidence.losses, evidence.norms, evidence.first_step, flag.since_step)
            )
        case "displacement", _ if evidence.pairs:
            now = evidence.pairs.change(0, -1)
            return _measured(
                now, "the loss of the chosen answers has changed since step 0 by", "no longer shown"
            )
        case "converged", _ if evidence.heldout and flag.since_step in evidence.heldout.steps:
            since = evidence.heldout.steps.index(flag.since_step)
            moved = evidence.heldout.change(since, -1)
            return _measured(
                moved, f"the loss has moved since step {flag.since_step} by", "so it has not settled"
            )
        case "dead", "seen" if evidence.seen:
            moved = evidence.seen.change(0, -1)
            return _measured(
                moved, "the loss on training examples has moved since step 0 by", "so something is learned"
            )
        case "dead", _:
            return Today("The gradient is no longer zero.")
        case (("endless" | "repeating"), _):
            what = "end by themselves" if flag.flag == "endless" else "do not repeat themselves"
            return Today(f"Enough of the latest answers {what}.")
        case "memorised", _:
            return Today("Fewer tokens of the training examples are right than before.")
    return Today("What it was seen by is no longer measured.")


def _since_best(heldout: History | None) -> Today:
    if heldout is None or heldout.looks < 1:
        return Today("The held-out examples are no longer scored.")
    best = int(np.argmin(losses(heldout.nll, heldout.tokens)))
    if best == heldout.looks:
        return Today(f"The {heldout.suite} loss is the lowest so far, {heldout.loss(-1):.3f} {heldout.unit}.")
    moved = heldout.change(best, -1)
    what = f"since its best at step {heldout.steps[best]} the {heldout.suite} loss has risen by"
    return _measured(moved, what, "not beyond noise and margin")


def _measured(now: Estimate, what: str, verdict: str) -> Today:
    lo, hi = now.interval()
    text = f"{what} {now.value:+.3f} (95% interval {lo:+.3f} to {hi:+.3f}, {now.n} examples), {verdict}."
    return Today(text[0].upper() + text[1:], now.value, lo, hi, now.n)
