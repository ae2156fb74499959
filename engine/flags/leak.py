"""Leak: rows of a suite that overlap with training data, and the results without them.

The overlap itself is found in engine/data/overlap.py, before the run. A held-out row that was trained on says
nothing about new ones; a general row that was trained on hides forgetting. Rows that say the same as a training row
leak, and a run does not score them. Rows that share the answer or 13 words with one need not be copies, and
are scored: they leak if, at two looks in a row, their loss has fallen further than that of the others beyond noise.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from engine.basics.statistics import Estimate, change, ratio
from engine.flags import actions
from engine.flags.flag import Flag, Level
from engine.flags.history import History
from engine.flags.multiplicity import HITS_IN_A_ROW, level_at, streak

# Share of a suite's rows from which a leak is more than worth knowing.
LEVELS: dict[Level, float] = {"info": 0.0, "warn": 0.01, "critical": 0.1}
# Kinds of overlap that count as a leak only if the results show it, and their names in messages.
UNCERTAIN_KINDS = {"answer": "by the answer", "13-gram": "by 13 words"}


class Hit(Protocol):
    """A row of a suite that overlaps with training data; `engine.data.overlap.Leak` is one."""

    @property
    def id(self) -> str: ...

    @property
    def kind(self) -> str: ...  # exact, near, answer or 13-gram


def leak(
    suite: str,
    ids: Sequence[str],
    hits: Sequence[Hit],
    scored: Collection[str],
    history: History | None = None,
) -> Flag | None:
    """Return the flag if any of `ids`, the rows of a suite that were searched, is among the hits; None otherwise.

    `scored`: ids of the rows that the run scores. With a history of them, `effect` is how much too low the hits among
    them make the suite's loss, in nats per token at the last look: how much more they fell since step 0 than the
    rest did, times their share of the tokens. With fewer than two hits among them, or before a first look, it is
    the share of the rows that overlap.
    """
    among = set(ids)
    kinds = {hit.id: hit.kind for hit in hits if hit.id in among}
    if not kinds:
        return None
    scored_hits = kinds.keys() & set(scored)
    looks = _hit_looks(history, scored_hits) if history else []
    is_shown = streak([look.is_beyond_noise for look in looks]) >= HITS_IN_A_ROW
    leaks = sum(kind not in UNCERTAIN_KINDS or (is_shown and id in scored_hits) for id, kind in kinds.items())
    level: Level = (
        [name for name, least in LEVELS.items() if leaks >= least * len(ids)][-1] if leaks else "info"
    )
    last = looks[-1] if looks else None
    effect, lo, hi = len(kinds) / len(ids), math.nan, math.nan
    if last and last.inside.n > 1:
        effect, (lo, hi) = last.flatters, last.interval()
    return Flag(
        flag="leak",
        level=level,
        step=last.step if last else 0,
        since_step=0,
        suite=suite,
        effect=effect,
        lo=lo,
        hi=hi,
        n=len(ids),
        looks=len(looks),
        message=" ".join(
            [
                _overlap_sentence(suite, ids, kinds),
                _scored_sentence(kinds, scored_hits, is_shown),
                *(last.sentences() if last else []),
            ]
        ),
        actions=actions.leak(suite, bool(scored_hits)),
        per=history.per if history else "token",
    )


def _overlap_sentence(suite: str, ids: Sequence[str], kinds: dict[str, str]) -> str:
    counts = Counter(UNCERTAIN_KINDS.get(kind, kind) for kind in kinds.values())
    kinds_text = ", ".join(f"{count} {kind}" for kind, count in sorted(counts.items(), reverse=True))
    share = len(kinds) / len(ids)
    name = "held-out" if suite == "heldout" else suite
    return f"{len(kinds)} of {len(ids)} {name} rows overlap with training data ({share:.1%}: {kinds_text})."


def _scored_sentence(kinds: dict[str, str], scored_hits: Collection[str], is_shown: bool) -> str:
    """Report how many of the rows are scored."""
    skipped = len(kinds) - len(scored_hits)
    if not scored_hits:
        return "It is not scored." if skipped == 1 else "They are not scored."
    one = len(scored_hits) == 1
    certain = is_shown or any(kinds[id] not in UNCERTAIN_KINDS for id in scored_hits)
    why = "" if certain else ", since it need not be a copy" if one else ", since they need not be copies"
    who = len(scored_hits) if skipped else "It" if one else "They"
    scored = f"{who} {'is' if one else 'are'} scored{why}."
    return f"{skipped} {'is' if skipped == 1 else 'are'} not scored, {scored}" if skipped else scored


@dataclass(frozen=True)
class _Look:
    """The hits of a suite and its other rows at one look; losses and changes since step 0 in nats per token."""

    look: int
    step: int
    everything: float  # loss
    without: float  # loss without the hits
    inside: Estimate  # change of the hits
    outside: Estimate  # change of the others
    weight: float  # of the hits among the tokens

    @property
    def difference(self) -> Estimate:
        """How much further the hits' loss fell."""
        inside, outside = self.inside, self.outside
        se, n = math.hypot(outside.se, inside.se), min(inside.n, outside.n)
        return Estimate(outside.value - inside.value, se, n, min(inside.df, outside.df))

    @property
    def flatters(self) -> float:
        return self.weight * self.difference.value

    def interval(self) -> tuple[float, float]:
        """Return the 95% interval of `flatters`."""
        lo, hi = self.difference.interval()
        return self.weight * lo, self.weight * hi

    @property
    def is_beyond_noise(self) -> bool:
        return self.difference.p_above(0) < level_at(self.look)

    def sentences(self) -> list[str]:
        lo, hi = self.difference.interval()
        sure = f" (95% interval of the difference {lo:.3f} to {hi:.3f})" if math.isfinite(lo) else ""
        return [
            f"The loss at step {self.step} is {self.everything:.3f} with them and {self.without:.3f} without.",
            f"Since step 0 the loss of the overlapping rows changed by {self.inside.value:+.3f} and that of the others "
            f"by {self.outside.value:+.3f}{sure}.",
        ]


def _hit_looks(history: History, scored_hits: Collection[str]) -> list[_Look]:
    """Return the looks after step 0 that scored hits and other rows, of those that scored all that the last one did: a
    look at fewer rows is less sure, so it ends no streak.
    """
    is_hit = np.array([id in scored_hits for id in history.ids])
    looks = []
    for look in map(int, history.peers(history.looks)[1:]):
        scored = history.scored(history.looks)
        inside, outside = scored & is_hit, scored & ~is_hit
        if not inside.any() or not outside.any():
            continue
        before, now, tokens = history.nll[0], history.nll[look], history.tokens
        looks.append(
            _Look(
                look=look,
                step=history.steps[look],
                everything=ratio(now[scored], tokens[scored]).value,
                without=ratio(now[outside], tokens[outside]).value,
                inside=change(before[inside], now[inside], tokens[inside]),
                outside=change(before[outside], now[outside], tokens[outside]),
                weight=float(tokens[inside].sum() / tokens[scored].sum()),
            )
        )
    return looks
