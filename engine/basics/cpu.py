"""What this machine's CPU can do. Torch-free."""

from __future__ import annotations

import os
from collections.abc import Mapping
from functools import cache
from pathlib import Path

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
    """Whether training is faster in bfloat16 on this CPU."""
    try:
        return is_fast_in_bf16(Path("/proc/cpuinfo").read_text())
    except OSError:
        return False


def is_fast_in_bf16(cpuinfo: str) -> bool:
    """Whether a CPU, by the text of /proc/cpuinfo, trains faster in bfloat16: 1.5 to 3 times with Intel's matrix units
    (AMX), 1.9 to 2.7 times with AMD's vectors. docs/decisions/0005 has the figures.

    Intel's CPUs that have the vectors alone are left at float32: there was none to measure.
    """
    flags = cpuinfo.split()
    return "amx_bf16" in flags or ("avx512_bf16" in flags and "AuthenticAMD" in flags)


def physical_cores() -> int:
    """Cores that this process may use; hyper-threads do not count twice."""
    import psutil  # not with this module: commands that the pool runs need the rest of it alone

    allowed = len(os.sched_getaffinity(0))
    return max(1, min(psutil.cpu_count(logical=False) or allowed, allowed))
