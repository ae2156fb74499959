"""Which errors are transient: the run is tried again after one."""

from __future__ import annotations

import torch

from engine.basics.errors import ShortageError

# What CUDA and NCCL say of a GPU that has hung, is gone, or is another's for now: cudaGetErrorString of the errors
# LaunchFailure, LaunchTimeout, ECCUncorrectable, NvlinkUncorrectable, HardwareStackError, DevicesUnavailable, NoDevice
# and SystemNotReady (CUDA Runtime API, cudaError_t). Assertions and illegal addresses come again.
LOST_GPU = (
    "unspecified launch failure", "launch timed out", "uncorrectable ECC error", "uncorrectable NVLink error",
    "hardware stack error", "busy or unavailable", "no CUDA-capable device", "system not yet initialized",
    "NCCL error: remote process exited",
)  # fmt: skip


def is_transient(error: BaseException) -> bool:
    """Whether it may pass by itself: a lost GPU, or memory that others may have held."""
    if isinstance(error, ShortageError | torch.OutOfMemoryError):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in LOST_GPU)
