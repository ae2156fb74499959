"""Template errors: answers that never end, or repeat themselves.

Both come from training on the wrong tokens far more often than from training too much, and no loss shows them.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

from scipy.special import betaincinv

from engine.flags import actions
from engine.flags.flag import Flag
from engine.flags.multiplicity import HITS_IN_A_ROW

FEWEST = 4  # answers
FROM = 0.25  # of the run: before, a base model has not learned to end
REPEATS, COVERED = 3, 0.5  # a stretch this many times in a row, over this share of the answer
LONGEST_STRETCH = 12  # words
REPEATING, SURELY = 0.5, 0.2  # share of the answers as seen; and its one-sided 95% bound: 2 of 4 say nothing


@dataclass(frozen=True)
class Answers:
    """The answers generated at a look.

    `ended`: whether the model ended each answer by itself; None if not known. `fits`: whether the reference answer is
    shorter than what the model was allowed to write, so that an answer without an end is a sign.
    """

    step: int
    texts: tuple[str, ...]
    ended: tuple[bool, ...] | None = None
    fits: tuple[bool, ...] | None = None


def template(looks: Sequence[Answers], total_steps: int) -> Flag | None:
    """Return a warning if at the last two looks, after a quarter of the run, no answer ended or half repeated."""
    latest = [answers for answers in looks if answers.step >= FROM * total_steps and answers.step > 0]
    latest = latest[-HITS_IN_A_ROW:]
    if len(latest) < HITS_IN_A_ROW:
        return None
    if all(_never_ends(answers) for answers in latest):
        return _flag("endless", looks, latest, len(_ended_where_expected(latest[-1])), 0)
    if all(map(_repeating, latest)):
        texts = latest[-1].texts
        return _flag("repeating", looks, latest, len(texts), sum(map(repeats, texts)))
    return None


def repeats(text: str) -> bool:
    """Whether a stretch of up to 12 words is repeated three times in a row or more, over half of the text.

    False for a text of fewer than six words.
    """
    words = re.findall(r"\w+|[^\w\s]", text)
    if len(words) < 2 * REPEATS:
        return False
    for period in range(1, min(LONGEST_STRETCH, len(words) // REPEATS) + 1):
        run = 0
        for place in range(period, len(words)):
            run = run + 1 if words[place] == words[place - period] else 0
            length = run + period
            if length >= REPEATS * period and length >= COVERED * len(words):
                return True
    return False


def _ended_where_expected(answers: Answers) -> list[bool]:
    """Return whether each answer ended, of those that should have."""
    if answers.ended is None:
        return []
    fits = answers.fits or (True,) * len(answers.ended)
    return [ended for ended, fit in zip(answers.ended, fits, strict=True) if fit]


def _never_ends(answers: Answers) -> bool:
    ended = _ended_where_expected(answers)
    return len(ended) >= FEWEST and not any(ended)


def _repeating(answers: Answers) -> bool:
    count, n = sum(map(repeats, answers.texts)), len(answers.texts)
    if n < FEWEST or count < REPEATING * n:
        return False
    return bool(betaincinv(count, n - count + 1, 0.05) > SURELY)  # Clopper and Pearson


def _flag(kind: str, looks: Sequence[Answers], latest: Sequence[Answers], n: int, count: int) -> Flag:
    share = count / n
    # Clopper and Pearson's exact interval, 1934.
    lo = float(betaincinv(count, n - count + 1, 0.025)) if count else 0.0
    hi = float(betaincinv(count + 1, n - count, 0.975)) if count < n else 1.0
    if kind == "endless":
        what = f"None of {n} answers ended by itself (95% interval of the share {lo:.0%} to {hi:.0%})"
    else:
        what = f"{count} of {n} answers repeat themselves word for word (95% interval {lo:.0%} to {hi:.0%})"
    return Flag(
        flag=kind,
        level="warn",
        step=latest[-1].step,
        since_step=latest[0].step,
        suite="heldout",
        effect=share,
        lo=lo,
        hi=hi,
        n=n,
        looks=sum(answers.step > 0 for answers in looks),
        message=f"{what} at step {latest[-1].step}, as at the look before.",
        actions=actions.template(never_ends=kind == "endless"),
    )
