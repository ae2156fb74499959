"""The hardware sampler: this machine's real readings; the GPU driver is the only thing replaced."""

from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pynvml
import pytest
from recorded_gpus import DESKTOP, DIVIDED, SHARED_BOX, TWO_ON_ONE, Player

from engine.queue import sampler
from engine.queue.executor import environment, usable_devices
from engine.queue.gpus import GpuMemory
from engine.queue.sampler import Nvml, Sampler
from finetui.log import read_log


class FakeDriver:
    """Two cards; the second knows no power reading. `broken` makes every call fail; `lost` one card."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, count: int = 2) -> None:
        self.count, self.broken, self.lost, self.inits = count, False, -1, 0
        self.closed = 0
        for name, function in {
            "nvmlInit": self._init,
            "nvmlShutdown": self._shutdown,
            "nvmlDeviceGetCount": lambda: self.count,
            "nvmlDeviceGetHandleByIndex": lambda index: index,
            "nvmlDeviceGetName": lambda index: f"Card {index}",
            "nvmlDeviceGetUUID": lambda index: f"GPU-{index}",
            "nvmlDeviceGetUtilizationRates": lambda index: SimpleNamespace(gpu=self._card(index, 97)),
            "nvmlDeviceGetMemoryInfo": lambda index: SimpleNamespace(
                used=self._card(index, 2_500_000_000), total=8e9
            ),
            "nvmlDeviceGetPowerUsage": self._power,
            "nvmlDeviceGetEnforcedPowerLimit": lambda index: 2 * self._power(index),
            "nvmlDeviceGetTemperature": lambda index, kind: self._card(index, 61),
        }.items():
            monkeypatch.setattr(pynvml, name, function)

    def _init(self) -> None:
        self.inits += 1
        self._card(-2, None)

    def _shutdown(self) -> None:
        self.closed += 1

    def _card(self, index: int, value: Any) -> Any:
        if self.broken:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_DRIVER_NOT_LOADED)
        if index == self.lost:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_GPU_IS_LOST)
        return value

    def _power(self, index: int) -> int:
        if index == 1:
            raise pynvml.NVMLError(pynvml.NVML_ERROR_NOT_SUPPORTED)
        return self._card(index, 312_500)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> SimpleNamespace:
    clock = SimpleNamespace(now=1000.0)
    monkeypatch.setattr(sampler.time, "monotonic", lambda: clock.now)
    return clock


def samples(path: Path) -> list[dict[str, float]]:
    return [entry["values"] for entry in read_log(path) if entry["kind"] == "sample"]


def test_this_machine_without_gpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    FakeDriver(monkeypatch, count=0)
    writer = Sampler(tmp_path / "hardware.jsonl", Nvml())
    writer.sample()
    writer.sample()
    writer.close()
    first, second = samples(tmp_path / "hardware.jsonl")
    assert set(first) == {"cpu/percent", "ram/used_gb", "ram/total_gb", "disk/free_gb", "disk/total_gb"}
    assert 0 < second["ram/used_gb"] < second["ram/total_gb"]
    assert 0 < second["disk/free_gb"] <= second["disk/total_gb"]
    assert 0 <= second["cpu/percent"] <= 100
    header = next(read_log(tmp_path / "hardware.jsonl"))
    assert (header["kind"], header["source"]) == ("header", "hardware")


def test_a_machine_without_the_driver_has_no_gpus_and_no_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    driver = FakeDriver(monkeypatch)
    driver.broken = True
    nvml = Nvml()
    assert (nvml.gpus, nvml.problem, nvml.values()) == ((), None, {})
    assert driver.inits == 1  # not asked again and again
    assert nvml.memory() == {}


def test_gpus_are_named_and_what_a_card_lacks_is_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    FakeDriver(monkeypatch)
    writer = Sampler(tmp_path / "hardware.jsonl", Nvml())
    writer.sample()
    writer.close()
    devices = [entry for entry in read_log(tmp_path / "hardware.jsonl") if entry["kind"] == "device"]
    assert [(entry["name"], entry["label"]) for entry in devices] == [("gpu0", "Card 0"), ("gpu1", "Card 1")]
    values = samples(tmp_path / "hardware.jsonl")[0]
    assert {key: value for key, value in values.items() if key.startswith("gpu")} == {
        "gpu0/util": 97.0,
        "gpu0/memory_used_gb": 2.5,
        "gpu0/memory_total_gb": 8.0,
        "gpu0/power_w": 312.5,
        "gpu0/power_cap_w": 625.0,
        "gpu0/temp_c": 61.0,
        "gpu1/util": 97.0,
        "gpu1/memory_used_gb": 2.5,
        "gpu1/memory_total_gb": 8.0,
        "gpu1/temp_c": 61.0,
    }


def test_what_is_free_on_each_card_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    driver = FakeDriver(monkeypatch)
    nvml = Nvml()
    assert [gpu.uuid for gpu in nvml.gpus] == ["GPU-0", "GPU-1"]
    assert nvml.memory() == dict.fromkeys(("gpu0", "gpu1"), GpuMemory(5_500_000_000, 8_000_000_000))
    driver.lost = 0
    assert list(nvml.memory()) == ["gpu1"]


def test_a_lost_driver_is_reported_once_and_tried_again_later(
    monkeypatch: pytest.MonkeyPatch, clock: SimpleNamespace, caplog: pytest.LogCaptureFixture
) -> None:
    driver = FakeDriver(monkeypatch)
    nvml = Nvml()
    driver.broken = True
    for _ in range(5):
        assert nvml.values() == {}
    assert nvml.problem
    assert len(caplog.records) == 1
    assert driver.inits == 1
    clock.now += sampler.RETRY_DRIVER_S
    assert nvml.values() == {}
    assert driver.inits == 2
    driver.broken = False
    assert nvml.values() == {}  # not before the time
    clock.now += sampler.RETRY_DRIVER_S
    assert "gpu0/util" in nvml.values()
    assert nvml.problem is None
    assert len([record for record in caplog.records if record.levelname == "WARNING"]) == 1


def test_one_lost_card_leaves_the_others(monkeypatch: pytest.MonkeyPatch, clock: SimpleNamespace) -> None:
    driver = FakeDriver(monkeypatch)
    nvml = Nvml()
    driver.lost = 0
    values = [nvml.values() for _ in range(3)][-1]
    assert {key.split("/")[0] for key in values} == {"gpu1"}
    assert nvml.problem
    assert "gpu0" in nvml.problem


def test_one_bad_answer_costs_one_reading(monkeypatch: pytest.MonkeyPatch) -> None:
    player = Player(monkeypatch, SHARED_BOX)
    nvml = Nvml()
    player.errors = {
        ("PowerUsage", 2): pynvml.NVML_ERROR_UNKNOWN,
        ("MemoryInfo", 2): pynvml.NVML_ERROR_TIMEOUT,
        ("Temperature", 3): pynvml.NVML_ERROR_FUNCTION_NOT_FOUND,  # an older driver
    }
    values = nvml.values()
    assert {key for key in values if key.startswith("gpu2")} == {
        "gpu2/util",
        "gpu2/power_cap_w",
        "gpu2/temp_c",
    }
    assert "gpu3/temp_c" not in values
    assert len([key for key in values if key.endswith("/util")]) == 8
    assert (nvml.problem, nvml.lost) == (None, {})


def test_what_a_card_never_says_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    Player(monkeypatch, DIVIDED)
    assert set(Nvml().values()) == {
        "gpu0/memory_used_gb", "gpu0/memory_total_gb", "gpu0/power_w", "gpu0/power_cap_w", "gpu0/temp_c",
    }  # fmt: skip
    Player(monkeypatch, DESKTOP)
    values = Nvml().values()
    assert "gpu0/power_w" not in values
    assert values["gpu0/power_cap_w"] == 30.0


def test_a_driver_that_comes_back_without_a_card_has_the_others(
    monkeypatch: pytest.MonkeyPatch, clock: SimpleNamespace
) -> None:
    player = Player(monkeypatch, TWO_ON_ONE)
    nvml = Nvml()
    player.errors = {("all", 1): pynvml.NVML_ERROR_GPU_IS_LOST}
    for _ in range(3):
        found = {key.split("/")[0] for key in nvml.values()}
        assert found == {"gpu0", "gpu2", "gpu3"}
        assert nvml.lost == {"gpu1": "GPU is lost"}
        assert nvml.problem
        clock.now += sampler.RETRY_DRIVER_S
    player.errors = {}
    assert "gpu1/util" in nvml.values()
    assert (nvml.problem, nvml.lost) == (None, {})


def test_a_driver_of_another_version_than_its_library_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:
    def mismatch() -> None:
        raise pynvml.NVMLError(pynvml.NVML_ERROR_LIB_RM_VERSION_MISMATCH)

    monkeypatch.setattr(pynvml, "nvmlInit", mismatch)
    nvml = Nvml()
    assert nvml.values() == {}
    assert nvml.problem == "the GPU driver does not answer: RM has detected an NVML/RM version mismatch."


def test_the_log_is_renamed_before_it_grows_too_large(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    FakeDriver(monkeypatch)
    path, read_before = tmp_path / "hardware.jsonl", []
    writer = Sampler(
        path, Nvml(), before_rotation=lambda: read_before.append(len(samples(path))), largest=1500
    )
    for _ in range(12):
        writer.sample()
    writer.close()
    old = tmp_path / "hardware-1.jsonl"
    assert old.stat().st_size < 1500 + 1000
    assert path.stat().st_size < 1500 + 1000
    headers = [json.loads(file.read_text().splitlines()[0]) for file in (old, path)]
    assert headers[0]["log"] != headers[1]["log"]
    assert [entry["kind"] for entry in read_log(path)][:3] == ["header", "device", "device"]
    assert read_before[-1] == len(samples(old))  # the reader saw all of it before the rename


def test_while_no_new_log_can_be_opened_samples_go_to_the_old_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    FakeDriver(monkeypatch)
    path, old = tmp_path / "hardware.jsonl", tmp_path / "hardware-1.jsonl"
    writer = Sampler(path, Nvml(), largest=10)
    with monkeypatch.context() as patch:
        patch.setattr(writer, "_open", lambda: (_ for _ in ()).throw(OSError(28, "full")))
        for count in (1, 2):
            with pytest.raises(OSError, match="full"):
                writer.sample()
            assert len(samples(old)) == count
    writer.sample()
    assert len(samples(old)) == 3
    assert path.exists()
    writer.close()


def test_a_worker_sees_only_its_gpu() -> None:
    env = environment({"PATH": "/bin", "OMP_NUM_THREADS": "64"}, "gpu3", threads=4)
    assert env["CUDA_VISIBLE_DEVICES"] == "3"
    assert env["CUDA_DEVICE_ORDER"] == "PCI_BUS_ID"
    assert env["OMP_NUM_THREADS"] == env["MKL_NUM_THREADS"] == "4"
    assert env["PATH"] == "/bin"
    assert environment({}, "gpu0,gpu2", threads=4)["CUDA_VISIBLE_DEVICES"] == "0,2"
    assert "CUDA_VISIBLE_DEVICES" not in environment({}, "cpu", threads=1)


@pytest.mark.parametrize(
    ("visible", "usable"),
    [
        (None, ("gpu0", "gpu1", "gpu2")),
        ("2,0", ("gpu0", "gpu2")),
        ("", ()),
        ("-1", ()),
        ("GPU-5a1b", ("gpu0", "gpu1", "gpu2")),  # by UUID: left alone
        ("7", ()),
    ],
)
def test_the_daemon_keeps_to_the_gpus_it_was_given(visible: str | None, usable: tuple[str, ...]) -> None:
    assert usable_devices(["gpu0", "gpu1", "gpu2"], visible) == usable
