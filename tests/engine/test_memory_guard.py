"""Training within the memory that is there: real processes, real resident memory, real limits."""

from __future__ import annotations

import json
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from finished import killed_after
from workers import curve, finish, last_error, make_run, nlls, of_kind, small, start, wait_for, work

from engine.memory.estimate import GIB, MIB
from engine.runs.home import RunDir
from engine.training.memory_forecast import Largest
from engine.training.memory_guard import is_out_of_memory
from engine.training.meter import Meter
from engine.training.probe_cache import ProbeCache

pytestmark = pytest.mark.skipif(
    not Path("/proc/self/clear_refs").exists(), reason="peaks are reset through Linux's /proc"
)

QUICK = {"train__precision": "fp32", "evals__general": None, "evals__generate": 0, "evals__limit": 4}


def run_at(path: Path, **changes: object) -> RunDir:
    return make_run(path, small(**{"method": "lora", **QUICK, **changes}))


def memory(run: RunDir, attempt: int = 1) -> list[dict[str, object]]:
    return of_kind(run, attempt, "memory")


@pytest.mark.parametrize("dropout", [0.0, 0.1])
def test_the_probe_changes_no_loss(tmp_path: Path, dropout: float) -> None:
    method = {"name": "lora", "dropout": dropout}
    runs = []
    for probe in (True, False):
        run = run_at(tmp_path / f"00000{int(probe)}-run", method=method, train__memory_probe=probe)
        assert work(run) == 0, run.attempt(1).stdout.read_text()
        runs.append(run)
    assert curve(runs[0]) == curve(runs[1])
    assert nlls(runs[0]) == nlls(runs[1])
    assert [event["cause"] for event in memory(runs[0])] == ["probe", "end"]
    assert [event["cause"] for event in memory(runs[1])] == ["end"]
    for event in memory(runs[0]):
        assert event["micro_tokens"] == 192
        assert event["predicted_mb"] > 300  # a forked process shares what an own one would hold


def test_the_next_run_of_a_shape_believes_what_the_probe_measured(tmp_path: Path) -> None:
    runs = [run_at(tmp_path / "runs" / f"00000{number}-run", train__lr=number * 1e-4) for number in (1, 2, 3)]
    assert [work(run) for run in runs[:2]] == [0, 0]
    (cache,) = (tmp_path / "cache" / "probe").glob("*.json")
    (measured,) = passes(cache)
    assert measured["bytes"] > MIB
    first, second = (memory(run) for run in runs[:2])
    assert [event["cause"] for event in second] == [event["cause"] for event in first] == ["probe", "end"]
    assert float(second[0]["measured_mb"]) == pytest.approx(float(first[0]["measured_mb"]), rel=0.2)  # type: ignore[arg-type]
    cache.write_bytes(b"damaged")
    assert work(runs[2]) == 0
    assert len(passes(cache)) == 1, "measured anew"


def passes(cache: Path) -> list[dict[str, Any]]:
    return list(json.loads(cache.read_bytes().partition(b"\n")[2]))


def test_only_a_pass_as_large_is_believed(tmp_path: Path) -> None:
    cache = ProbeCache.__new__(ProbeCache)
    cache._path = tmp_path / "probe.json"
    assert cache.read(largest(8, 800)) is None
    cache.write(largest(8, 800), 1000)
    assert cache.read(largest(8, 800)) == 1100
    assert cache.read(largest(8, 830)) == 1100, "nearly as large"
    assert cache.read(largest(8, 900)) is None
    cache.write(largest(16, 1600), 3000)
    assert cache.read(largest(8, 900)) == 3300
    assert cache.read(largest(4, 100)) == 1100


def largest(rows: int, tokens: int) -> Largest:
    return Largest(np.arange(rows), tokens, 100, tokens // 2)


ROWS = [{"prompt": f"{n} " + "is what? " * 40, "completion": f"It is {n}."} for n in range(60)]
# Two of these in one forward pass take far more than anything else.
LONG = [{"prompt": f"Say {n}.", "completion": f"{n} and " * 330} for n in range(2)]
MEET_AT = 4  # the step at which they meet, with the seed below
PLENTY = 64.0  # GiB: no limit, but memory is given back as it is under one
MARGIN = 25 * MIB  # less than what the second of them takes, more than noise


@pytest.fixture(scope="module")
def lengths(tmp_path_factory: pytest.TempPathFactory) -> dict[str, object]:
    """A recipe whose fourth step of six is the largest by far."""
    folder = tmp_path_factory.mktemp("data")
    (folder / "rows.jsonl").write_text("\n".join(map(json.dumps, ROWS + LONG)))
    (folder / "heldout.jsonl").write_text(
        "\n".join(json.dumps({**row, "completion": "No."}) for row in ROWS[:4])
    )
    return {
        "seed": 49,
        "data": {"train": str(folder / "rows.jsonl"), "heldout": str(folder / "heldout.jsonl")},
        "evals__every": 6,
        "train__micro_tokens": 1600,
        "train__tokens_per_step": 1600,
        "train__max_length": "auto",
        "train__max_steps": 6,
    }


@pytest.fixture(scope="module")
def free(tmp_path_factory: pytest.TempPathFactory, lengths: dict[str, object]) -> RunDir:
    """A run of it that had memory enough."""
    run = run_at(
        tmp_path_factory.mktemp("free") / "000001-run",
        **lengths,
        train__memory_probe=False,
        train__memory_limit=PLENTY,
    )
    assert work(run) == 0, run.attempt(1).stdout.read_text()
    return run


def peak(run: RunDir, attempt: int = 1) -> float:
    """Of the whole attempt, bytes."""
    return float(memory(run, attempt)[-1]["measured_mb"]) * MIB  # type: ignore[arg-type]


def test_out_of_memory_in_mid_run_is_overcome_and_a_resumed_run_is_the_same(
    tmp_path: Path, lengths: dict[str, object], free: RunDir
) -> None:
    limit = (peak(free) - MARGIN) / GIB
    changes = {**lengths, "train__memory_probe": False, "train__memory_limit": limit}
    run = run_at(tmp_path / "000001-run", **changes)
    assert work(run) == 0, run.attempt(1).stdout.read_text()
    first, last = memory(run)
    assert (first["cause"], first["step"]) == ("out_of_memory", MEET_AT - 1)
    assert last["cause"] == "end"
    assert first["micro_tokens"] == last["micro_tokens"] < 1600
    (told,) = [event["message"] for event in of_kind(run, 1, "log") if event["level"] == "warning"]
    assert "are allowed" in told
    assert curve(run, key="train/tokens") == curve(free, key="train/tokens")
    assert curve(run) == pytest.approx(curve(free), rel=1e-4)

    killed = run_at(tmp_path / "000002-killed", **changes)
    process = start(killed)
    wait_for(killed, 1, "memory", process, cause="out_of_memory")  # no checkpoint knows of it yet
    process.kill()
    assert finish(process) == -signal.SIGKILL
    known = killed_after(run, tmp_path / "000003-known", step=MEET_AT + 1)
    for cut in (killed, known):
        assert work(cut, attempt=2) == 0, cut.attempt(2).stdout.read_text()
        (resume,) = of_kind(cut, 2, "resume")
        kept = {step: loss for step, loss in curve(cut).items() if step <= resume["from_step"]}
        assert kept | curve(cut, 2) == curve(run)
        assert memory(cut, 2)[-1]["micro_tokens"] == last["micro_tokens"]


def test_the_probe_lowers_what_does_not_fit(tmp_path: Path, lengths: dict[str, object], free: RunDir) -> None:
    limit = (peak(free) - MARGIN) / GIB
    run = run_at(tmp_path / "000001-run", **lengths, train__memory_limit=limit)
    assert work(run) == 0, run.attempt(1).stdout.read_text()
    probe, end = memory(run)
    assert (probe["cause"], end["cause"]) == ("probe", "end")
    assert probe["micro_tokens"] == end["micro_tokens"] < 1600
    assert probe["measured_mb"] <= limit * 1024
    assert end["measured_mb"] <= limit * 1024
    assert curve(run) == pytest.approx(curve(free), rel=1e-4)


def test_an_example_that_cannot_fit_is_told_in_a_sentence(tmp_path: Path, lengths: dict[str, object]) -> None:
    run = run_at(tmp_path / "000001-run", **lengths, train__memory_limit=0.2)
    assert work(run) == 4
    said = last_error(run)
    assert "an example of 670 tokens alone does not fit into 205 MiB" in said
    assert "lower train.max_length" in said
    assert "Traceback" not in run.attempt(1).stdout.read_text()


def test_what_counts_as_out_of_memory() -> None:
    with pytest.raises(RuntimeError) as refused:
        torch.empty(1 << 60, dtype=torch.uint8)  # a real refusal of the allocator
    assert is_out_of_memory(refused.value)
    assert is_out_of_memory(MemoryError())
    assert is_out_of_memory(torch.OutOfMemoryError("CUDA out of memory"))
    assert not is_out_of_memory(RuntimeError("shape mismatch"))


def test_peaks_are_measured_between_resets() -> None:
    meter = Meter("auto")
    meter.reset()
    before = meter.peak
    held = torch.ones(200 * MIB, dtype=torch.uint8)
    assert meter.peak >= before + 150 * MIB
    del held
    top = meter.peak
    meter.reset()
    assert meter.peak < top - 150 * MIB
    assert meter.highest == top
    assert meter.limit > before
