"""Which GPUs runs get: alone, side by side where their memory fits, and not in quiet hours. NVML alone is made up."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from engine.basics.errors import ConfigError
from engine.basics.gpu import GIVEN, other_gpu
from engine.models import distributed
from engine.queue import config, quiet, scheduler
from engine.queue.executor import allowed_devices, environment
from engine.queue.gpus import SETTLE_S, GpuMemory
from engine.queue.scheduler import Capacity, Decision, Start
from engine.runs.journal import RunRecord

GB = 10**9
NOW = 1e9
TWO = {"gpu0": GpuMemory(80 * GB, 80 * GB), "gpu1": GpuMemory(80 * GB, 80 * GB)}


def queued(number: int, gb: float | None = None, **changes: object) -> RunRecord:
    need = None if gb is None else int(gb * GB)
    return RunRecord(number, memory=need, **{"place": NOW + number, **changes})  # type: ignore[arg-type]


def running(
    number: int, gb: float | None, device: str = "gpu0", age: float = SETTLE_S, **changes: object
) -> RunRecord:
    need = None if gb is None else int(gb * GB)
    given = {"state": "running", "attempt": 1, "device": device, "began": NOW - age, "memory": need}
    return RunRecord(number, **{**given, **changes})  # type: ignore[arg-type]


def decide(
    waiting: Sequence[RunRecord], active: Sequence[RunRecord], memory: object = None, **changes: object
) -> Decision:
    capacity = Capacity(9, tuple(memory or TWO), share=True, memory=memory or TWO)  # type: ignore[arg-type]
    return scheduler.decide(waiting, active, replace(capacity, **changes), {}, NOW)  # type: ignore[arg-type]


ONE = {"gpu0": GpuMemory(80 * GB, 80 * GB)}


def with_free(gb: float) -> dict[str, GpuMemory]:
    return {"gpu0": GpuMemory(int(gb * GB), 80 * GB)}


def test_empty_gpus_are_taken_first_and_then_shared_where_there_is_most_room() -> None:
    chosen = decide([queued(1, 40), queued(2, 10), queued(3, 20), queued(4, 30)], [])
    assert chosen.starts == (Start(1, "gpu0"), Start(2, "gpu1"), Start(3, "gpu1"), Start(4, "gpu1"))


def test_what_would_not_fit_beside_the_others_waits_and_says_so() -> None:
    chosen = decide([queued(5, 40)], [running(4, 50)], with_free(30))
    assert chosen.starts == ()
    assert chosen.waiting[5] == (
        "run #4 is running; every GPU is taken, and none that can be shared has 41 GiB free"
    )


def test_programs_of_others_count() -> None:
    assert decide([queued(5, 20)], [running(4, 10)], with_free(15)).starts == ()
    assert decide([queued(5, 10)], [running(4, 10)], with_free(15)).starts == (Start(5, "gpu0"),)
    stranger = decide([queued(5, 20)], [], with_free(15))  # no run of ours, and yet not empty
    assert stranger.waiting[5] == "#5 needs 18.6 GiB, and gpu0 has 14 GiB free"
    assert decide([queued(5, 90)], [], ONE).starts == (Start(5, "gpu0"),), "its worker says what to change"
    assert decide([queued(5, None)], [], with_free(15)).starts == (Start(5, "gpu0"),)


def test_a_run_that_has_just_started_has_not_taken_all_yet() -> None:
    fresh = [running(4, 50, age=5)]
    assert decide([queued(5, 30)], fresh, with_free(78)).starts == ()
    assert decide([queued(5, 20)], fresh, with_free(78)).starts == (Start(5, "gpu0"),)
    assert decide([queued(5, 20), queued(6, 20)], fresh, with_free(78)).starts == (Start(5, "gpu0"),)


@pytest.mark.parametrize(
    ("waiting", "active"),
    [
        (queued(5, 10, exclusive=True), running(4, 10)),
        (queued(5, 10), running(4, 10, exclusive=True)),
        (queued(5, None), running(4, 10)),
        (queued(5, 10), running(4, None)),
        (queued(5, 10, processes=2), running(4, 10)),
    ],
)
def test_who_shares_with_nobody_waits_for_a_gpu_of_its_own(waiting: RunRecord, active: RunRecord) -> None:
    memory = TWO if waiting.processes > 1 else with_free(70)
    assert decide([waiting], [active], memory).starts == ()
    assert decide([waiting], [], memory).starts != ()


def test_runs_share_only_where_they_may() -> None:
    assert decide([queued(5, 1)], [running(4, 1)], with_free(70), share=False).starts == ()


def test_small_runs_fill_gaps_for_a_while_and_then_wait_for_the_large_one() -> None:
    line = [queued(5, processes=2), queued(6), queued(7)]
    taken = [running(4, None, "gpu1")]
    filled = decide(line, taken, share=False, gaps_s=60.0)
    assert filled.starts == (Start(6, "gpu0"),)
    assert filled.waiting[5] == "runs #4 and #6 are running; #5 needs 2 GPUs, free: 0"
    patient = [replace(line[0], place=NOW - 61), *line[1:]]
    assert decide(patient, taken, share=False, gaps_s=60.0).starts == ()


# ---- quiet hours


@pytest.mark.parametrize(
    ("hours", "at", "is_quiet"),
    [
        ("09:00-18:00", "09:00", True),
        ("09:00-18:00", "18:00", False),
        ("22:00-6:30", "23:59", True),
        ("22:00-6:30", "06:29", True),
        ("22:00-6:30", "12:00", False),
        ("", "12:00", False),
    ],
)
def test_quiet_hours(hours: str, at: str, is_quiet: bool) -> None:
    assert quiet.parse(hours).include(datetime.strptime(at, "%H:%M")) is is_quiet


def test_nothing_starts_in_quiet_hours_but_what_is_told_to() -> None:
    now = datetime.fromtimestamp(NOW)
    hours = quiet.QuietHours(now.replace(minute=0).time(), now.replace(minute=59, second=59).time())
    chosen = decide([queued(5), queued(6, urgent=True)], [], quiet=hours)
    assert [start.run for start in chosen.starts] == [6]
    assert "quiet_hours in config.toml); finetui start 5 does not wait" in chosen.waiting[5]


def test_bad_settings_are_one_sentence(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text('quiet_hours = "late"\n')
    with pytest.raises(
        ConfigError, match=r"key quiet_hours: give two times of the day, such as 09:00-18:00 \(got 'late'\)"
    ):
        config.read(file)
    file.write_text('gpus = [0, "GPU-1"]\nquiet_hours = "9:00-17:00"\nshare_gpus = true\n')
    assert config.read(file).gpus == [0, "GPU-1"]
    assert str(config.read(file).quiet) == "09:00 to 17:00"


# ---- which card is which


def test_only_the_cards_that_are_named_are_used() -> None:
    devices, uuids = ("gpu0", "gpu1", "gpu2"), {"gpu0": "GPU-a", "gpu1": "GPU-b", "gpu2": ""}
    assert allowed_devices(devices, uuids, []) == (devices, None)
    assert allowed_devices(devices, uuids, ["GPU-b", 0]) == (("gpu0", "gpu1"), None)
    assert allowed_devices(devices, uuids, [1, 7, "GPU-z"]) == (
        ("gpu1",),
        "gpus in config.toml: there is no GPU 7, GPU-z here that may be used",
    )


def test_a_worker_is_given_its_card_by_uuid() -> None:
    uuids = {"gpu0": "GPU-a", "gpu3": "GPU-d"}
    env = environment({}, "gpu3,gpu0", 2, uuids)
    assert (env["CUDA_VISIBLE_DEVICES"], env[GIVEN]) == ("GPU-d,GPU-a", "GPU-d,GPU-a")
    assert environment({}, "gpu3,gpu1", 2, uuids)["CUDA_VISIBLE_DEVICES"] == "3,1", "not all are known"
    assert "CUDA_VISIBLE_DEVICES" not in environment({}, "cpu", 2, uuids)


def test_a_worker_on_another_card_than_it_was_given_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    assert other_gpu("GPU-AB-1,GPU-cd-2", 1, "cd-2") is None
    assert other_gpu("GPU-ab-1", 0, "GPU-AB-1") is None
    assert other_gpu("0,1", 0, "ab-1") is None
    assert distributed.check_gpu() is None
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "current_device", lambda: 0)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda device: SimpleNamespace(uuid="ab-2"))
    monkeypatch.setenv(GIVEN, "GPU-ab-1")
    problem = distributed.check_gpu() or ""
    assert problem.startswith("process 0 was given the GPU ab-1 and computes on ab-2")


def test_without_a_card_that_is_allowed_nothing_starts() -> None:
    none = "gpus in config.toml: there is no GPU 7 here that may be used"
    chosen = scheduler.decide([queued(5)], [], Capacity(2, none_allowed=none), {}, NOW)
    assert (chosen.starts, chosen.waiting) == ((), {5: none})
    assert allowed_devices(("gpu0",), {"gpu0": "GPU-a"}, ["0"]) == (("gpu0",), None)


def test_what_strangers_take_keeps_nobody_waiting_for_ever() -> None:
    busy = with_free(50)
    assert decide([queued(5, 60)], [], busy, share=False).starts == (Start(5, "gpu0"),), (
        "its worker sees to it"
    )
    assert decide([queued(5, 60, urgent=True)], [], busy).starts == (Start(5, "gpu0"),)
    late = [queued(5, 60, place=NOW - 9999), queued(6, 20)]
    assert decide(late, [], busy).starts == (Start(6, "gpu0"),), "however long the other has waited"


def test_words_for_what_a_run_waits_for() -> None:
    alone = decide([queued(8, 2)], [running(4, 10, exclusive=True)], with_free(70)).waiting[8]
    assert (
        alone
        == "run #4 is running; every GPU is taken, by runs that share with nobody or whose memory is not known"
    )
    half = {"gpu0": GpuMemory(80 * GB, 80 * GB), "gpu1": GpuMemory(10 * GB, 80 * GB)}
    assert decide([queued(3, 20, processes=2)], [], half).waiting[3] == "#3 needs 2 GPUs, free: 1"
