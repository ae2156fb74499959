"""The states of a run and the exit codes of a worker: the one place where they stand. Imports nothing heavy."""

from __future__ import annotations

from enum import IntEnum, StrEnum


class RunState(StrEnum):
    """Where a run is in its life. Equal to its word, which is what logs and tables hold."""

    QUEUED = "queued"
    STARTING = "starting"
    RUNNING = "running"
    PAUSED = "paused"
    INTERRUPTED = "interrupted"
    FINISHED = "finished"
    FAILED = "failed"
    CANCELLED = "cancelled"

    @property
    def meaning(self) -> str:
        return _MEANINGS[self]


_MEANINGS = {
    RunState.QUEUED: "waits for its turn; `waiting_for` says for what",
    RunState.STARTING: "an attempt is decided on; its worker is not known yet",
    RunState.RUNNING: "a worker is at it",
    RunState.PAUSED: "stopped on request or by a full disk, with a checkpoint; `finetui resume` goes on",
    RunState.INTERRUPTED: "lost its process, or failed by a transient error; tried again by itself, before all others",
    RunState.FINISHED: "trained to its end, or to where a flag stopped it; its weights are saved",
    RunState.FAILED: "ended with an error, or interrupted three times in a row without a new checkpoint",
    RunState.CANCELLED: "stopped on request; `finetui resume` goes on",
}

# Each state is in one of these, but `paused`: it waits for somebody.
WAITING = frozenset({RunState.QUEUED, RunState.INTERRUPTED})
ACTIVE = frozenset({RunState.STARTING, RunState.RUNNING})  # a worker lives or is about to
ENDED = frozenset({RunState.FINISHED, RunState.FAILED, RunState.CANCELLED})

HELD = "held"  # no state of its own: how a run is shown that waits and is held back


class WorkerExit(IntEnum):
    """How a worker ends. A code never changes its meaning; any other code is a failure as well."""

    FINISHED = 0
    UNFORESEEN = 1  # Python's own for an exception
    CANCELLED = 3
    FAILED = 4
    DISK_FULL = 5

    @property
    def status(self) -> RunState:
        """The word for it in the worker's `end` line."""
        return _STATUS[self]

    @property
    def meaning(self) -> str:
        return _EXITS[self]

    @classmethod
    def of(cls, status: str) -> WorkerExit:
        """The code that goes with a status of the `end` line; `failed` was foreseen. Raises ValueError."""
        codes = {word: code for code, word in _STATUS.items() if code is not cls.UNFORESEEN}
        if status not in codes:
            raise ValueError(f"{status!r} is no status of an `end` line; they are {', '.join(codes)}")
        return codes[RunState(status)]


_STATUS = {
    WorkerExit.FINISHED: RunState.FINISHED,
    WorkerExit.UNFORESEEN: RunState.FAILED,
    WorkerExit.CANCELLED: RunState.CANCELLED,
    WorkerExit.FAILED: RunState.FAILED,
    WorkerExit.DISK_FULL: RunState.PAUSED,
}

_EXITS = {
    WorkerExit.FINISHED: "finished",
    WorkerExit.UNFORESEEN: "failed for a reason that nobody foresaw; stdout.log has the traceback",
    WorkerExit.CANCELLED: "cancelled or paused after saving (asked by SIGTERM)",
    WorkerExit.FAILED: "failed for a reason told to the user (`end` carries it)",
    WorkerExit.DISK_FULL: "paused because the disk is full (`end` says so too, if there was room for it)",
}


def status_of(exit_code: int) -> RunState:
    """What an exit code says of the attempt, where no `end` line does."""
    return WorkerExit(exit_code).status if exit_code in _STATUS else RunState.FAILED


def sql_list(states: frozenset[RunState]) -> str:
    """States for an SQL `IN`: `('interrupted', 'queued')`."""
    return f"({', '.join(repr(str(state)) for state in sorted(states))})"
