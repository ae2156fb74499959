"""The rules of a run's life, without I/O: what an attempt's remains mean, and what may be asked when."""

from __future__ import annotations

import signal
from dataclasses import dataclass
from typing import Any

from engine.runs.disk import FULL
from engine.runs.journal import RunRecord

# Exit codes of a worker; the contract is in docs/architecture.md.
FINISHED, STOPPED, FAILED, DISK_FULL = 0, 3, 4, 5
MOST_INTERRUPTIONS = 3


@dataclass(frozen=True)
class Remains:
    """What a dead attempt left behind."""

    exit: dict[str, Any] | None = None  # exit.json, the shim's word
    end: dict[str, Any] | None = None  # the `end` line of events.jsonl, the worker's word
    last_words: str | None = None  # last line of stdout.log
    checkpoint: int = -1  # step of the run's last whole checkpoint, -1 without one
    began: bool = True  # False if the attempt never came to a worker


@dataclass(frozen=True)
class Verdict:
    """The journal entry that ends an attempt."""

    kind: str
    fields: dict[str, Any]


def verdict(record: RunRecord, remains: Remains) -> Verdict:
    """What became of the attempt. The worker's own `end` wins over how its process went away."""
    code, signum = _exit(remains)
    status = (remains.end or {}).get("status")
    facts = {"attempt": record.attempt, "exit_code": code, "signal": signum}
    if status is None:
        status = (
            {FINISHED: "finished", STOPPED: "cancelled", DISK_FULL: "paused"}.get(code, "failed")
            if code is not None
            else None
        )
    if status == "finished":
        stopped = (remains.end or {}).get("reason")  # by a flag, before the last step
        return Verdict("ended", {**facts, "state": "finished", **({"reason": stopped} if stopped else {})})
    if status == "failed":
        reason = (
            (remains.end or {}).get("error") or remains.last_words or f"the worker ended with code {code}"
        )
        return Verdict("ended", {**facts, "state": "failed", "reason": reason})
    if record.request == "cancel":
        return Verdict("ended", {**facts, "state": "cancelled", "reason": _hurried(record, signum)})
    if status == "paused":
        full = f"the disk is full: make room, then finetui resume {record.number}"
        return Verdict(
            "ended", {**facts, "state": "paused", "reason": (remains.end or {}).get("reason") or full}
        )
    if record.request == "pause":
        return Verdict("ended", {**facts, "state": "paused", "reason": _hurried(record, signum)})
    if status == "cancelled":
        return interruption(record, remains.checkpoint, "stopped from outside finetui (SIGTERM)", facts)
    if not remains.began:
        return _never_began(record, remains, facts)
    return interruption(record, remains.checkpoint, _lost(signum), facts)


def _never_began(record: RunRecord, remains: Remains, facts: dict[str, Any]) -> Verdict:
    if record.shim is None:  # the daemon was killed between deciding to start and starting
        return not_begun(record, "the daemon was lost just before the start", facts)
    words = remains.last_words or "its supervisor process died"
    if words.startswith(FULL):
        return not_begun(record, words, facts)
    return interruption(record, remains.checkpoint, f"the worker could not be started: {words}", facts)


def not_begun(record: RunRecord, reason: str, facts: dict[str, Any] | None = None) -> Verdict:
    """Requeue a run whose attempt came to nothing through no fault of the run's, so it is not counted."""
    body = {"checkpoint": record.checkpoint, "interruptions": record.interruptions}
    of_attempt = facts or {"attempt": record.attempt}
    return Verdict("interrupted", {**of_attempt, **body, "state": "interrupted", "reason": reason})


def interruption(
    record: RunRecord, checkpoint: int, reason: str, facts: dict[str, Any] | None = None
) -> Verdict:
    """Requeue a run that lost its process, or give it up after three times without a new checkpoint."""
    count = 1 if checkpoint > record.checkpoint else record.interruptions + 1
    body = {**(facts or {"attempt": record.attempt}), "checkpoint": checkpoint, "interruptions": count}
    if count < MOST_INTERRUPTIONS:
        return Verdict("interrupted", {**body, "state": "interrupted", "reason": reason})
    given_up = f"interrupted {count} times in a row without a new checkpoint; the last time: {reason}"
    return Verdict("ended", {**body, "state": "failed", "reason": given_up})


def _exit(remains: Remains) -> tuple[int | None, int | None]:
    body = remains.exit or {}
    return body.get("exit_code"), body.get("signal")


def _lost(signum: int | None) -> str:
    if signum is None:
        return "its process is gone without a trace (machine restarted, or killed from outside)"
    hint = "; out of memory?" if signum == signal.SIGKILL else ""
    return f"its process was killed by {_signal_name(signum)}{hint}"


def _hurried(record: RunRecord, signum: int | None) -> str | None:
    if signum == signal.SIGKILL:
        return f"did not stop in time after {record.request} and was killed; steps after its last checkpoint are lost"
    return None


def _signal_name(signum: int) -> str:
    try:
        return signal.Signals(signum).name
    except ValueError:
        return f"signal {signum}"


# ---- what may be asked ---------------------------------------------------------------------------


def refusal(action: str, record: RunRecord) -> str | None:
    """Why `action` (cancel, pause, resume) cannot be done to this run now; None if it can."""
    number, state = record.number, record.state
    if action == "resume":
        return _resume_refusal(record)
    if record.waiting or (record.active and record.request is None):
        return None
    if record.active:
        if action == "cancel" and record.request == "pause":
            return None
        return f"run #{number} is already stopping ({record.request} was asked); wait for its checkpoint"
    if action == "cancel" and state == "paused":
        return None
    again = "use requeue to run its recipe again" if state == "finished" else "use resume to continue it"
    return f"run #{number} is {state}; there is nothing to {action}; {again}"


def _resume_refusal(record: RunRecord) -> str | None:
    number = record.number
    if record.waiting:
        return f"run #{number} is already queued; `priority` moves it up"
    if record.active and record.request:
        return f"run #{number} is still stopping ({record.request} was asked); resume it when it has stopped"
    if record.active:
        return f"run #{number} is {record.state}; there is nothing to resume"
    if record.state == "finished":
        return f"run #{number} is finished; use requeue to run its recipe again"
    return None
