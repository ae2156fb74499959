"""Scheduling: which runs start now, and why each other one waits. A pure function, called at every change."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from engine.runs.journal import RunRecord
from store.states import RunState


@dataclass(frozen=True)
class Capacity:
    """The limits of the machine and the configuration."""

    concurrency: int
    devices: tuple[str, ...] = ()  # "gpu0", …; empty on a machine without GPUs, where runs use the CPU


@dataclass(frozen=True)
class Start:
    run: int
    device: str  # "cpu", or one device for each of the run's processes: "gpu0", "gpu0,gpu1"


@dataclass(frozen=True)
class Decision:
    starts: tuple[Start, ...]
    waiting: dict[int, str]  # run → why it waits


def decide(waiting: Sequence[RunRecord], active: Sequence[RunRecord], capacity: Capacity) -> Decision:
    """Fill the free slots in queue order; each process of a run gets a GPU of its own, if the machine has GPUs."""
    ordered = sorted(waiting, key=_queue_order)
    taken_devices = {device for record in active for device in (record.device or "").split(",")}
    free_devices = [device for device in capacity.devices if device not in taken_devices]
    free_slots = max(0, capacity.concurrency - len(active))
    starts: list[Start] = []
    for run in ordered[:free_slots]:
        # A run that needs more GPUs than there are starts all the same: its worker reports that.
        gpus = min(run.processes, len(capacity.devices))
        if gpus > len(free_devices):
            break  # later runs wait as well, or many small ones would keep a large one waiting
        starts.append(Start(run.number, ",".join(free_devices[:gpus]) or "cpu"))
        free_devices = free_devices[gpus:]
    running = sorted([record.number for record in active] + [start.run for start in starts])
    still_waiting = ordered[len(starts) :]
    reason = _full_reason(running, capacity, limited=free_slots <= len(starts))
    if still_waiting and free_devices and free_slots > len(starts):
        first = still_waiting[0]
        need = f"#{first.number} needs {first.processes} GPUs, free: {len(free_devices)}"
        reason = f"{_running_sentence(running)}; {need}"
    waiting_for = {run.number: _waiting_reason(ahead, reason) for ahead, run in enumerate(still_waiting)}
    return Decision(tuple(starts), waiting_for)


def _queue_order(run: RunRecord) -> tuple[bool, int, float, int]:
    """Return the key that sorts interrupted runs first (they had started), then by priority, then by arrival."""
    return (run.state != RunState.INTERRUPTED, -run.priority, run.queued_at, run.number)


def _full_reason(running: list[int], capacity: Capacity, limited: bool) -> str:
    if not running:
        return "nothing may start (concurrency in config.toml)"
    subject = _running_sentence(running)
    if not limited:
        return f"{subject}; every GPU is taken, 1 run per GPU"
    count = capacity.concurrency
    return f"{subject}; {count} {'run' if count == 1 else 'runs'} at a time (concurrency in config.toml)"


def _running_sentence(running: list[int]) -> str:
    return f"{_names(running)} {'is' if len(running) == 1 else 'are'} running"


def _names(runs: list[int]) -> str:
    shown = [f"#{run}" for run in runs[:3]] + ([f"{len(runs) - 3} more"] if len(runs) > 3 else [])
    label = "run" if len(runs) == 1 else "runs"
    return f"{label} {shown[0]}" if len(shown) == 1 else f"{label} {', '.join(shown[:-1])} and {shown[-1]}"


def _waiting_reason(ahead: int, reason: str) -> str:
    if ahead == 0:
        return reason
    return f"{reason}; {ahead} {'run' if ahead == 1 else 'runs'} ahead of it"
