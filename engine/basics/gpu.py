"""Which GPU a process was given, and which one it really has. Imports nothing."""

from __future__ import annotations

GIVEN = "FINETUI_GPUS"  # what CUDA_VISIBLE_DEVICES was set to, for the worker to look whether it still is


def other_gpu(given: str, rank: int, uuid: str) -> str | None:
    """Return in a sentence that process `rank` computes on another GPU than it was given; None where it does not.
    `given`: UUIDs with commas between; numbers tell nothing. `uuid`: of the GPU that it has, as CUDA or NVML writes it.
    """
    uuids = given.split(",")
    if rank >= len(uuids) or not uuids[rank].startswith("GPU-"):
        return None
    mine = uuids[rank].removeprefix("GPU-").lower()
    real = uuid.removeprefix("GPU-").lower()
    if mine == real:
        return None
    return (
        f"process {rank} was given the GPU {mine} and computes on {real}: something changes CUDA_VISIBLE_DEVICES, and "
        "other runs may be on that GPU"
    )
