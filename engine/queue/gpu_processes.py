"""Which processes are on a GPU, and how much of its memory each has, as NVML says.

Its answers are to be taken with care. The memory may be unknown (vGPU, WSL, MIG without the rights). Which numbers the
processes have depends on the driver: in a container they may be the host's, where another process has that number.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pynvml

from engine.queue.sampler import UNSUPPORTED, Gpu

# What a process may have on a GPU; one with several is listed under each. The first is the one that matters here.
CONTEXTS = ("Compute", "Graphics", "MPSCompute")
VERSIONS = ("_v3", "_v2")  # of the functions: drivers before 510 know the second alone
FIRST_NAMESPACE = "pid:[4026531836]"  # the kernel gives this number to that of the host


def memory_by_process(gpu: Gpu) -> dict[int, int | None]:
    """Return the bytes that each process has on a GPU, by its number; None where that is not known. Raises NVMLError
    where the driver does not say which there are.
    """
    memory: dict[int, int | None] = {}
    for context in CONTEXTS:
        try:
            listed = _listed(context, gpu.handle)
        except UNSUPPORTED:
            if context == CONTEXTS[0]:
                raise
            continue
        for process in listed:
            known = [size for size in (memory.get(process.pid), process.usedGpuMemory) if size is not None]
            memory[process.pid] = max(known, default=None)
    return memory


def _listed(context: str, handle: Any) -> Iterable[Any]:
    *newer, oldest = (getattr(pynvml, f"nvmlDeviceGet{context}RunningProcesses{v}") for v in VERSIONS)
    for ask in newer:
        try:
            return ask(handle)
        except pynvml.NVMLError_FunctionNotFound:
            continue
    return oldest(handle)


def has_own_numbers() -> bool:
    """Whether processes have other numbers here than on the host: in a container, most often."""
    try:
        return str(Path("/proc/self/ns/pid").readlink()) != FIRST_NAMESPACE
    except OSError:
        return False


def has_a_gpu_open(pid: int) -> bool:
    """Whether the process with this number here uses a GPU at all; False also where that cannot be seen."""
    try:
        opened = os.scandir(f"/proc/{pid}/fd")
    except OSError:
        return False
    with opened:
        return any(_target(file.path).startswith("/dev/nvidia") for file in opened)


def _target(path: str) -> str:
    try:
        return str(Path(path).readlink())
    except OSError:
        return ""
