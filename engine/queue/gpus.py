"""Which GPUs a run gets: one to itself for each of its processes, or a place on one that others use, too.

Runs share a GPU where config.toml lets them (`share_gpus`) and each of them says how much memory it needs: by the
estimate of its recipe, or `--gpu-memory`. What is free is what NVML says, so that programs of others count; a run that
has just started has not taken all that it will, so its need is held for a while. Pure.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from engine.basics.wording import size
from engine.runs.journal import RunRecord

SETTLE_S = 300.0  # after which a run is taken to have all the memory that it will have
MARGIN = 1.1  # an estimate may be wrong by so much where others would suffer
IDLE = 0.05  # share of a GPU's memory that the driver and a screen may take while nobody computes on it


@dataclass(frozen=True)
class GpuMemory:
    """What NVML says of one GPU, bytes."""

    free: int
    total: int


class Gpus:
    """The GPUs while runs are given places on them, one after the other."""

    def __init__(
        self,
        devices: Sequence[str],
        memory: Mapping[str, GpuMemory],
        active: Sequence[RunRecord],
        *,
        share: bool,
        now: float,
    ) -> None:
        self.devices, self._memory, self._share, self._now = devices, memory, share, now
        self._on: dict[str, list[RunRecord]] = {device: [] for device in devices}
        self._new: set[int] = set()  # runs that were given a place here
        for run in active:
            self._put(run, (run.device or "").split(","))

    def choose(self, run: RunRecord) -> list[str] | None:
        """Return the GPUs for a run, none on a machine without; None where it has to wait. Who wants more than there
        are gets all of them: its worker reports that.
        """
        count = min(run.processes, len(self.devices))
        own = [device for device in self.free if self._has_room(run, device)]
        if len(own) >= count:
            return own[:count]
        if count > 1 or not self._can_share(run):
            return None
        shared = [device for device in self.devices if self._can_join(run, device)]
        return [max(shared, key=self._room)] if shared else None

    def take(self, run: RunRecord, chosen: Sequence[str]) -> None:
        self._new.add(run.number)
        self._put(run, chosen)

    def has_to_be_freed(self, run: RunRecord) -> bool:
        """Whether runs of ours are on GPUs that this one waits for: what other programs take may never come free."""
        return len(self.free) < min(run.processes, len(self.devices))

    @property
    def free(self) -> list[str]:
        """GPUs that no run of ours has."""
        return [device for device in self.devices if not self._on[device]]

    def why(self, run: RunRecord) -> str:
        """Return in words why `choose` gave a run nothing."""
        count = min(run.processes, len(self.devices))
        if count > 1:
            room = sum(self._has_room(run, device) for device in self.free)
            return f"#{run.number} needs {run.processes} GPUs, free: {room}"
        if self.free and run.memory:  # free of ours, but not empty
            most = max(self.free, key=self._room)
            return f"#{run.number} needs {size(run.memory)}, and {most} has {size(self._room(most))} free"
        if self._share and run.memory is None:
            return "every GPU is taken, and a run of unknown memory shares none (--gpu-memory says how much)"
        if self._share and run.exclusive:
            return "every GPU is taken, and it shares none"
        if self._share and not any(all(map(self._can_share, others)) for others in self._on.values()):
            return "every GPU is taken, by runs that share with nobody or whose memory is not known"
        if self._share and run.memory:
            return (
                f"every GPU is taken, and none that can be shared has {size(int(run.memory * MARGIN))} free"
            )
        return "every GPU is taken, 1 run per GPU"

    def _put(self, run: RunRecord, devices: Sequence[str]) -> None:
        for device in devices:
            if device in self._on:
                self._on[device].append(run)

    def _has_room(self, run: RunRecord, device: str) -> bool:
        """Whether a GPU without a run of ours has the room: one that nobody uses is given whatever is needed."""
        memory = self._memory.get(device)
        if not self._share or run.urgent or memory is None or run.memory is None:
            return True  # its worker takes smaller passes, or says what to change
        return memory.total - memory.free <= IDLE * memory.total or run.memory <= memory.free

    def _can_share(self, run: RunRecord) -> bool:
        return self._share and not run.exclusive and run.memory is not None and run.processes == 1

    def _can_join(self, run: RunRecord, device: str) -> bool:
        others = self._on[device]
        return (
            device in self._memory
            and all(map(self._can_share, others))
            and (run.memory or 0) * MARGIN <= self._room(device)
        )

    def _room(self, device: str) -> int:
        """Return the bytes of a GPU that no run needs or will need."""
        memory = self._memory.get(device)
        if memory is None:
            return 0
        needs = {run.number: int((run.memory or 0) * MARGIN) for run in self._on[device]}
        held = sum(needs[run.number] for run in self._on[device] if self._is_new(run))
        return max(0, min(memory.free - held, memory.total - sum(needs.values())))

    def _is_new(self, run: RunRecord) -> bool:
        return run.number in self._new or self._now - run.began < SETTLE_S
