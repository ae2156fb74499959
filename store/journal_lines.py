"""The lines of `journal.jsonl`, the daemon's word about one run. Imports nothing heavy: shim and screen use them.

Every line has `kind` and `t` besides these fields. The last `state` in the file is the run's state.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar

from store.line_fields import LEFT_OUT, Among, Small
from store.states import RunState

Word = Annotated[str, Among(frozenset(RunState))]

# Fields that several kinds have.
State = Annotated[Word | None, "the run's state from here on", LEFT_OUT]
Reason = Annotated[str | None, "why, where there is more to say", LEFT_OUT]
Attempt = Annotated[Small | None, "which process life of the run, from 1", LEFT_OUT]
Device = Annotated[str | None, "`cpu`, or a GPU for each process: `gpu0,gpu1`", LEFT_OUT]
Threads = Annotated[int | None, "threads that each worker may use", LEFT_OUT]
Pid = Annotated[int | None, "process id", LEFT_OUT]
StartTime = Annotated[int | None, "when the process began, in clock ticks since boot", LEFT_OUT]
Boot = Annotated[str | None, "the boot that pid and start time belong to", LEFT_OUT]
ExitCode = Annotated[int | None, "of the worker; null if a signal killed it"]
Signal = Annotated[int | None, "that killed the worker; null if it ended by itself"]
Checkpoint = Annotated[int | None, "step of the last whole checkpoint, -1 without one", LEFT_OUT]
Interruptions = Annotated[int | None, "how many in a row without a new checkpoint", LEFT_OUT]
By = Annotated[str | None, "the assistant that asked; left out of what people ask", LEFT_OUT]


@dataclass(frozen=True, slots=True)
class Submitted:
    """The run was accepted."""

    kind: ClassVar[str] = "submitted"
    state: State = None
    priority: Annotated[Small, "higher starts first"] = 0
    processes: Annotated[int, "that each attempt runs in"] = 1
    reason: Reason = None
    gpu_memory: Annotated[int | None, "bytes of a GPU that each process needs", LEFT_OUT] = None
    exclusive: Annotated[bool, "it shares its GPUs with no other run", LEFT_OUT] = False
    logged: Annotated[bool | None, "a program that is not ours logs it by itself", LEFT_OUT] = None
    by: By = None
    seconds: Annotated[float | None, "that it will take, as predicted", LEFT_OUT] = None


@dataclass(frozen=True, slots=True)
class Starting:
    """An attempt is decided on; written before its shim is started."""

    kind: ClassVar[str] = "starting"
    attempt: Annotated[Small, "which process life of the run, from 1"]
    state: State = None
    device: Device = None
    threads: Threads = None
    reason: Reason = None
    price: Annotated[float | None, "what an hour of its devices costs", LEFT_OUT] = None


@dataclass(frozen=True, slots=True)
class Started:
    """The shim of the attempt runs; who it is."""

    kind: ClassVar[str] = "started"
    attempt: Attempt = None
    device: Device = None
    threads: Threads = None
    pid: Pid = None
    start_time: StartTime = None
    boot_id: Boot = None
    state: State = None
    reason: Reason = None


@dataclass(frozen=True, slots=True)
class Running:
    """The worker runs; who it is."""

    kind: ClassVar[str] = "running"
    attempt: Attempt = None
    state: State = None
    reason: Reason = None
    pid: Pid = None
    start_time: StartTime = None
    boot_id: Boot = None
    device: Device = None


@dataclass(frozen=True, slots=True)
class Cancel:
    """Somebody cancels the run: at once while it waits; of an active one asked, and the state stays."""

    kind: ClassVar[str] = "cancel"
    state: State = None
    reason: Reason = None
    cause: Annotated[str | None, "why, where nobody asked", LEFT_OUT] = None
    by: By = None


@dataclass(frozen=True, slots=True)
class Pause:
    """Somebody pauses the run: at once while it waits; of an active one asked, and the state stays."""

    kind: ClassVar[str] = "pause"
    state: State = None
    reason: Reason = None
    cause: Annotated[str | None, "why, where nobody asked", LEFT_OUT] = None
    by: By = None


@dataclass(frozen=True, slots=True)
class Requeued:
    """Somebody resumed the run; of one that was asked to stop and has not yet: that is taken back, the state stays."""

    kind: ClassVar[str] = "requeued"
    state: State = None
    reason: Reason = None
    interruptions: Interruptions = None


@dataclass(frozen=True, slots=True)
class Interrupted:
    """The attempt lost its process, or failed by a transient error; the run waits for the next one."""

    kind: ClassVar[str] = "interrupted"
    attempt: Attempt = None
    exit_code: ExitCode = None
    signal: Signal = None
    checkpoint: Checkpoint = None
    interruptions: Interruptions = None
    state: State = None
    reason: Reason = None
    retry_s: Annotated[float | None, "seconds until it is tried again", LEFT_OUT] = None


@dataclass(frozen=True, slots=True)
class Ended:
    """The attempt is over and the run with it, or paused."""

    kind: ClassVar[str] = "ended"
    state: State = None
    attempt: Attempt = None
    exit_code: ExitCode = None
    signal: Signal = None
    checkpoint: Checkpoint = None
    interruptions: Interruptions = None
    reason: Reason = None


@dataclass(frozen=True, slots=True)
class Priority:
    """Somebody moved the run in the queue."""

    kind: ClassVar[str] = "priority"
    priority: Annotated[Small, "higher starts first"]
    state: State = None
    reason: Reason = None


@dataclass(frozen=True, slots=True)
class Moved:
    """Somebody gave the run another place in the queue."""

    kind: ClassVar[str] = "moved"
    priority: Annotated[Small, "higher starts first"]
    place: Annotated[float, "among runs of one priority, the lower starts first; at first when it was queued"]
    state: State = None
    reason: Reason = None


@dataclass(frozen=True, slots=True)
class Conditions:
    """What the run waits for besides its turn: all of it, from here on."""

    kind: ClassVar[str] = "conditions"
    held: Annotated[bool, "waits until somebody releases it"] = False
    after: Annotated[list[int] | None, "runs that have to finish first", LEFT_OUT] = None
    after_any: Annotated[bool, "they may also fail or be cancelled"] = False
    not_before: Annotated[float | None, "the time from which it may start, Unix seconds", LEFT_OUT] = None
    state: State = None
    reason: Reason = None


@dataclass(frozen=True, slots=True)
class StartNow:
    """Somebody wants the run to start whatever it waits for, and however many others run."""

    kind: ClassVar[str] = "start_now"
    state: State = None
    reason: Reason = None


@dataclass(frozen=True, slots=True)
class Tagged:
    """The tags of the run, all of them, from here on."""

    kind: ClassVar[str] = "tagged"
    tags: Annotated[list[str] | None, "words, in order"] = None
    state: State = None
    reason: Reason = None


@dataclass(frozen=True, slots=True)
class Grouped:
    """Somebody put the run into a group, of which so many run at a time as config.toml says."""

    kind: ClassVar[str] = "grouped"
    group: Annotated[str | None, "its name; null: none"] = None
    state: State = None
    reason: Reason = None


@dataclass(frozen=True, slots=True)
class Note:
    """Somebody wrote a note on the run."""

    kind: ClassVar[str] = "note"
    text: Annotated[str, "the note"] = ""
    state: State = None
    reason: Reason = None


@dataclass(frozen=True, slots=True)
class Named:
    """Somebody gave the run another name; `run.json` has it."""

    kind: ClassVar[str] = "named"
    name: Annotated[str, "the new name"] = ""
    state: State = None
    reason: Reason = None


@dataclass(frozen=True, slots=True)
class Edited:
    """Somebody changed the recipe of the run before its first attempt; `run.json` has the new one."""

    kind: ClassVar[str] = "edited"
    changes: Annotated[list[str] | None, "what changed: `train.lr: 0.0002 → 0.0001`"] = None
    state: State = None
    reason: Reason = None
    gpu_memory: Annotated[int | None, "bytes of a GPU that each process needs now", LEFT_OUT] = None
    name: Annotated[str | None, "the run's name now", LEFT_OUT] = None


@dataclass(frozen=True, slots=True)
class Adopted:
    """The directory was found: moved in or copied, or with a journal that no longer says what became of the run."""

    kind: ClassVar[str] = "adopted"
    run: Annotated[Small, "number of the run here"]
    state: State = None
    reason: Reason = None
    attempt: Attempt = None


@dataclass(frozen=True, slots=True)
class Other:
    """A kind that a later finetui writes: its state counts all the same."""

    kind: ClassVar[str] = ""
    state: State = None
    reason: Reason = None
    attempt: Attempt = None


JournalLine = (
    Submitted
    | Starting
    | Started
    | Running
    | Cancel
    | Pause
    | Requeued
    | Interrupted
    | Ended
    | Priority
    | Moved
    | Conditions
    | StartNow
    | Tagged
    | Grouped
    | Note
    | Named
    | Edited
    | Adopted
    | Other
)
KINDS: tuple[type[JournalLine], ...] = (
    Submitted, Starting, Started, Running, Cancel, Pause, Requeued, Interrupted, Ended, Priority, Moved, Conditions,
    StartNow, Tagged, Grouped, Note, Named, Edited, Adopted,
)  # fmt: skip
# Kinds whose lines always carry a state.
OF_STATE = (Submitted, Starting, Running, Cancel, Pause, Requeued, Interrupted, Ended)
JOURNAL: dict[str, type[JournalLine]] = {line.kind: line for line in KINDS}
