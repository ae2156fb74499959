"""What the looks of a run will cost, before it starts: how many there will be, and their share of its time.

The looks are those that the schedule would take if every step and every look took as long as is expected of it. A token
that is scored is read forwards only, which is about a third of what training on it takes; an earlier run of the same
shape has measured it. Answers are written one token at a time, so where they are many and nothing was measured, looks
take longer than predicted. Torch-free.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from engine.basics.wording import duration
from engine.evals.schedule import CERTAIN, EARLY, LATER, Schedule, is_due, is_wanted
from engine.recipe.fields import AUTO, Share, parse_share
from engine.recipe.sections import Evals

FORWARD = 1 / 3  # of the time of training on a token: forwards, and backwards to activations and to weights
SAVES = 0.1  # of the share of the time, from which on dropping something is worth saying


@dataclass(frozen=True)
class SuiteSize:
    """A suite: its examples, the tokens of all, and whether looks score a part of it first."""

    name: str
    examples: int
    tokens: int
    by_part: bool

    def part(self, evals: Evals) -> int:
        """Return the tokens of the part that a look scores first."""
        first = evals.first_part(self.name)
        if not self.by_part or not 0 < first < self.examples:
            return self.tokens
        return round(self.tokens * first / self.examples)

    def limited(self, limit: int) -> SuiteSize:
        """Return the suite with at most `limit` examples."""
        kept = min(self.examples, limit)
        return SuiteSize(self.name, kept, self.tokens * kept // max(1, self.examples), self.by_part)


@dataclass(frozen=True)
class Cost:
    """The looks of a run; `share` is of its time, from 0 to 1."""

    looks: int
    certain: int  # of them, evaluated whatever they cost
    examples: int  # of a whole look
    tokens: int  # read by a whole look, with answers
    least_tokens: int  # read by one that scores a part of every suite
    share: float
    budget: float
    ratio: float  # time for a token scored, of that for one trained on
    measured_by: int | None  # the run that measured it
    savings: Mapping[str, float]  # setting (`evals.every=25%`) to the share that it leaves
    seconds: float | None = None  # of steps and looks, at the speed of the run that measured it

    def time(self) -> str | None:
        """Return in one line how long steps and looks will take; None where nothing was measured."""
        if self.seconds is None:
            return None
        return f"about {duration(self.seconds)} of steps and looks, as fast as run #{self.measured_by}"

    def line(self) -> str:
        """Return the forecast in one line, for people."""
        source = (
            f"as measured by run #{self.measured_by}" if self.measured_by else "estimated from the tokens"
        )
        certain = f" ({self.certain} whatever they cost)" if self.certain < self.looks else ""
        parts = f", or {self.least_tokens:,} of a part" if self.least_tokens < self.tokens else ""
        return (
            f"{self.looks} looks{certain} at {self.examples:,} examples, {self.tokens:,} tokens{parts}; "
            f"about {self.share:.0%} of the time, {source}"
        )

    def warning(self) -> str | None:
        """Return what to drop if the looks will take clearly more than their budget."""
        if self.share <= max(1.2 * self.budget, self.budget + 0.01):
            return None
        less = ", ".join(f"{setting} ({share:.0%})" for setting, share in self.savings.items())
        return (
            f"evaluations will take about {self.share:.0%} of the time, and evals.budget is {self.budget:.0%}: step 0 "
            "and every tenth of the run are always evaluated" + (f"; to spend less: {less}" if less else "")
        )


def predict(
    evals: Evals,
    steps: int,
    tokens_per_step: float,
    suites: Sequence[SuiteSize],
    answer_tokens: int,
    ratio: float = FORWARD,
    measured_by: int | None = None,
) -> Cost:
    """Predict the looks of a run of `steps` steps. `suites` are those at `evals.limit`; `answer_tokens`: of one
    answer with its prompt.
    """

    def share_with(changed: Evals) -> float:
        sizes = [
            suite.limited(changed.limit if suite.name != "samples" else changed.samples) for suite in suites
        ]
        return _looks(changed, steps, tokens_per_step, sizes, answer_tokens, ratio).share

    looks = _looks(evals, steps, tokens_per_step, suites, answer_tokens, ratio)
    savings: dict[str, float] = {}
    together: dict[str, object] = {}
    for setting, changes in _offers(evals):
        share = share_with(evals.model_copy(update=changes))
        if share < (1 - SAVES) * looks.share:
            savings[setting] = share
            together |= changes
    if len(savings) > 1:
        savings["all of these"] = share_with(evals.model_copy(update=together))
    whole = sum(suite.tokens for suite in suites) + evals.generate * answer_tokens
    part = sum(suite.part(evals) for suite in suites) + evals.generate * answer_tokens
    return Cost(
        looks=len(looks.steps),
        certain=looks.certain,
        examples=sum(suite.examples for suite in suites),
        tokens=whole,
        least_tokens=part,
        share=looks.share,
        budget=(parse_share(evals.budget).percent or 0.0) / 100 if evals.every == AUTO else 1.0,
        ratio=ratio,
        measured_by=measured_by,
        savings=savings,
    )


def _offers(evals: Evals) -> Iterator[tuple[str, dict[str, object]]]:
    """Yield settings that make looks fewer or cheaper, and what they change."""
    if evals.every == AUTO:
        yield "evals.every=25%", {"every": "25%"}
    if evals.limit > 100:
        yield "evals.limit=100", {"limit": 100}
    if evals.samples:
        yield "evals.samples=0", {"samples": 0}
    if evals.generate:
        yield "evals.generate=0", {"generate": 0}


@dataclass(frozen=True)
class _Looks:
    steps: list[int]
    certain: int
    share: float  # of the time


def _looks(
    evals: Evals,
    total: int,
    tokens_per_step: float,
    suites: Sequence[SuiteSize],
    answer_tokens: int,
    ratio: float,
) -> _Looks:
    """Run the schedule on a clock that counts tokens trained on."""
    answers = evals.generate * answer_tokens
    whole = ratio * (sum(suite.tokens for suite in suites) + answers)
    least = ratio * (sum(suite.part(evals) for suite in suites) + answers)
    # At the tenths only general text and what the base model wrote are scored in part.
    general = [suite for suite in suites if suite.name in ("general", "samples")]
    tenth = whole - ratio * sum(suite.tokens - suite.part(evals) for suite in general)
    now = 0.0
    schedule = Schedule(
        evals.every, evals.budget, total, 0, share=least / tenth if tenth else 1.0, clock=lambda: now
    )
    taken: list[int] = []
    spent, certain, last = 0.0, 0, 0
    for step in _candidates(evals.every, total):
        now += (step - last) * tokens_per_step
        last = step
        is_certain = schedule.is_certain(step)
        if not (is_certain or schedule.is_due(step)):
            continue
        cost = whole if step in (0, total) else tenth if is_certain else least
        with schedule.timing(step):
            now += cost
        taken.append(step)
        spent, certain = spent + cost, certain + is_certain
    return _Looks(taken, certain, spent / now if now else 0.0)


def _candidates(every: str | int, total: int) -> list[int]:
    """Return the steps at which a run may be evaluated, in order."""
    if every == AUTO:
        found = {*EARLY, *_spread(LATER, total), *_spread(CERTAIN, total)}
        wanted = {step for step in found if is_wanted(step, total) or is_due(step, CERTAIN, total)}
    else:
        wanted = set(_spread(parse_share(every), total))
    return sorted({0, total} | {step for step in wanted if 0 <= step <= total})


def _spread(every: Share, total: int) -> Iterator[int]:
    """Yield the steps that are due `every` so often."""
    if every.percent is None:
        yield from range(0, total + 1, every.of(total))
        return
    interval = total * every.percent / 100
    for count in range(1, math.ceil(100 / every.percent) + 1):
        near = math.ceil(count * interval)
        yield from (step for step in (near - 1, near, near + 1) if is_due(step, every, total))
