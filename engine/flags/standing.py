"""Which flags a look shows: all detectors over what was seen so far, without what contradicts each other."""

from __future__ import annotations

from collections.abc import Sequence

from engine.flags.absent import today_of
from engine.flags.displacement import displacement
from engine.flags.evidence import Evidence
from engine.flags.exclusion import are_opposite, without_contradictions
from engine.flags.flag import Flag
from engine.flags.forgetting import forgetting
from engine.flags.history import Context
from engine.flags.instability import instability
from engine.flags.overfitting import memorised, overfitting
from engine.flags.progress import converged, dead, no_gradient
from engine.flags.states import Today, warns
from engine.flags.template import template


def standing_flags(evidence: Evidence, context: Context, stated: Sequence[Flag] = ()) -> list[Flag]:
    """Return the flags that the detectors raise on what was seen so far; none that contradicts another. `stated`: those
    of the looks before.
    """
    jumps = next((flag for flag in stated if (flag.flag, flag.suite) == ("instability", "train")), None)
    unstable_since = jumps.since_step if jumps and warns(jumps) else None
    heldout, seen, general = evidence.heldout, evidence.seen, evidence.general
    losses, norms, first = evidence.losses, evidence.norms, evidence.first_step
    flags = [
        overfitting(heldout, seen, context) if heldout else None,
        memorised(seen, context) if seen else None,
        forgetting(general, context, heldout, evidence.samples) if general else None,
        displacement(evidence.pairs, context) if evidence.pairs else None,
        instability(losses, norms, first, context, unstable_since) if len(losses) else None,
        (no_gradient(norms, first + len(norms) - 1, context) if first == 1 else None)
        or (dead(seen, context) if seen else None),
        converged(heldout, context) if heldout else None,
        template(evidence.answers, context.total_steps or 0),
    ]
    return without_contradictions([flag for flag in flags if flag], stated, evidence, context)


def today(flag: Flag, evidence: Evidence, found: Sequence[Flag]) -> Today:
    """Return how things stand with a flag that is not shown; one that another has taken the place of says so."""
    other = next((one for one in found if are_opposite(one, flag)), None)
    if other is None:
        return today_of(flag, evidence)
    message = f"It is seen as {other.flag} now: {other.message}"
    return Today(message, other.effect, other.lo, other.hi, other.n, replaced=True)
