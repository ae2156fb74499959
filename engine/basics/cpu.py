"""What this machine's CPU can do. Torch-free."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import cache
from pathlib import Path

import psutil

# How many threads libraries for arithmetic use.
THREAD_VARIABLES = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "RAYON_NUM_THREADS")


def spin_little(base: Mapping[str, str]) -> dict[str, str]:
    """Return an environment in which threads that wait give way soon, unless it says otherwise.

    One that spins takes the core from the one it waits for, wherever something else runs too; docs/decisions/0004 has
    the figures.
    """
    return {"GOMP_SPINCOUNT": "1000", **base}


@cache
def cpu_has_bf16() -> bool:
    """Whether the CPU has matrix units for bfloat16 (Intel's AMX): training is then 1.5 to 3 times as fast in it.

    CPUs that only have bfloat16 vectors are left at float32: there was none to measure.
    """
    try:
        return "amx_bf16" in Path("/proc/cpuinfo").read_text()
    except OSError:
        return False


def physical_cores() -> int:
    """Cores that this process may use; hyper-threads do not count twice."""
    allowed = len(os.sched_getaffinity(0))
    return max(1, min(psutil.cpu_count(logical=False) or allowed, allowed))
