"""The rules of a run's life, without I/O: what an attempt's remains mean, and what may be asked when.

Light: the screen asks here which of its keys work, before its first paint. So the lines of the journal, types that take
time to make, are imported where one is written.
"""

from __future__ import annotations

import signal
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from engine.runs.disk import FULL
from store.states import ACTIVE, ENDED, WAITING, RunState, status_of

if TYPE_CHECKING:
    from engine.runs.journal import Request, RunRecord
    from store.exit_file import Exit
    from store.journal_lines import Ended, Interrupted
    from store.lines import End

Action = Literal[
    "cancel", "pause", "resume", "priority", "hold", "release", "start_now", "move", "group", "tag", "note",
    "remove", "clean", "edit",
]  # fmt: skip
OF_WORDS = ("group", "tag", "note")  # which any run takes
OF_PLACE = ("priority", "hold", "release", "start_now", "move")  # actions for which a run has to wait
# What cannot be done to a run that a program logs by itself, in words.
NOT_LOGGED: dict[Action, str] = {
    "pause": "paused", "resume": "resumed", "edit": "edited", "priority": "moved in the queue", "hold": "held",
    "release": "released", "start_now": "started", "move": "moved in the queue",
}  # fmt: skip
MOST_INTERRUPTIONS = 3
BACKOFF = 5  # times as long, each time, is the wait for the next attempt


@dataclass(frozen=True)
class Remains:
    """What a dead attempt left behind."""

    exit: Exit | None = None  # exit.json, the shim's word
    end: End | None = None  # the last line of events.jsonl, the worker's word
    last_words: str | None = None  # last line of stdout.log
    checkpoint: int = -1  # step of the run's last whole checkpoint, -1 without one
    began: bool = True  # False if the attempt never came to a worker


@dataclass(frozen=True)
class Facts:
    """What is known about an attempt however it ended."""

    attempt: int
    exit_code: int | None = None
    signal: int | None = None


def verdict(record: RunRecord, remains: Remains, retry_s: float = 0.0) -> Ended | Interrupted:
    """Decide how the attempt ended, as the line for the journal. The worker's own `end` wins over how its process
    ended. `retry_s`: how long a run that may be hit again waits for its next attempt at first.
    """
    ended = remains.exit
    facts = Facts(record.attempt, ended.exit_code if ended else None, ended.signal if ended else None)
    status, error, reason = _worker_end(remains, facts.exit_code)
    if status == RunState.FINISHED:
        return _ended(facts, RunState.FINISHED, reason or None)  # stopped by a flag, before the last step
    if status == RunState.FAILED:
        message = error or remains.last_words or f"the worker ended with code {facts.exit_code}"
        if remains.end is not None and remains.end.transient and record.request is None:
            return interruption(record, remains.checkpoint, message, facts, retry_s, at_once=False)
        return _ended(facts, RunState.FAILED, message)
    if record.taken_back:
        again = f"its {record.request} was taken back"
        return _interrupted(facts, remains.checkpoint, record.interruptions, again, 0.0)
    if record.request == "cancel":
        return _ended(facts, RunState.CANCELLED, _kill_notice(record, facts.signal) or record.cause)
    if status == RunState.PAUSED:
        full = f"{FULL}: make room, then finetui resume {record.number}"
        return _ended(facts, RunState.PAUSED, reason or full)
    if record.request == "pause":
        return _ended(facts, RunState.PAUSED, _kill_notice(record, facts.signal) or record.cause)
    if status == RunState.CANCELLED:
        return interruption(
            record, remains.checkpoint, "stopped from outside finetui (SIGTERM)", facts, retry_s
        )
    if not remains.began:
        return _never_began(record, remains, facts, retry_s)
    return interruption(record, remains.checkpoint, _lost(facts.signal), facts, retry_s)


def _worker_end(remains: Remains, exit_code: int | None) -> tuple[str | None, str | None, str | None]:
    """(status, error, reason): the worker's last line, else what its exit code says; None where nothing does."""
    end = remains.end
    if end is not None and end.status is not None:
        return end.status, end.error, end.reason
    return None if exit_code is None else status_of(exit_code), None, None


def _ended(
    facts: Facts, state: RunState, reason: str | None, checkpoint: int | None = None, count: int | None = None
) -> Ended:
    from store.journal_lines import Ended

    return Ended(state, facts.attempt, facts.exit_code, facts.signal, checkpoint, count, reason)


def _never_began(record: RunRecord, remains: Remains, facts: Facts, retry_s: float) -> Ended | Interrupted:
    if record.shim is None:  # the daemon was killed between deciding to start and starting
        return not_begun(record, "the daemon was lost just before the start", facts)
    message = remains.last_words or "its supervisor process died"
    if message.startswith(FULL):
        return not_begun(record, message, facts)
    why = f"the worker could not be started: {message}"
    return interruption(record, remains.checkpoint, why, facts, retry_s)


def not_begun(record: RunRecord, reason: str, facts: Facts | None = None) -> Interrupted:
    """Requeue a run whose attempt did not begin through no fault of the run, so it is not counted."""
    facts = facts or Facts(record.attempt)
    return _interrupted(facts, record.checkpoint, record.interruptions, reason, 0.0)


def interruption(
    record: RunRecord,
    checkpoint: int,
    reason: str,
    facts: Facts | None = None,
    retry_s: float = 0.0,
    at_once: bool = True,
) -> Ended | Interrupted:
    """Requeue a run that lost its process, or let it fail after three times without a new checkpoint.

    `at_once`: its first attempt after this need not wait; later ones wait `retry_s`, and each longer than the one
    before: what took the process may still be there.
    """
    facts = facts or Facts(record.attempt)
    count = 1 if checkpoint > record.checkpoint else record.interruptions + 1
    if count < MOST_INTERRUPTIONS:
        waits = count - 1 if at_once else count
        return _interrupted(
            facts, checkpoint, count, reason, retry_s * BACKOFF ** (waits - 1) if waits else 0.0
        )
    given_up = f"interrupted {count} times in a row without a new checkpoint; the last time: {reason}"
    return _ended(facts, RunState.FAILED, given_up, checkpoint, count)


def _interrupted(facts: Facts, checkpoint: int, count: int, reason: str, wait_s: float) -> Interrupted:
    from store.journal_lines import Interrupted

    return Interrupted(
        facts.attempt,
        facts.exit_code,
        facts.signal,
        checkpoint,
        count,
        RunState.INTERRUPTED,
        reason,
        wait_s or None,
    )


def _lost(signum: int | None) -> str:
    if signum is None:
        return "its process is gone without a trace (machine restarted, or killed from outside)"
    hint = "; out of memory?" if signum == signal.SIGKILL else ""
    return f"its process was killed by {signal_name(signum)}{hint}"


def _kill_notice(record: RunRecord, signum: int | None) -> str | None:
    if signum == signal.SIGKILL:
        return f"did not stop in time after {record.request} and was killed; steps after its last checkpoint are lost"
    return None


def signal_name(signum: int) -> str:
    try:
        return signal.Signals(signum).name
    except ValueError:
        return f"signal {signum}"


# ---- which actions are allowed -------------------------------------------------------------------


def refusal(action: Action, record: RunRecord) -> str | None:
    """Return why `action` cannot be done to this run now; None if it can."""
    if why := refused(action, record.number, record.state, record.request, logged=record.logged):
        return why
    if action == "edit" and record.attempt:
        return _begun(record.number)
    if action == "hold" and record.held:
        return f"run #{record.number} is held already"
    if action == "release" and not (record.held or record.after or record.not_before):
        return f"nothing holds run #{record.number} back but its place in the queue"
    return None


def refused(
    action: Action, number: int, state: str, request: Request | None = None, *, logged: bool = False
) -> str | None:
    """Return the same for a run whose number and state are known, and whether it was asked to stop, where that is
    known. The daemon may know more than the caller: what is allowed here may still be refused there, not the reverse.
    """
    if logged and action in NOT_LOGGED:
        return not_ours(number, NOT_LOGGED[action])
    if logged and action == "cancel" and state not in ACTIVE:
        return f"run #{number} is {state}; there is nothing to cancel"
    if action == "resume":
        return _resume_refused(number, state, request)
    if action in OF_WORDS:
        return None
    if action == "edit":
        return None if state == RunState.QUEUED else _begun(number)
    if action in ("remove", "clean"):
        return _remove_refused(action, number, state)
    if action in OF_PLACE:
        return _place_refused(number, state)
    if state in WAITING or (state in ACTIVE and request is None):
        return None
    if state in ACTIVE:
        if action == "cancel" and request == "pause":
            return None
        return f"run #{number} is already stopping ({request} was asked); wait until it has stopped"
    if action == "cancel" and state == RunState.PAUSED:
        return None
    again = "requeue runs its recipe again" if state == RunState.FINISHED else "use resume to continue it"
    return f"run #{number} is {state}; there is nothing to {action}; {again}"


def not_ours(number: int, what: str) -> str:
    """Return in a sentence why something cannot be done to a run that a program logs by itself. `what`: a verb."""
    return f"run #{number} is logged by its own program, and cannot be {what} here"


def logged_verdict(record: RunRecord, end: End | None, why: str) -> Ended:
    """Return how a run ended that a program logs by itself: by its last line, else by what is known of its process.
    `why`: it is gone, in words.
    """
    facts = Facts(record.attempt)
    if end is not None:
        state = next((state for state in ENDED if state == end.status), RunState.FINISHED)
        return _ended(facts, state, end.error or end.reason)
    if record.request == "cancel":
        return _ended(facts, RunState.CANCELLED, record.cause)
    return _ended(facts, RunState.FAILED, why)


def _resume_refused(number: int, state: str, request: Request | None) -> str | None:
    if state in WAITING:
        return f"run #{number} is already queued; a higher priority moves it up"
    if state in ACTIVE and request:
        return f"run #{number} is still stopping ({request} was asked); resume it when it has stopped"
    if state in ACTIVE:
        return f"run #{number} is {state}; there is nothing to resume"
    if state == RunState.FINISHED:
        return f"run #{number} is finished; use requeue to run its recipe again"
    return None


def _begun(number: int) -> str:
    return f"run #{number} has begun with its recipe; finetui clone {number} key=value makes a new run of it"


def _remove_refused(action: str, number: int, state: str) -> str | None:
    if state in WAITING | ACTIVE:
        return f"run #{number} is {state}: cancel or pause it before you {action} it"
    return None


def _place_refused(number: int, state: str) -> str | None:
    if state in WAITING:
        return None
    return f"run #{number} is {state}; only a run that waits has a place in the queue"
