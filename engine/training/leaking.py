"""Report the overlap of suites with training data: before the first step, and with its effect at the end."""

from __future__ import annotations

from dataclasses import replace

from engine.flags.flag import LEVELS
from engine.flags.leak import leak
from engine.flags.measure import judged
from engine.training.context import context_of
from engine.training.job import Job


def raise_leaks(job: Job, last: bool = False) -> None:
    """Log the flags that are new or got worse, and all of them at the `last` look, with the results without the rows.
    A run that they are to stop never comes here: its data are refused.
    """
    if job.recipe.flags.leak == "off":
        return
    for overlap in job.data.overlaps:
        scored = [document.id for document in job.data.suite(overlap.suite).documents]
        history = job.looks.history(overlap.suite)
        if overlap.suite == "heldout":
            history = judged(history, context_of(job.recipe))
        flag = leak(overlap.suite, overlap.ids, overlap.hits, scored, history)
        if flag is None:
            continue
        written = job.looks.level_of(flag.flag, flag.suite)
        before = LEVELS.index(written) if written else -1
        level = LEVELS[max(before, LEVELS.index(flag.level))]  # what was shown once stays shown
        if level != written or (last and flag.looks):
            flag = replace(flag, level=level, state="confirmed" if level == written else "raised")
            job.looks.add_flag(flag)
            job.report.flag(flag)
