"""What the evaluations of a run have found so far, over all its attempts."""

from __future__ import annotations

from typing import Any

import numpy as np

from engine.evals.score import Scores
from engine.flags.flag import History
from engine.home import RunDir
from engine.log import read_log


class Looks:
    """Scores by suite and step, and the highest level at which each flag was written."""

    def __init__(self) -> None:
        self._scores: dict[str, dict[int, Scores]] = {}
        self.raised: dict[str, str] = {}

    def add(self, step: int, suite: str, scores: Scores) -> None:
        self._scores.setdefault(suite, {})[step] = scores

    def has(self, step: int) -> bool:
        """Whether the evaluation of a step is there, all its suites."""
        return bool(self._scores) and all(step in by_step for by_step in self._scores.values())

    def history(self, suite: str) -> History | None:
        """A suite over all steps; None if it was not evaluated at step 0."""
        by_step = self._scores.get(suite, {})
        if 0 not in by_step:
            return None
        steps = sorted(by_step)
        first = by_step[0]
        return History(
            suite,
            tuple(steps),
            tuple(first.ids),
            np.stack([by_step[step].nll for step in steps]),
            first.tokens,
        )


def read_back(run: RunDir, attempt: int, from_step: int) -> Looks:
    """What the attempts before `attempt` wrote up to `from_step`, superseded evaluations left out."""
    entries: list[dict[str, Any]] = []
    for earlier in run.attempts():
        if earlier.number >= attempt:
            continue
        for entry in read_log(earlier.events):
            if entry.get("kind") == "resume":
                entries = [old for old in entries if old["step"] <= entry["from_step"]]
            elif entry.get("kind") in ("eval", "flag"):
                entries.append(entry)
    looks = Looks()
    for entry in entries:
        if entry["step"] > from_step:
            continue
        if entry["kind"] == "flag":
            looks.raised[entry["flag"]] = entry["level"]
        else:
            looks.add(entry["step"], entry["suite"], _scores(entry["examples"]))
    return looks


def _scores(examples: dict[str, list[Any]]) -> Scores:
    return Scores(examples["id"], *(np.array(examples[key]) for key in ("nll", "tokens", "right")))
