"""Measure how much memory this process has held at most, and how much it may hold.

On CUDA what PyTorch's allocator gave out, of what is free on the device; on a CPU resident memory, of what the
machine or the control group has left. `train.memory_limit` lowers either.
"""

from __future__ import annotations

import contextlib
import ctypes
import gc
import resource
import sys
from pathlib import Path
from typing import Literal

import psutil
import torch

from engine.memory.estimate import GIB, MIB
from engine.memory.workload import Device

STATUS, CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")
SHARED = Path("/proc/self/smaps_rollup")
M_MMAP_THRESHOLD = -3  # malloc.h
SPARE = 0.95  # of what is free on the machine: the rest is for everybody else


class Meter:
    """Peaks in bytes. `limit` is what this process may hold, at the time it began."""

    def __init__(self, memory_limit: Literal["auto"] | float) -> None:
        """`memory_limit`: of the recipe, GiB."""
        self.cuda = torch.cuda.is_available()
        self._before = 0  # highest peak before the last reset
        requested = None if memory_limit == "auto" else round(memory_limit * GIB)
        self.limit = (
            self._cuda_limit(requested) if self.cuda else min(available_ram(), requested or sys.maxsize)
        )
        if requested and not self.cuda:
            map_large_tensors()

    @property
    def device(self) -> Device:
        return "cuda" if self.cuda else "cpu"

    def _cuda_limit(self, requested: int | None) -> int:
        free, total = torch.cuda.mem_get_info()
        free += torch.cuda.memory_reserved()
        if requested is None or requested >= free:
            return free
        # Above it PyTorch reports itself out of memory.
        torch.cuda.set_per_process_memory_fraction(requested / total)
        return requested

    @property
    def held(self) -> int:
        """What is held now."""
        return torch.cuda.memory_allocated() if self.cuda else int(psutil.Process().memory_info().rss)

    @property
    def peak(self) -> int:
        """The peak since the last reset."""
        if self.cuda:
            return torch.cuda.max_memory_allocated()
        return _figure(STATUS, "VmHWM") or _lifetime_peak()

    @property
    def highest(self) -> int:
        """The peak since the process began, without periods that were reset with `count=False`."""
        return max(self._before, self.peak)

    @property
    def can_reset(self) -> bool:
        return self.cuda or CLEAR.exists()

    @property
    def over(self) -> bool:
        """Whether more is held than may be; CUDA raises an error itself."""
        return not self.cuda and self.can_reset and self.peak > self.limit

    def reset(self, *, count: bool = True) -> None:
        """Free what is held but not used; peaks count from now on, those before only with `count`."""
        if count:
            self._before = self.highest
        gc.collect()
        if self.cuda:
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
            return
        trim_heap()
        with contextlib.suppress(OSError):
            CLEAR.write_text("5")


def available_ram() -> int:
    """Return the bytes this process may hold: what it has and what is free, of the machine and of its control group.

    A fork of the pool counts the pool's imports among what it has, as a process with imports of its own does, but takes
    memory for them only as it writes to them. So as much of what is free is kept for that.
    """
    resident, memory = psutil.Process().memory_info().rss, psutil.virtual_memory()
    free = min(memory.available, *_free_in_groups(), sys.maxsize)
    return resident + round(SPARE * max(0, free - _figure(SHARED, "Shared_Dirty:")))


def _free_in_groups() -> list[int]:
    """Return the free bytes of the control groups (version 2) that this process is in; empty without limits."""
    try:
        group = Path("/proc/self/cgroup").read_text().strip().rpartition("::")[2]
    except OSError:
        return []
    free, place = [], Path("/sys/fs/cgroup") / group.strip("/")
    for directory in (place, *place.parents):
        with contextlib.suppress(OSError, ValueError, StopIteration):
            limit = int((directory / "memory.max").read_text())  # ValueError for `max`
            used = int((directory / "memory.current").read_text())
            lines = (directory / "memory.stat").read_text().splitlines()
            cached = next(int(line.split()[1]) for line in lines if line.startswith("inactive_file "))
            free.append(max(0, limit - used + cached))
    return free


def trim_heap() -> None:
    """Let glibc return free pages of its heap to the system; elsewhere nothing happens."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).malloc_trim(0)


def map_large_tensors() -> None:
    """Let glibc map every tensor of 256 KiB or more separately: resident memory is then what is in use, while heaps
    keep holes, which may be as much again. It costs speed, so it is done only where a limit was set."""
    with contextlib.suppress(OSError, AttributeError):
        ctypes.CDLL(None).mallopt(M_MMAP_THRESHOLD, 256 * 1024)


def _figure(path: Path, key: str) -> int:
    """Return a figure of /proc/self/status or the like in bytes; 0 where there is none."""
    try:
        lines = path.read_text().splitlines()
    except OSError:
        return 0
    return next((int(line.split()[1]) * 1024 for line in lines if line.startswith(key)), 0)


def _lifetime_peak() -> int:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def mib(size: float) -> float:
    return round(size / MIB, 1)
