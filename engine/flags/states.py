"""A flag over time: what a look makes of it, by what it shows today.

A flag is `raised` when a detector first shows it, and again when its level rises; at every later look that shows it,
it is `confirmed`, or `weakened` if its level is lower. A look that does not show it leaves a warning `fading`, and a
second one in a row withdraws it: a flag takes two looks to come and two to go. A sign that was never a warning
(`watch`, `info`) is withdrawn by the first. Every line has that look's evidence, so the last one says how things stand
now, and a resumed run goes on from it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

from engine.flags.flag import LEVELS, WARNS, Flag


@dataclass(frozen=True)
class Today:
    """What a look says of a flag that it does not show: the same effect, measured now (NaN: it has none), in words."""

    message: str
    effect: float = math.nan
    lo: float = math.nan
    hi: float = math.nan
    n: int = 0
    replaced: bool = False  # another flag says the opposite, so this one goes at once


def stands(flag: Flag | None) -> bool:
    """Whether a flag was raised and not withdrawn."""
    return flag is not None and flag.state != "withdrawn"


def warns(flag: Flag | None) -> bool:
    return flag is not None and stands(flag) and flag.level in WARNS


def follow(
    stated: Sequence[Flag], hits: Iterable[Flag], step: int, looks: int, today: Callable[[Flag], Today]
) -> list[Flag]:
    """Return what to write at a look: `stated` are the flags as they were last written, `hits` those that the
    detectors show, `today` says how things stand with one that they do not.

    Nothing is written twice at a step, so that a run that was killed after a look may ask again.
    """
    last = {(flag.flag, flag.suite): flag for flag in stated}
    seen = {(flag.flag, flag.suite): flag for flag in hits}
    written = [next_line(last.get(key), flag) for key, flag in seen.items()]
    for key, flag in last.items():
        if key not in seen and stands(flag) and flag.step != step:
            written.append(missed(flag, step, looks, today(flag)))
    return [flag for flag in written if flag]


def next_line(last: Flag | None, new: Flag) -> Flag | None:
    """Return the line of a flag that a look shows; None if this look has written it."""
    if last is None or not stands(last):
        return replace(new, state="raised")
    higher = LEVELS.index(new.level) > LEVELS.index(last.level)
    if last.step == new.step and not higher:
        return None
    if higher:
        return replace(new, state="raised")
    if new.level == last.level:
        return replace(new, state="confirmed")
    if new.level == "watch" and last.level in WARNS:  # seen today, though not at the look before
        return replace(new, level="warn", state="weakened" if last.level == "critical" else "confirmed")
    return replace(new, state="weakened")


def missed(last: Flag, step: int, looks: int, today: Today) -> Flag:
    """Return the line of a flag that a look does not show."""
    now = replace(
        last,
        step=step,
        looks=looks,
        effect=today.effect,
        lo=today.lo,
        hi=today.hi,
        n=today.n,
        message=today.message,
        forecast=None,
    )
    if last.level in WARNS and last.state != "fading" and not today.replaced:
        return replace(now, level="warn", state="fading")
    return withdrawn(now)


def withdrawn(flag: Flag) -> Flag:
    """Return the line that takes a flag back: nothing is wrong, and there is nothing to do."""
    return replace(flag, level="info", state="withdrawn", actions=(), worst=())
