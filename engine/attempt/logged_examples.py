"""Flags from the examples that a program of the user's own has scored, by the detectors of our own runs."""

from __future__ import annotations

from functools import partial

import numpy as np

from engine.flags.elsewhere import with_advice
from engine.flags.evidence import Evidence
from engine.flags.flag import Flag
from engine.flags.history import Context, History
from engine.flags.standing import standing_flags, today
from engine.flags.states import follow
from store.lines import Eval

# Detectors look up advice by the method of our recipes; `with_advice` puts other advice in its place.
_CONTEXT = Context(method="full", lr=1e-5, replay=0.0)
SUITES = ("heldout", "seen", "general")


class ExampleFlags:
    """The flags of one run, as its sets of examples are scored again."""

    def __init__(self) -> None:
        self._scores: dict[str, dict[int, dict[str, tuple[float, int]]]] = {}  # suite, step, id → nll, tokens
        self._stated: dict[tuple[str, str], Flag] = {}

    def add(self, line: Eval) -> None:
        """Take a set that was scored."""
        examples = line.examples
        rows = zip(map(str, examples.id), examples.nll, examples.tokens, strict=False)
        scored = {id: (float("nan") if nll is None else nll, tokens) for id, nll, tokens in rows}
        self._scores.setdefault(str(line.suite), {})[line.step] = scored

    def stated(self, flag: Flag) -> None:
        """Remember a flag as it was written."""
        self._stated[flag.flag, flag.suite] = flag

    def flags(self, step: int) -> list[Flag]:
        """Return what a look, all of whose sets were added, makes of every flag."""
        histories = {suite: self._history(suite, step) for suite in SUITES}
        heldout, seen, general = (histories[suite] for suite in SUITES)
        if general is not None and general.steps[0] != 0:  # what was forgotten is told by the model at step 0
            general = None
        if heldout is not None and seen is not None and seen.steps != heldout.steps:
            seen = None  # a rise of one is explained by the other at the same steps
        nothing = np.empty(0)
        evidence = Evidence(heldout, seen, general, None, None, (), 1, nothing, nothing)
        mine = [flag for flag in self._stated.values() if flag.suite in SUITES]
        found = [with_advice(flag) for flag in standing_flags(evidence, _CONTEXT, mine)]
        now = [flag for flag in mine if histories.get(flag.suite) is not None]
        looks = max((one.looks for one in histories.values() if one is not None), default=0)
        lines = follow(now, found, step, looks, partial(today, evidence=evidence, found=found))
        for flag in lines:
            self.stated(flag)
        return lines

    def _history(self, suite: str, step: int) -> History | None:
        """Return a set over its steps up to this one, where it was scored; None if it was not, or is all NaN."""
        by_step = {at: scored for at, scored in self._scores.get(suite, {}).items() if at <= step}
        if step not in by_step:
            return None
        steps = sorted(by_step)
        first = by_step[steps[0]]
        ids = [id for id, (nll, _) in first.items() if np.isfinite(nll)]
        if not ids:
            return None
        missing = (float("nan"), 0)
        nll = np.array([[by_step[at].get(id, missing)[0] for id in ids] for at in steps], dtype=np.float64)
        whole = np.logical_or.reduce(
            np.isfinite(nll), axis=1
        )  # a look without any of these examples says nothing
        if not whole[-1]:
            return None
        tokens = np.array([first[id][1] for id in ids], dtype=np.int64)
        kept = tuple(at for at, has in zip(steps, whole, strict=True) if has)
        return History(suite, kept, tuple(ids), np.where(np.isfinite(nll), nll, np.nan)[whole], tokens)
