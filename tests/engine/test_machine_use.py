"""What is on the machine: real processes of here, on cards as others recorded them."""

from __future__ import annotations

import getpass
import subprocess
import time
from collections.abc import Iterator
from typing import Any

import pynvml
import pytest
from recorded_gpus import DESKTOP, SHARED_BOX, TWO_ON_ONE, Player, machine_of
from supervision import until

from engine.basics.process import descendants, use_of
from engine.queue import machine_use
from engine.queue.machine_use import ActiveRun, MachineUse
from engine.queue.sampler import Nvml

OURS, THEIRS, ALONE = 2620449, 3066537, 2482652  # of TWO_ON_ONE


@pytest.fixture(scope="module")
def worker() -> Iterator[subprocess.Popen[bytes]]:
    """A process with a child, as a worker with the ranks that it starts."""
    process = subprocess.Popen(["bash", "-c", "sleep 600 & wait"], start_new_session=True)
    until("its child", lambda: descendants(process.pid))
    yield process
    for pid in (*descendants(process.pid), process.pid):
        subprocess.run(["kill", str(pid)], check=False)
    process.wait()


@pytest.fixture(scope="module")
def other() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen(["sleep", "601"])
    yield process
    process.kill()
    process.wait()


def by_pid(answer: dict[str, Any]) -> dict[int, dict[str, Any]]:
    return {row["pid"]: row for row in answer["processes"]}


def test_each_process_has_its_user_and_those_below_a_worker_are_its_runs(
    monkeypatch: pytest.MonkeyPatch, worker: subprocess.Popen[bytes], other: subprocess.Popen[bytes]
) -> None:
    player = Player(monkeypatch, TWO_ON_ONE)
    rank = descendants(worker.pid)[0]
    player.pids = {OURS: rank, THEIRS: other.pid}
    looks = MachineUse(Nvml(), lambda: [ActiveRun(12, "gpu0", (worker.pid,))], container=False)
    answer = looks.look()
    found = by_pid(answer)
    ours, theirs, gone = found[rank], found[other.pid], found[ALONE]
    assert (ours["run"], ours["gpu"], ours["user"], ours["command"]) == (
        12,
        "gpu0",
        getpass.getuser(),
        "sleep 600",
    )
    assert ours["gpu_gb"] == pytest.approx(9876 * 1.048576 / 1000, abs=0.001)
    assert 0 < ours["ram_gb"] < 1
    assert ours["cpu_percent"] is None, "a load is that between two looks"
    assert (theirs["run"], theirs["command"]) == (None, "sleep 601")
    assert {gone[key] for key in ("run", "user", "command", "ram_gb")} == {None}, "it is not on this machine"
    assert (gone["gpu"], gone["gpu_gb"]) == ("gpu1", pytest.approx(1.359))
    assert [row["runs"] for row in answer["gpus"].values()] == [[12], [], [], []]
    assert looks.look() is answer, "several who look at once cost as much as one"
    time.sleep(machine_use.AGAIN_S)
    assert by_pid(looks.look())[rank]["cpu_percent"] == pytest.approx(0.0, abs=50)


def test_in_a_container_a_number_of_the_hosts_is_not_taken_for_a_process_of_here(
    monkeypatch: pytest.MonkeyPatch, other: subprocess.Popen[bytes]
) -> None:
    player = Player(monkeypatch, TWO_ON_ONE)
    player.pids = {THEIRS: other.pid}
    found = by_pid(MachineUse(Nvml(), list, container=True).look())
    assert found[other.pid]["user"] is None, "sleep has no GPU open"
    assert found[other.pid]["gpu_gb"] == pytest.approx(0.212)


def test_what_a_driver_does_not_say_is_unknown_and_the_rest_is_there(monkeypatch: pytest.MonkeyPatch) -> None:
    player, _, looks = machine_of(monkeypatch, SHARED_BOX)
    player.errors = {
        ("ComputeRunningProcesses_v3", 0): pynvml.NVML_ERROR_NO_PERMISSION,
        ("ComputeRunningProcesses_v3", 1): pynvml.NVML_ERROR_FUNCTION_NOT_FOUND,  # a driver before 510
        ("GraphicsRunningProcesses_v3", 2): pynvml.NVML_ERROR_NOT_SUPPORTED,
        ("all", 4): pynvml.NVML_ERROR_GPU_IS_LOST,
    }
    answer = looks.look()
    assert [row["gpu"] for row in answer["processes"]] == ["gpu1", "gpu2", "gpu5"]
    assert answer["gpus"]["gpu0"]["unknown"] == "Insufficient Permissions"
    assert answer["gpus"]["gpu4"]["unknown"] == "GPU is lost"
    assert [name for name, row in answer["gpus"].items() if row["unknown"]] == ["gpu0", "gpu4"]


def test_a_process_without_known_memory_is_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    _, _, looks = machine_of(monkeypatch, DESKTOP)
    assert [(row["pid"], row["gpu_gb"]) for row in looks.look()["processes"]] == [(1264, None)]


def test_a_lost_card_says_why(monkeypatch: pytest.MonkeyPatch) -> None:
    player, nvml, looks = machine_of(monkeypatch, SHARED_BOX)
    player.errors = {("all", 5): pynvml.NVML_ERROR_GPU_IS_LOST}
    assert "gpu5/util" not in nvml.values()
    gpus = looks.look()["gpus"]
    assert (gpus["gpu5"]["label"], gpus["gpu5"]["lost"]) == ("NVIDIA A100-SXM4-80GB", "GPU is lost")
    assert [name for name, row in gpus.items() if row["lost"]] == ["gpu5"]


def test_without_gpus_what_takes_most_is_listed_after_the_runs_workers(
    monkeypatch: pytest.MonkeyPatch, worker: subprocess.Popen[bytes]
) -> None:
    Player(monkeypatch, ())
    monkeypatch.setattr(machine_use, "HEAVY_RAM", 0.0)
    looks = MachineUse(Nvml(), lambda: [ActiveRun(12, "cpu", (worker.pid,))])
    answer = looks.look()
    assert answer["gpus"] == {}
    first, *rest = answer["processes"]
    assert (first["run"], first["pid"], first["gpu"]) == (12, worker.pid, None)
    assert rest
    assert len(rest) < machine_use.MOST
    memory = [row["ram_gb"] for row in rest]
    assert memory == sorted(memory, reverse=True)


def test_what_a_process_has_used(worker: subprocess.Popen[bytes]) -> None:
    use = use_of(worker.pid)
    assert use
    assert use.cpu_s < 60
    assert 0 < use.ram < 1 << 30
    assert use_of(1 << 22) is None
