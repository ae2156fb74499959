"""Runs that come from another home, where no daemon may have lived to record how they ended."""

from __future__ import annotations

import re
from dataclasses import replace

from engine.recipe.kinds import LOGGED
from engine.runs import journal, lifecycle
from engine.runs.home import RunDir
from engine.runs.journal import RunRecord
from engine.runs.logged_program import is_gone, why_gone
from engine.runs.remains import remains_of
from engine.runs.submitted import other_host, submitted_value
from store.journal_lines import Adopted, Ended
from store.line_fields import last_line
from store.lines import End
from store.states import RunState


def line_for(run: RunDir, number: int, where: str) -> Adopted | None:
    """Return the line that says what a run is here, as `number`, which by its journal had not ended `where` it comes
    from: ended, where its own log or its process says so, else paused, for somebody who wants it. None for one whose
    journal says what it is here, too.
    """
    record = journal.read(run)
    if not (record.waiting or record.active):
        return renumbered(record, record.number, number)
    if record.logged or submitted_value(run, LOGGED, bool):
        return _of_logged(run, record, number, where)
    attempt = max([record.attempt, *(attempt.number for attempt in run.attempts())])
    if ended := unrecorded_end(run, record, replace(record, number=number, attempt=attempt)):
        return Adopted(number, ended.state, _for_number(ended.reason, run.number, number), attempt)
    why = f"it came from {where}, where it had not ended: finetui resume {number} goes on"
    return Adopted(number, RunState.PAUSED, why, attempt or None)


def renumbered(record: RunRecord, there: int, here: int) -> Adopted | None:
    """Return the line of a paused run whose reason advises what to do by the number that it had there."""
    reason = _for_number(record.reason, there, here)
    if record.state != RunState.PAUSED or reason == record.reason:
        return None
    return Adopted(here, RunState.PAUSED, reason, record.attempt or None)


def _for_number(reason: str | None, there: int, here: int) -> str | None:
    """Return a reason with the commands that it advises for the number that the run has here."""
    return reason and re.sub(rf"(finetui \w+) {there}\b", rf"\g<1> {here}", reason)


def unrecorded_end(run: RunDir, record: RunRecord, latest: RunRecord) -> Ended | None:
    """Return how the latest attempt ended the run, by what it left; None where the run can go on."""
    if not latest.attempt:
        return None
    remains = remains_of(run, latest)
    lost = record.waiting and latest.attempt == record.attempt  # as the journal has it, which counted that
    if lost and (remains.end is None or remains.end.status != RunState.FINISHED):
        return None
    outcome = lifecycle.verdict(latest, remains)
    return outcome if isinstance(outcome, Ended) else None


def _of_logged(run: RunDir, record: RunRecord, number: int, where: str) -> Adopted:
    """A run that a program logs by itself cannot be resumed, so it has ended here in any case."""
    elsewhere = other_host(run)
    end = last_line(run.attempt(1).events, End)
    if end is None and not is_gone(run, record, elsewhere):
        on = f" on {elsewhere}" if elsewhere else ""
        why = f"it came from {where} without an end in its log: its program was killed, or goes on{on}"
        return Adopted(number, RunState.CANCELLED, why, 1)
    ended = lifecycle.logged_verdict(record, end, why_gone(record, elsewhere))
    return Adopted(number, ended.state, ended.reason, 1)
