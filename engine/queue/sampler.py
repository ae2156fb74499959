"""The hardware sampler: CPU, memory, disk and GPUs of this machine, appended to `hardware.jsonl`.

GPU readings are NVML's, each read on its own: what a card does not support, or does not say this once, is skipped. A
card or driver that is lost (updated, crashed) is reported once and tried again later. On a machine without NVML there
are no GPUs.
"""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import psutil
import pynvml

from engine.queue.gpus import GpuMemory
from finetui.log import LogWriter
from store.line_fields import write
from store.lines import Device, HardwareSample

log = logging.getLogger("finetui.sampler")

GB = 1e9
LARGEST_LOG = 64 * 1024 * 1024  # bytes; then the file becomes hardware-1.jsonl and a new one begins
RETRY_DRIVER_S = 60.0
FIRST_S = 0.1  # that the load of the first sample is taken over

# What a card, its driver's version or this user's rights have no answer for, and never will.
UNSUPPORTED = (
    pynvml.NVMLError_NotSupported,
    pynvml.NVMLError_NoPermission,
    pynvml.NVMLError_FunctionNotFound,
)
NO_DRIVER = (pynvml.NVMLError_LibraryNotFound, pynvml.NVMLError_DriverNotLoaded)


@dataclass(frozen=True)
class Gpu:
    name: str  # "gpu0": its place in NVML's (PCI) order
    label: str  # "NVIDIA H100 80GB HBM3"
    handle: Any
    uuid: str = ""  # "GPU-…", which stays its own when another card is lost


class Nvml:
    """The GPUs of this machine that answer; none without the driver.

    `labels` are those of all that ever did. `lost`: by GPU that does not answer now, why.
    """

    def __init__(self) -> None:
        self.gpus: tuple[Gpu, ...] = ()
        self.labels: dict[str, str] = {}
        self.lost: dict[str, str] = {}
        self.problem: str | None = None
        self._retry_at = 0.0
        try:
            self._open()
        except NO_DRIVER as error:  # a machine without NVIDIA GPUs, not a problem
            log.info("no GPUs: %s", error)
        except pynvml.NVMLError as error:  # there is one: its library was updated without it, for example
            self._lost("the GPU driver", error)

    def values(self) -> dict[str, float]:
        """Return readings of every GPU, `{"gpu0/util": 97.0, …}`; empty without GPUs."""
        if self.problem and time.monotonic() >= self._retry_at:
            self._reopen()
        values: dict[str, float] = {}
        for gpu in self.gpus:
            try:
                values.update(_readings(gpu))
            except pynvml.NVMLError as error:
                self._lost(gpu.name, error)
                self.lost = {**self.lost, gpu.name: str(error)}
                self.gpus = tuple(other for other in self.gpus if other is not gpu)
        return values

    def memory(self) -> dict[str, GpuMemory]:
        """Return what is free on every GPU that says so."""
        found = {}
        for gpu in self.gpus:
            with contextlib.suppress(pynvml.NVMLError):
                info = pynvml.nvmlDeviceGetMemoryInfo(gpu.handle)
                found[gpu.name] = GpuMemory(int(info.total - info.used), int(info.total))
        return found

    def _open(self) -> None:
        pynvml.nvmlInit()
        gpus: list[Gpu] = []
        failures: dict[str, pynvml.NVMLError] = {}
        for index in range(pynvml.nvmlDeviceGetCount()):
            try:
                gpus.append(_gpu(index))
            except pynvml.NVMLError as error:
                failures[f"gpu{index}"] = error
        self.gpus = tuple(gpus)
        self.labels = {**self.labels, **{gpu.name: gpu.label for gpu in gpus}}
        missing = (self.labels.keys() | failures.keys()) - {gpu.name for gpu in gpus}
        self.lost = {
            name: str(failures.get(name, "the driver does not list it any more")) for name in missing
        }
        for name in sorted(missing):
            self._lost(name, self.lost[name])

    def _reopen(self) -> None:
        with contextlib.suppress(pynvml.NVMLError):
            pynvml.nvmlShutdown()
        try:
            self._open()
        except pynvml.NVMLError as error:
            self.gpus, self.lost = (), dict.fromkeys(self.labels, str(error))
            self._lost("the GPU driver", error)
        else:
            if not self.lost:
                log.info("the GPU driver answers again")
                self.problem = None

    def _lost(self, what: str, error: Exception | str) -> None:
        if self.problem is None:
            log.warning("%s does not answer (%s); trying again every %g s", what, error, RETRY_DRIVER_S)
        self.problem = f"{what} does not answer: {error}"
        self._retry_at = time.monotonic() + RETRY_DRIVER_S


def _gpu(index: int) -> Gpu:
    handle = pynvml.nvmlDeviceGetHandleByIndex(index)
    uuid = ""
    with contextlib.suppress(pynvml.NVMLError):
        uuid = _text(pynvml.nvmlDeviceGetUUID(handle))
    return Gpu(f"gpu{index}", _text(pynvml.nvmlDeviceGetName(handle)), handle, uuid)


def _text(value: str | bytes) -> str:
    return value.decode() if isinstance(value, bytes) else value


def _readings(gpu: Gpu) -> dict[str, float]:
    """Return the readings that this card gives. Raises NVMLError where it gives none: it or its driver is lost."""
    readings: dict[str, float] = {}
    failure: pynvml.NVMLError | None = None
    for read in (_utilisation, _memory, _power, _power_cap, _temperature):
        try:
            readings.update(read(gpu))
        except UNSUPPORTED:
            continue
        except pynvml.NVMLError as error:  # one bad answer is no lost card
            failure = error
    if failure and not readings:
        raise failure
    return readings


def _utilisation(gpu: Gpu) -> dict[str, float]:
    return {f"{gpu.name}/util": float(pynvml.nvmlDeviceGetUtilizationRates(gpu.handle).gpu)}


def _memory(gpu: Gpu) -> dict[str, float]:
    memory = pynvml.nvmlDeviceGetMemoryInfo(gpu.handle)
    return {
        f"{gpu.name}/memory_used_gb": round(memory.used / GB, 3),
        f"{gpu.name}/memory_total_gb": round(memory.total / GB, 3),
    }


def _power(gpu: Gpu) -> dict[str, float]:
    return {f"{gpu.name}/power_w": pynvml.nvmlDeviceGetPowerUsage(gpu.handle) / 1000}  # NVML: milliwatts


def _power_cap(gpu: Gpu) -> dict[str, float]:
    return {f"{gpu.name}/power_cap_w": pynvml.nvmlDeviceGetEnforcedPowerLimit(gpu.handle) / 1000}


def _temperature(gpu: Gpu) -> dict[str, float]:
    kind = pynvml.NVML_TEMPERATURE_GPU
    return {f"{gpu.name}/temp_c": float(pynvml.nvmlDeviceGetTemperature(gpu.handle, kind))}


class Sampler:
    """Writes one sample at each call of `sample`."""

    def __init__(
        self,
        path: Path,
        nvml: Nvml,
        before_rotation: Callable[[], object] = lambda: None,
        largest: int = LARGEST_LOG,
    ) -> None:
        """`before_rotation` lets the reader of the log catch up before the file gets another name."""
        self._path, self._nvml, self._largest = path, nvml, largest
        self._before_rotation = before_rotation
        self._log: LogWriter | None = None
        with contextlib.suppress(OSError):  # `sample` tries again, and says so
            self._log = self._open()
        self._began = False

    def sample(self) -> None:
        """Append one `sample`; values in %, GB (1e9 bytes), watts and °C. Raises OSError (disk full, no file)."""
        self._log = self._log or self._open()
        if (
            not self._began
        ):  # psutil compares with the last reading in the same thread, and says 0 at the first
            psutil.cpu_percent()
            time.sleep(FIRST_S)
            self._began = True
        write(self._log, HardwareSample({**machine_values(self._path.parent), **self._nvml.values()}))
        if self._path.exists() and self._path.stat().st_size > self._largest:
            self._before_rotation()
            self._path.replace(self._path.with_name("hardware-1.jsonl"))
        if not self._path.exists():  # until a new log can be opened (disk full), samples go to the old one
            new_log = self._open()
            self._log.close()
            self._log = new_log

    def close(self) -> None:
        if self._log:
            self._log.close()

    def _open(self) -> LogWriter:
        writer = LogWriter(self._path, "hardware")
        for gpu in self._nvml.gpus:
            write(writer, Device(gpu.name, gpu.label))
        return writer


def machine_values(home: Path) -> dict[str, float]:
    """Return readings of CPU, memory and the disk that holds the home; `{"cpu/percent": 12.5, …}`."""
    readers: tuple[Callable[[], dict[str, float]], ...] = (_cpu, _ram, lambda: _disk(home))
    values: dict[str, float] = {}
    for read in readers:
        try:
            values.update(read())
        except OSError:  # psutil on a /proc that hides a file
            continue
    return values


def _cpu() -> dict[str, float]:
    return {"cpu/percent": psutil.cpu_percent()}


def _ram() -> dict[str, float]:
    memory = psutil.virtual_memory()
    used = memory.total - memory.available
    return {"ram/used_gb": round(used / GB, 3), "ram/total_gb": round(memory.total / GB, 3)}


def _disk(home: Path) -> dict[str, float]:
    disk = psutil.disk_usage(str(home))
    return {"disk/free_gb": round(disk.free / GB, 3), "disk/total_gb": round(disk.total / GB, 3)}
