"""Runs that come from another home."""

from __future__ import annotations

from engine.runs import journal
from engine.runs.home import RunDir
from store.journal_lines import Adopted
from store.states import RunState


def paused(run: RunDir, number: int, where: str) -> Adopted | None:
    """Return the line that lets a run which had not ended there wait for somebody who wants it here, as `number`; None
    for one that has ended.
    """
    record = journal.read(run)
    if not (record.waiting or record.active):
        return None
    last = max((attempt.number for attempt in run.attempts()), default=record.attempt)
    why = f"it came from {where}, where it had not ended: finetui resume {number} goes on"
    return Adopted(number, RunState.PAUSED, why, last or None)
