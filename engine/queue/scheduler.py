"""Scheduling: which runs start now, and why each other one waits. A pure function, called at every change."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from engine.basics.wording import moment
from engine.queue.gpus import GpuMemory, Gpus
from engine.queue.quiet import NEVER, QuietHours
from engine.runs.journal import RunRecord
from store.states import ENDED, RunState


@dataclass(frozen=True)
class Capacity:
    """The limits of the machine and the configuration."""

    concurrency: int
    devices: tuple[str, ...] = ()  # "gpu0", …; empty on a machine without GPUs, where runs use the CPU
    groups: Mapping[str, int] = field(default_factory=dict)  # how many of a group run at a time
    share: bool = False  # whether runs share a GPU where their memory fits
    gaps_s: float = 0.0  # for which later runs go by one that waits for GPUs or memory
    quiet: QuietHours = NEVER  # in which none starts
    memory: Mapping[str, GpuMemory] = field(default_factory=dict)  # of the GPUs, as it is now
    none_allowed: str | None = None  # why no run may start at all


@dataclass(frozen=True)
class Start:
    run: int
    device: str  # "cpu", or one device for each of the run's processes: "gpu0", "gpu0,gpu1"


@dataclass(frozen=True)
class Decision:
    starts: tuple[Start, ...]
    waiting: dict[int, str]  # run → why it waits


def decide(
    waiting: Sequence[RunRecord],
    active: Sequence[RunRecord],
    capacity: Capacity,
    states: Mapping[int, str],
    now: float,
) -> Decision:
    """Fill the free slots in queue order; each process of a run gets a GPU of its own, if the machine has GPUs, or
    runs share one (engine/queue/gpus.py). A run for which there is no place lets later ones go by for a while, and then
    keeps them waiting, or many small ones would keep a large one waiting for ever.

    `states`: of the runs that others wait for, those that are gone left out; `now`: Unix seconds.
    """
    if capacity.none_allowed:
        return Decision((), dict.fromkeys((run.number for run in waiting), capacity.none_allowed))
    blocked = {run.number: why for run in waiting if (why := condition(run, states, now, capacity.quiet))}
    ordered = sorted((run for run in waiting if run.number not in blocked), key=queue_order)
    full = _of_full_groups(ordered, active, capacity.groups)
    ordered, blocked = [run for run in ordered if run.number not in full], blocked | full
    gpus = Gpus(capacity.devices, capacity.memory, active, share=capacity.share, now=now)
    free_slots = max(0, capacity.concurrency - len(active))
    starts: list[Start] = []
    first: RunRecord | None = None  # that has no place
    for run in ordered:
        if len(starts) >= free_slots and not run.urgent:
            break
        chosen = gpus.choose(run)
        if chosen is None:
            first = first or run
            if now - run.place >= capacity.gaps_s and gpus.has_to_be_freed(run):
                break
            continue
        starts.append(Start(run.number, ",".join(chosen) or "cpu"))
        gpus.take(run, chosen)
    begun = {start.run for start in starts}
    running = sorted([record.number for record in active] + list(begun))
    still_waiting = [run for run in ordered if run.number not in begun]
    limited = free_slots <= len(starts) and not (still_waiting and still_waiting[0].urgent)
    if first is None or limited:
        reason = _full_reason(running, capacity)
    else:
        reason = "; ".join(filter(None, [_running_sentence(running), gpus.why(first)]))
    waiting_for = {run.number: _waiting_reason(ahead, reason) for ahead, run in enumerate(still_waiting)}
    return Decision(tuple(starts), blocked | waiting_for)


def _of_full_groups(
    ordered: Sequence[RunRecord], active: Sequence[RunRecord], groups: Mapping[str, int]
) -> dict[int, str]:
    """Return the runs for which their group has no room, by number, with what they wait for; others go by."""
    room = {group: most - sum(run.group == group for run in active) for group, most in groups.items()}
    blocked = {}
    for run in ordered:
        if run.group not in room or run.urgent:
            continue
        if room[run.group] <= 0:
            most = groups[run.group]
            blocked[run.number] = f"group {run.group} is full: {most} at a time (groups in config.toml)"
        room[run.group] -= 1
    return blocked


def condition(run: RunRecord, states: Mapping[int, str], now: float, quiet: QuietHours = NEVER) -> str | None:
    """Return what a run waits for besides its turn, in words; None where that is nothing."""
    if run.urgent:
        return None
    if run.held:
        return f"it is held; finetui release {run.number} lets it start"
    over = f"finetui release {run.number} starts it all the same"
    for number in run.after:
        state = states.get(number)
        if state is None:
            return f"run #{number}, after which it starts, is gone; {over}"
        if state not in ENDED:
            return f"it starts after run #{number}, which is {state}"
        if state != RunState.FINISHED and not run.after_any:
            return f"it starts after run #{number} has finished, and that is {state}; {over}"
    if run.not_before is not None and now < run.not_before:
        if run.state == RunState.INTERRUPTED:
            when = f"{datetime.fromtimestamp(run.not_before).astimezone():%H:%M:%S %Z}"
            return f"tried again at {when}, or now by finetui release {run.number}"
        return f"it starts at {moment(run.not_before)}"
    if quiet.include(datetime.fromtimestamp(now)):
        return f"nothing starts from {quiet} (quiet_hours in config.toml); finetui start {run.number} does not wait"
    return None


def queue_order(run: RunRecord) -> tuple[bool, bool, int, float, int]:
    """Return the key that sorts runs that are to start now first, then interrupted ones (they had started), then by
    priority, then by place.
    """
    return (not run.urgent, run.state != RunState.INTERRUPTED, -run.priority, run.place, run.number)


def place_before(run: RunRecord, other: RunRecord | None, waiting: Sequence[RunRecord]) -> tuple[int, float]:
    """Return the priority and place with which `run` starts just before `other`, or before all that wait (None)."""
    line = [one for one in sorted(waiting, key=queue_order) if one.number != run.number]
    if other is None:
        other = next((one for one in line if one.state == RunState.QUEUED and not one.urgent), None)
    if other is None:
        return run.priority, run.place
    earlier = [one.place for one in line if one.priority == other.priority and one.place < other.place]
    return other.priority, (max(earlier) + other.place) / 2 if earlier else other.place - 1


def _full_reason(running: list[int], capacity: Capacity) -> str:
    if not running:
        return "nothing may start (concurrency in config.toml)"
    subject = _running_sentence(running)
    count = capacity.concurrency
    return f"{subject}; {count} {'run' if count == 1 else 'runs'} at a time (concurrency in config.toml)"


def _running_sentence(running: list[int]) -> str:
    """Return which runs are running, in words; nothing where none is."""
    if not running:
        return ""
    return f"{_names(running)} {'is' if len(running) == 1 else 'are'} running"


def _names(runs: list[int]) -> str:
    shown = [f"#{run}" for run in runs[:3]] + ([f"{len(runs) - 3} more"] if len(runs) > 3 else [])
    label = "run" if len(runs) == 1 else "runs"
    return f"{label} {shown[0]}" if len(shown) == 1 else f"{label} {', '.join(shown[:-1])} and {shown[-1]}"


def _waiting_reason(ahead: int, reason: str) -> str:
    if ahead == 0:
        return reason
    return f"{reason}; {ahead} {'run' if ahead == 1 else 'runs'} ahead of it"
