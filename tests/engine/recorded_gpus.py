"""What NVML said on real machines with GPUs, as others recorded it, for tests where there is no card.

Taken from what nvidia-smi printed there, which shows NVML's answers; memory in MiB, as it rounds it. Names of users and
their folders are replaced, UUIDs of one recording were not printed and are made up. None: "N/A", which NVML says by
NVMLError_NotSupported, and of the memory of a process by a value that pynvml turns into None.

`play` puts the answers where the driver's would come from: all code of ours above pynvml is real.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from types import SimpleNamespace
from typing import Any

import pynvml
import pytest

from engine.basics.process import Use
from engine.queue import machine_use
from engine.queue.machine_use import ActiveRun, MachineUse
from engine.queue.sampler import Nvml

MIB = 1 << 20


@dataclass(frozen=True)
class Listed:
    """A process as the driver lists it; user and command are those of the machine."""

    pid: int
    memory: int | None
    command: str
    user: str
    context: str = "Compute"


@dataclass(frozen=True)
class Card:
    name: str
    uuid: str
    util: int | None
    used: int
    total: int
    power: float | None
    cap: float | None
    temp: int
    processes: tuple[Listed, ...] = ()


def _a100(at: int, util: int, used: int, power: float, temp: int, *processes: Listed) -> Card:
    return Card("NVIDIA A100-SXM4-80GB", f"GPU-{at:08x}", util, used, 81920, power, 400.0, temp, processes)


# Eight cards shared by several users: `nvidia-smi` 595.71.05 in the log of a Slurm job of 29 May 2026 ("Short-Term Job
# Monitor", job 27558, in a public repository).
SHARED_BOX = (
    _a100(0, 11, 72297, 114, 49, Listed(2010386, 72288, "/opt/envs/diffsynth/bin/python3.12 train.py", "ben")),
    _a100(1, 82, 16663, 238, 43, Listed(1985992, 16654, "/home/eve/adept/.venv/bin/python run.py", "eve")),
    _a100(2, 97, 72297, 324, 47, Listed(2010387, 72288, "/opt/envs/diffsynth/bin/python3.12 train.py", "ben")),
    _a100(3, 0, 0, 62, 34),
    _a100(4, 97, 17307, 287, 57, Listed(1981403, 17298, "/home/eve/adept/.venv/bin/python run.py", "eve")),
    _a100(5, 76, 35041, 216, 44, Listed(2212155, 35032, "python -P -m engine.attempt.shim", "ada")),
    _a100(6, 0, 0, 58, 26),
    _a100(7, 0, 0, 59, 29),
)  # fmt: skip


def _turing(uuid: str, util: int, used: int, power: float, temp: int, *processes: Listed) -> Card:
    return Card("NVIDIA GeForce RTX 2080 Ti", uuid, util, used, 11264, power, 250.0, temp, processes)


# Four cards, two users on the first: `nvidia-smi -q` 545.23.08 of 15 November 2024, in NordicHPC/sonar,
# src/testdata/nvidia-smi-output.txt.
TWO_ON_ONE = (
    _turing("GPU-2a8f06c3-0000-0000-0000-000000000000", 70, 10081, 191.43, 86,
            Listed(2620449, 9876, "python3", "ada"), Listed(3066537, 202, "/home/ben/.julia/bin/julia", "ben")),
    _turing("GPU-16bca67b-0000-0000-0000-000000000000", 0, 1299, 40.23, 40, Listed(2482652, 1296, "python3", "eve")),
    _turing("GPU-e53e5dfb-0000-0000-0000-000000000000", 0, 3, 40.26, 34),
    _turing("GPU-198d6802-0000-0000-0000-000000000000", 5, 3, 18.10, 34),
)  # fmt: skip

# A card divided by MIG says no utilisation: `nvidia-smi -q -x` 535.54.03 of 4 August 2023, in influxdata/telegraf,
# plugins/inputs/nvidia_smi/testdata/a100-sxm4-v12.xml.
DIVIDED = (Card("NVIDIA A100-SXM4-80GB", "GPU-513536b6", None, 50, 81920, 67.03, 500.0, 27),)

# A small card that says no power, on a desktop: 470.74 of 23 September 2021, in influxdata/telegraf,
# plugins/inputs/nvidia_smi/testdata/gt-1030.xml. The memory of its processes is as Windows' driver model has it ("Not
# available in WDDM driver model": NVIDIA/nvidia-docker, issue 1458).
DESKTOP = (
    Card("NVIDIA GeForce GT 1030", "GPU-857c6374", 0, 875, 1998, None, 30.0, 36,
         (Listed(1264, None, "/usr/lib/chromium/chromium --type=gpu-process", "ada", "Graphics"),)),
)  # fmt: skip


class Player:
    """Plays a recording. `errors`: NVML's code by function (or "all") and card, for what goes wrong meanwhile."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, cards: tuple[Card, ...]) -> None:
        self.cards = cards
        self.errors: dict[tuple[str, int], int] = {}
        self.pids: dict[int, int] = {}  # a process of here that stands for one of there
        answers: dict[str, Callable[..., Any]] = {
            "HandleByIndex": lambda card: card,
            "Name": lambda card: card.name,
            "UUID": lambda card: card.uuid,
            "UtilizationRates": lambda card: SimpleNamespace(gpu=_known(card.util)),
            "MemoryInfo": lambda card: SimpleNamespace(used=card.used * MIB, total=card.total * MIB),
            "PowerUsage": lambda card: round(1000 * _known(card.power)),
            "EnforcedPowerLimit": lambda card: round(1000 * _known(card.cap)),
            "Temperature": lambda card, kind: card.temp,
        }
        for context in ("Compute", "Graphics", "MPSCompute"):
            for version in ("_v3", "_v2"):
                answers[f"{context}RunningProcesses{version}"] = partial(self._processes, context)
        for name, answer in answers.items():
            monkeypatch.setattr(pynvml, f"nvmlDeviceGet{name}", partial(self._answer, name, answer))
        monkeypatch.setattr(pynvml, "nvmlInit", lambda: None)
        monkeypatch.setattr(pynvml, "nvmlShutdown", lambda: None)
        monkeypatch.setattr(pynvml, "nvmlDeviceGetCount", lambda: len(self.cards))

    def _answer(self, name: str, answer: Callable[..., Any], handle: int | Card, *rest: Any) -> Any:
        index = handle if isinstance(handle, int) else self.cards.index(handle)
        for key in ((name, index), ("all", index)):
            if key in self.errors:
                raise pynvml.NVMLError(self.errors[key])
        return answer(self.cards[index], *rest)

    def _processes(self, context: str, card: Card) -> list[SimpleNamespace]:
        return [
            SimpleNamespace(
                pid=self.pids.get(one.pid, one.pid),
                usedGpuMemory=None if one.memory is None else one.memory * MIB,
            )
            for one in card.processes
            if one.context == context
        ]


def machine_of(
    monkeypatch: pytest.MonkeyPatch, cards: tuple[Card, ...], *active: ActiveRun
) -> tuple[Player, Nvml, MachineUse]:
    """The recorded machine with its processes, which are not here to be looked at: each has used 3 s and 2 GiB."""
    player = Player(monkeypatch, cards)
    listed = {one.pid: one for card in cards for one in card.processes}
    monkeypatch.setattr(machine_use, "use_of", lambda pid: Use(1, 1, 3.0, 2 << 30) if pid in listed else None)
    monkeypatch.setattr(machine_use, "_user_and_command", lambda pid: (listed[pid].user, listed[pid].command))
    nvml = Nvml()
    return player, nvml, MachineUse(nvml, lambda: list(active), container=False)


def _known(value: float | None) -> float:
    if value is None:
        raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)
    return value
