"""Which looks at which examples are compared: suites, slices and steps of a run, and what is chosen of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

from finetui.errors import StoreError

# Suites, in the order in which they are shown; others follow.
FIRST = ("heldout", "general", "seen", "samples")
SUITES = {"heldout": "held-out", "samples": "samples (the base model's own texts)"}


@dataclass(frozen=True)
class Looks:
    """The evaluations of a run whose examples are known one by one: rows of the named query `looks`."""

    run: int
    rows: Sequence[dict[str, Any]]

    def suites(self) -> list[str]:
        names = {row["suite"] for row in self.rows}
        return sorted(names, key=lambda name: (FIRST.index(name) if name in FIRST else len(FIRST), name))

    def slices(self, suite: str) -> list[str]:
        names = dict.fromkeys(row["slice"] for row in self.rows if row["suite"] == suite and row["slice"])
        return list(names) if len(names) > 1 else []

    def counts(self, suite: str, slice: str | None) -> dict[int, int]:
        """Examples that were scored, by step, in order; a look may score a part of a suite."""
        counts: dict[int, int] = {}
        for row in self.rows:
            if row["suite"] == suite and row["n"] and slice in (None, row["slice"]):
                counts[row["step"]] = counts.get(row["step"], 0) + row["n"]
        return dict(sorted(counts.items()))

    def last(self, suite: str) -> int:
        """The step that the run stands at: of one that a flag stopped, that of its weights."""
        kept = (row["step"] for row in self.rows if row["suite"] == suite and row["kept"] and row["n"])
        return next(kept, max(self.counts(suite, None)))


@dataclass(frozen=True)
class Selection:
    """What is asked for; None: what is usual, which is all of the first suite, from the base model to the last look."""

    suite: str | None = None
    slice: str | None = None
    step_before: int | None = None
    step_after: int | None = None


@dataclass(frozen=True)
class Compared:
    """The examples of a suite or slice at two looks: of one run, or of the run `before` and `run`."""

    run: int
    before: int
    suite: str
    slice: str | None
    step_before: int
    step_after: int
    most: int  # examples that a look at them has scored

    @property
    def arguments(self) -> dict[str, Any]:
        """Those of the named query `changes`."""
        names = ("run", "before", "suite", "slice", "step_before", "step_after")
        return {name: getattr(self, name) for name in names}

    def words(self) -> str:
        """`step 0 (base model) → step 400`; of two runs `#1 step 400 → #2 step 400`."""
        if self.before != self.run:
            return f"#{self.before} step {self.step_before} → #{self.run} step {self.step_after}"
        base = " (base model)" if self.step_before == 0 else ""
        return f"step {self.step_before}{base} → step {self.step_after}"


def suites(after: Looks, before: Looks) -> list[str]:
    """The suites that can be compared: of one run those with two looks, of two runs those that both have scored after
    step 0 (there both are a base model, and a few-shot baseline has no other look).
    """
    if after.run == before.run:
        return [name for name in after.suites() if len(after.counts(name, None)) > 1]
    both = (after, before)
    return [name for name in after.suites() if all(max(of.counts(name, None), default=0) > 0 for of in both)]


def resolve(selection: Selection, after: Looks, before: Looks) -> Compared:
    """What is compared. Raises StoreError with a sentence that says what there is instead."""
    names, run, alone = suites(after, before), after.run, after.run == before.run
    if not names:
        raise StoreError(_why_none(after, before), "refused")
    suite = _one_of(selection.suite, names, f"run #{run} has no suite {selection.suite} to compare")
    if selection.slice is not None:
        _one_of(
            selection.slice,
            after.slices(suite),
            f"suite {suite} of run #{run} has no slice {selection.slice}",
        )
    ends, starts = after.counts(suite, selection.slice), before.counts(suite, selection.slice)
    if not starts:
        raise StoreError(f"run #{before.run} has no slice {selection.slice} of suite {suite}", "refused")
    base = min(starts) if alone else before.last(suite)
    last = after.last(suite)
    if last not in ends or (alone and last <= base):
        last = max(ends)
    step_after = _step(selection.step_after, ends, last, suite, run)
    step_before = _step(selection.step_before, starts, base, suite, before.run)
    if alone and step_before >= step_after:
        raise StoreError(
            f"step {step_before} is not before step {step_after}; give an earlier and a later look", "refused"
        )
    return Compared(run, before.run, suite, selection.slice, step_before, step_after, max(ends.values()))


def nearest(selection: Selection, after: Looks, before: Looks) -> Selection:
    """The selection without what these runs do not have."""
    suite = selection.suite
    if suite is None or suite not in suites(after, before):
        return Selection()
    if selection.slice not in after.slices(suite):
        selection = replace(selection, slice=None)
    ends, starts = after.counts(suite, selection.slice), before.counts(suite, selection.slice)
    if selection.step_after not in ends:
        selection = replace(selection, step_after=None)
    end = after.last(suite) if selection.step_after is None else selection.step_after
    start = selection.step_before
    if start not in starts or (after.run == before.run and start is not None and start >= end):
        selection = replace(selection, step_before=None)
    return selection


def _why_none(after: Looks, before: Looks) -> str:
    if after.run != before.run:
        return f"runs #{before.run} and #{after.run} have scored no suite in common"
    if not after.rows:
        return f"run #{after.run} has scored no examples yet"
    return f"run #{after.run} has scored its examples only once: there is nothing to compare with yet"


def _one_of(name: str | None, names: Sequence[str], sentence: str) -> str:
    if name is None:
        return names[0]
    if name in names:
        return name
    raise StoreError(f"{sentence}; it has {', '.join(names) or 'no slices'}", "refused")


def _step(step: int | None, steps: dict[int, int], usual: int, suite: str, run: int) -> int:
    if step is None:
        return usual if usual in steps else max(steps)
    if step in steps:
        return step
    there = ", ".join(map(str, steps))
    raise StoreError(
        f"suite {suite} of run #{run} was not scored at step {step}; it was at {there}", "refused"
    )
