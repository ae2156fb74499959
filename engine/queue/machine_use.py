"""What goes on on this machine now: the processes on its GPUs, or those that take most of a machine without GPUs, with
their users, and which of them are ours.

Asked only while somebody looks, for it costs more than a sample. A process is a run's if its worker or shim is it, or
one above it. What cannot be known (a process of another container, the memory of a process under WSL) is None.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any

import psutil
import pynvml

from engine.basics.process import Use, use_of, uses
from engine.queue.gpu_processes import has_a_gpu_open, has_own_numbers, memory_by_process
from engine.queue.sampler import GB, Nvml

AGAIN_S = 0.25  # an answer serves everybody who asks within this time; loads are taken between two answers
FORGET_S = 60.0  # a load over a longer time says nothing of now
HEAVY_CPU, HEAVY_RAM = 5.0, 0.02  # percent of a core, share of the memory: without GPUs, less is not listed
MOST = 30  # processes that are listed without GPUs
LONGEST_COMMAND = 300  # characters


@dataclass(frozen=True)
class ActiveRun:
    """A run with an attempt."""

    number: int
    device: str  # "gpu0,gpu1", "cpu"
    pids: tuple[int, ...]  # of its shim, then its worker


@dataclass(frozen=True)
class Process:
    """One process, on one GPU. None: not known, or none."""

    pid: int
    gpu: str | None = None
    run: int | None = None
    user: str | None = None
    command: str | None = None
    gpu_gb: float | None = None
    cpu_percent: float | None = None  # of one core, since the last answer
    ram_gb: float | None = None


class MachineUse:
    """Answers what is on the machine now."""

    def __init__(
        self, nvml: Nvml, active: Callable[[], list[ActiveRun]], container: bool | None = None
    ) -> None:
        self._nvml, self._active = nvml, active
        self._container = has_own_numbers() if container is None else container
        self._lock = threading.Lock()
        self._answer: dict[str, Any] = {}
        self._asked = 0.0
        self._before: dict[
            tuple[int, int], float
        ] = {}  # process (number, start) → seconds of CPU at the last answer

    def look(self) -> dict[str, Any]:
        """Return the GPUs with label, runs, why they do not answer (`lost`) and why their processes are not known
        (`unknown`); and the processes, one for each GPU that it is on.
        """
        with self._lock:
            now = time.monotonic()
            if not self._answer or now - self._asked >= AGAIN_S:
                self._answer = self._look(now - self._asked)
                self._asked = now
            return self._answer

    def _look(self, since_s: float) -> dict[str, Any]:
        if since_s > FORGET_S:
            self._before = {}
        active = self._active()
        run_of = {pid: run.number for run in active for pid in run.pids}
        gpus = {name: self._about(name, active) for name in sorted(self._nvml.labels | self._nvml.lost)}
        on_gpus = self._on_gpus(gpus)
        known = (
            {pid: use_of(pid) if self._is_here(pid) else None for pid, _, _ in on_gpus} if gpus else uses()
        )
        loads = {pid: self._load(pid, use, since_s) for pid, use in known.items() if use}
        workers = {run.pids[-1] for run in active if run.pids}
        listed = known if gpus else _heaviest(known, loads, workers)
        described = {pid: _describe(pid, known[pid], loads.get(pid), run_of) for pid in listed}
        self._before = {(pid, use.start_time): use.cpu_s for pid, use in known.items() if use}
        on = [replace(described[pid], gpu=gpu, gpu_gb=_gb(size)) for pid, gpu, size in on_gpus]
        return {"gpus": gpus, "processes": [asdict(process) for process in on or described.values()]}

    def _on_gpus(self, gpus: dict[str, dict[str, Any]]) -> list[tuple[int, str, int | None]]:
        """The processes on every GPU with the bytes that they have there; why not, in `gpus`."""
        found: list[tuple[int, str, int | None]] = []
        for gpu in self._nvml.gpus:
            try:
                found += [(pid, gpu.name, size) for pid, size in memory_by_process(gpu).items()]
            except pynvml.NVMLError as error:
                gpus[gpu.name]["unknown"] = str(error)
        return found

    def _about(self, gpu: str, active: list[ActiveRun]) -> dict[str, Any]:
        runs = [run.number for run in active if gpu in run.device.split(",")]
        label = self._nvml.labels.get(gpu, gpu)
        return {"label": label, "runs": runs, "lost": self._nvml.lost.get(gpu), "unknown": None}

    def _is_here(self, pid: int) -> bool:
        """Whether a number that the driver gives is that of a process here."""
        return not self._container or has_a_gpu_open(pid)

    def _load(self, pid: int, use: Use, since_s: float) -> float | None:
        before = self._before.get((pid, use.start_time))
        return None if before is None else round(100 * (use.cpu_s - before) / since_s, 1)


def _heaviest(
    known: Mapping[int, Use | None], loads: Mapping[int, float | None], workers: Collection[int]
) -> list[int]:
    """The processes that take most of the machine, after the runs' workers."""
    heavy_ram = HEAVY_RAM * psutil.virtual_memory().total
    weights = {pid: (pid in workers, loads[pid] or 0.0, use.ram) for pid, use in known.items() if use}
    heavy = [
        pid for pid, (work, load, ram) in weights.items() if work or load >= HEAVY_CPU or ram >= heavy_ram
    ]
    return sorted(heavy, key=lambda pid: weights[pid], reverse=True)[:MOST]


def _describe(pid: int, use: Use | None, load: float | None, run_of: Mapping[int, int]) -> Process:
    if use is None:  # gone by now, hidden, or of another container
        return Process(pid)
    user, command = _user_and_command(pid)
    run = _run_above(pid, use, run_of)
    return Process(pid, run=run, user=user, command=command, cpu_percent=load, ram_gb=_gb(use.ram))


def _run_above(pid: int, use: Use | None, run_of: Mapping[int, int]) -> int | None:
    """The run whose worker or shim a process is, or is below."""
    while use is not None:
        if pid in run_of:
            return run_of[pid]
        pid = use.parent
        use = use_of(pid)
    return None


def _user_and_command(pid: int) -> tuple[str | None, str | None]:
    """Whose a process is and how it was started; None for what is hidden, or gone by now."""
    user = command = None
    with contextlib.suppress(psutil.Error, OSError):
        process = psutil.Process(pid)
        with process.oneshot():
            user = process.username()
            command = " ".join(process.cmdline()) or f"[{process.name()}]"
    return user, command and command[:LONGEST_COMMAND]


def _gb(size: int | None) -> float | None:
    return None if size is None else round(size / GB, 3)
