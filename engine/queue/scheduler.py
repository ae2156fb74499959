"""Which runs start now, and why each other one waits: a pure function, asked again at every change."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from engine.runs.journal import RunRecord
from store.states import RunState


@dataclass(frozen=True)
class Capacity:
    """What the machine and the configuration allow."""

    concurrency: int
    devices: tuple[str, ...] = ()  # "gpu0", …; empty on a machine without GPUs, where runs use the CPU


@dataclass(frozen=True)
class Start:
    run: int
    device: str  # "cpu", or one device for each of the run's processes: "gpu0", "gpu0,gpu1"


@dataclass(frozen=True)
class Plan:
    starts: tuple[Start, ...]
    waiting: dict[int, str]  # run → why it waits


def plan(waiting: Sequence[RunRecord], active: Sequence[RunRecord], capacity: Capacity) -> Plan:
    """Fill the free places in line order; each process of a run gets a GPU of its own where there are GPUs."""
    line = sorted(waiting, key=_place_in_line)
    taken = {device for record in active for device in (record.device or "").split(",")}
    free = [device for device in capacity.devices if device not in taken]
    room = max(0, capacity.concurrency - len(active))
    starts: list[Start] = []
    for run in line[:room]:
        # More than there are: the worker says so.
        needed = min(run.processes, len(capacity.devices))
        if needed > len(free):
            break  # who comes later has to wait as well, or many small runs would keep a large one waiting
        starts.append(Start(run.number, ",".join(free[:needed]) or "cpu"))
        free = free[needed:]
    running = sorted([record.number for record in active] + [start.run for start in starts])
    left = line[len(starts) :]
    full = _full(running, capacity, limited=room <= len(starts))
    if left and free and room > len(starts):
        full = f"{_running(running)}; #{left[0].number} needs {left[0].processes} GPUs, free: {len(free)}"
    return Plan(tuple(starts), {run.number: _why(place, full) for place, run in enumerate(left)})


def _place_in_line(run: RunRecord) -> tuple[bool, int, float, int]:
    """Interrupted runs first (they had their turn), then by priority, then first come, first served."""
    return (run.state != RunState.INTERRUPTED, -run.priority, run.queued_at, run.number)


def _full(running: list[int], capacity: Capacity, limited: bool) -> str:
    if not running:
        return "nothing may start (concurrency in config.toml)"
    subject = _running(running)
    if not limited:
        return f"{subject}; every GPU is taken, 1 run per GPU"
    count = capacity.concurrency
    return f"{subject}; {count} {'run' if count == 1 else 'runs'} at a time (concurrency in config.toml)"


def _running(running: list[int]) -> str:
    return f"{_names(running)} {'is' if len(running) == 1 else 'are'} running"


def _names(runs: list[int]) -> str:
    shown = [f"#{run}" for run in runs[:3]] + ([f"{len(runs) - 3} more"] if len(runs) > 3 else [])
    label = "run" if len(runs) == 1 else "runs"
    return f"{label} {shown[0]}" if len(shown) == 1 else f"{label} {', '.join(shown[:-1])} and {shown[-1]}"


def _why(place: int, full: str) -> str:
    if place == 0:
        return full
    return f"{full}; {place} {'run' if place == 1 else 'runs'} ahead of it"
