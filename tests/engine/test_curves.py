"""Curves that other trainers write, read from files which their own libraries have written."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from torch.utils.tensorboard import SummaryWriter
from transformers.trainer_callback import TrainerState as State

from engine.curves.curve_flags import CurveFlags, evenly_spaced_end
from engine.curves.event_file import EventFile
from engine.curves.find import find
from engine.curves.follow import Curves, News
from engine.curves.own_lines import OwnLines
from engine.curves.points import Point
from engine.curves.trainer_state import TrainerState
from engine.curves.wandb_file import WandbFile
from finetui.log import LogWriter
from finetui.names import our_name

WANDB = """
import wandb
run = wandb.init(project="mine", settings=wandb.Settings(console="off"))
for step in range(400):
    run.log({"train/loss": 3 - step / 200, "train/global_step": 2 * step, "text": "t" * 200, "epoch": step / 100})
run.log({"eval/loss": float("nan"), "train/global_step": 800})
run.finish()
"""


@pytest.fixture(scope="module")
def wandb_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What W&B keeps of a run while it is offline: more than one block of its log."""
    folder = tmp_path_factory.mktemp("wandb")
    environment = {**os.environ, "WANDB_MODE": "offline", "WANDB_SILENT": "true", "HOME": str(folder)}
    subprocess.run([sys.executable, "-c", WANDB], cwd=folder, env=environment, check=True, timeout=120)
    (path,) = folder.glob("wandb/offline-run-*/*.wandb")
    assert path.stat().st_size > 2 * 32_768
    return path


def test_names_are_ours() -> None:
    assert [our_name(name) for name in ("loss", "eval_loss", "eval/loss", "val_loss", "learning_rate")] == [
        "train/loss",
        "heldout/loss",
        "heldout/loss",
        "heldout/loss",
        "train/lr",
    ]
    assert our_name("train/rewards/margins") == "train/rewards/margins"
    assert our_name("evaluations") == "train/evaluations", "a word that only begins so"


def test_an_event_file_is_read_as_it_grows(tmp_path: Path) -> None:
    writer = SummaryWriter(str(tmp_path))
    (path,) = tmp_path.iterdir()
    reader = EventFile(path)
    for step in range(1, 4):
        writer.add_scalar("train/loss", 3.0 - step, step)
    writer.add_scalar("train/learning_rate", 0.25, 3, new_style=True)
    writer.add_text("args", "no number")
    writer.add_histogram("weights", np.arange(4.0), 3)
    writer.flush()
    assert set(reader.read().points) == {
        Point(1, "train/loss", 2.0),
        Point(2, "train/loss", 1.0),
        Point(3, "train/loss", 0.0),
        Point(3, "train/lr", 0.25),
    }
    assert reader.read().points == ()
    writer.add_scalar("eval/loss", float("inf"), 4)
    writer.close()
    assert reader.read().points == (Point(4, "heldout/loss", float("inf")),)


def test_a_record_that_is_not_whole_yet_comes_later(tmp_path: Path) -> None:
    writer = SummaryWriter(str(tmp_path))
    (path,) = tmp_path.iterdir()
    for step in range(20):
        writer.add_scalar("loss", float(step), step)
    writer.close()
    data = path.read_bytes()
    path.write_bytes(data[:-150])
    reader = EventFile(path)
    first = reader.read().points
    path.write_bytes(data)
    assert [point.value for point in (*first, *reader.read().points)] == list(range(20))
    assert 0 < len(first) < 20


def test_the_file_of_wandb_is_read_as_it_grows(wandb_file: Path, tmp_path: Path) -> None:
    data, path = wandb_file.read_bytes(), tmp_path / "run-a.wandb"
    path.touch()
    reader = WandbFile(path)
    points: list[Point] = list(reader.read().points)
    for end in (3, 40, 20_000, 32_760, 32_775, 50_000, len(data)):
        path.write_bytes(data[:end])
        points += reader.read().points
    losses = [point for point in points if point.name == "train/loss"]
    assert [(point.step, point.value) for point in losses] == [(2 * i, 3 - i / 200) for i in range(400)]
    (nan,) = [point for point in points if point.name == "heldout/loss"]
    assert nan.step == 800
    assert np.isnan(nan.value)
    assert {point.name for point in points} == {"train/loss", "train/epoch", "heldout/loss"}, (
        "the step is no measure"
    )


def test_a_damaged_file_of_wandb_is_told(wandb_file: Path, tmp_path: Path) -> None:
    data = bytearray(wandb_file.read_bytes())
    data[20_000] ^= 4
    path = tmp_path / "run-a.wandb"
    path.write_bytes(data)
    curves = Curves([tmp_path], tmp_path / "own.jsonl", 0.0, {})
    news = curves.look()
    assert str(path) in news.notes[0]
    assert "checksum" in news.notes[0]
    path.write_bytes(b"something else")
    with pytest.raises(ValueError, match="does not begin as a file of W&B does"):
        WandbFile(path).read()


def test_the_state_of_the_trainer(tmp_path: Path) -> None:
    state = State(max_steps=30)
    state.log_history = [
        {"loss": 2.5, "learning_rate": 1e-4, "grad_norm": float("nan"), "epoch": 0.1, "step": 10},
        {"eval_loss": 2.4, "eval_runtime": 1.5, "step": 10},
    ]
    path = tmp_path / "trainer_state.json"
    state.save_to_json(str(path))
    reader = TrainerState(path)
    reading = reader.read()
    assert reading.total_steps == 30
    assert {p.step for p in reading.points} == {10}
    assert sorted(p.name for p in reading.points) == [
        "heldout/loss",
        "heldout/runtime",
        "train/epoch",
        "train/grad_norm",
        "train/loss",
        "train/lr",
    ]
    state.log_history.append({"loss": 2.0, "step": 20})
    state.save_to_json(str(path))
    assert reader.read().points == (Point(20, "train/loss", 2.0),)
    path.write_text("[]")
    with pytest.raises(ValueError, match="no log_history"):
        reader.read()


def test_lines_of_our_own_log(tmp_path: Path) -> None:
    path = tmp_path / "own.jsonl"
    log = LogWriter(path, "mine")
    log.write("plan", total_steps=7)
    log.write("metrics", step=1, values={"loss": 2.0, "eval_loss": float("inf"), "note": "x"})
    log.close()
    reader = OwnLines(path)
    reading = reader.read()
    assert reading.points == (Point(1, "train/loss", 2.0), Point(1, "heldout/loss", float("inf")))
    assert (reading.total_steps, reading.problem) == (7, None)
    with path.open("ab") as file:
        file.write(
            b'{"kind": "metrics", "values": {"loss": 1}}\nno JSON\n{"kind": "metrics", "step": 2, "values"'
        )
    assert reader.read().problem == "2 lines of it cannot be used"
    with path.open("ab") as file:
        file.write(b': {"loss": 1.5}}\n')
    assert reader.read().points == (Point(2, "train/loss", 1.5),)


def looked(curves: Curves) -> News:
    return curves.look(last=True)


def test_a_point_that_is_in_several_files_counts_once(tmp_path: Path) -> None:
    checkpoint = tmp_path / "out" / "checkpoint-2"
    checkpoint.mkdir(parents=True)
    writer = SummaryWriter(str(tmp_path / "tb"))
    for step in (1, 2):
        writer.add_scalar("train/loss", 0.1 * step, step)
    writer.close()
    curves = Curves([tmp_path], tmp_path / "own.jsonl", 0.0, {})
    assert {step: set(values) for step, values in looked(curves).steps.items()} == {
        1: {"train/loss"},
        2: {"train/loss"},
    }
    state = State(max_steps=4)
    state.log_history = [{"loss": 0.1, "step": 1}, {"loss": 0.2, "step": 2}, {"eval_loss": 0.3, "step": 2}]
    state.save_to_json(str(checkpoint / "trainer_state.json"))
    news = looked(curves)
    assert news.steps == {2: {"heldout/loss": 0.3}}
    assert (news.total_steps, news.checkpoints) == (4, [(2, checkpoint)])
    again = looked(curves)
    assert (again.steps, again.checkpoints, again.notes) == ({}, [], []), "nothing is new"
    # The next attempt finds what the one before had measured once more in the state, in double precision.
    earlier = {(1, "train/loss"): float(np.float32(0.1)), (2, "train/loss"): float(np.float32(0.2))}
    next_one = Curves([tmp_path / "out"], tmp_path / "own.jsonl", 0.0, earlier)
    assert looked(next_one).steps == {2: {"heldout/loss": 0.3}}
    assert looked(next_one).steps == {}
    longer = tmp_path / "out" / "checkpoint-3"
    longer.mkdir()
    state.log_history.append({"loss": 0.4, "step": 3})
    state.save_to_json(str(longer / "trainer_state.json"))
    assert looked(next_one).steps == {3: {"train/loss": 0.4}}


def event_file(folder: Path, pid: int, host: str | None = None) -> Path:
    return folder / f"events.out.tfevents.1.{host or socket.gethostname()}.{pid}.0"


def test_only_what_is_new_and_of_this_run_is_found(tmp_path: Path) -> None:
    for name in ("old", ".hidden", "site-packages", "new"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "trainer_state.json").write_text("{}")
    os.utime(tmp_path / "old" / "trainer_state.json", (1, 1))
    os.mkfifo(tmp_path / "run-pipe.wandb")
    mine = subprocess.Popen(["sleep", "60"], start_new_session=True)  # as torchrun starts its ranks
    others = os.getppid()
    try:
        kept = [
            event_file(tmp_path, mine.pid),
            event_file(tmp_path, os.getpid()),
            event_file(tmp_path, others, "box"),
        ]
        for path in (*kept, event_file(tmp_path, others)):
            path.touch()
        found = find([tmp_path], time.time() - 60)
    finally:
        mine.send_signal(signal.SIGKILL)
        mine.wait()
    assert set(found.files) == {*kept, tmp_path / "new" / "trainer_state.json"}
    assert found.others == {event_file(tmp_path, others)}


def test_a_file_of_another_run_stays_its_own_when_that_has_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = SummaryWriter(str(tmp_path))
    writer.add_scalar("loss", 1.0, 1)
    writer.close()
    (path,) = tmp_path.iterdir()
    theirs = path.rename(event_file(tmp_path, os.getppid()))
    curves = Curves([tmp_path], tmp_path / "own.jsonl", 0.0, {})
    assert looked(curves).steps == {}
    monkeypatch.setattr("engine.curves.find.identify", lambda pid: None)
    theirs.touch()
    assert looked(curves).steps == {}
    assert looked(Curves([tmp_path], tmp_path / "own.jsonl", 0.0, {})).steps, "it could be read"


def test_files_that_do_not_agree_are_told(tmp_path: Path) -> None:
    for folder, value in (("a", 1.0), ("b", 2.0), ("validation", 3.0)):
        writer = SummaryWriter(str(tmp_path / folder))
        writer.add_scalar("epoch_loss", value, 5)
        writer.close()
        time.sleep(0.02)  # the files are read in the order in which they were written
    news = looked(Curves([tmp_path], tmp_path / "own.jsonl", 0.0, {}))
    assert news.steps == {5: {"train/epoch_loss": 1.0, "heldout/epoch_loss": 3.0}}
    (note,) = news.notes
    assert "/b/events" in note
    assert "another file has other values of train/epoch_loss" in note


def test_a_damaged_record_costs_what_comes_after_it_and_is_told(tmp_path: Path) -> None:
    writer = SummaryWriter(str(tmp_path))
    for step in range(20):
        writer.add_scalar("loss", float(step), step)
    writer.close()
    (path,) = tmp_path.iterdir()
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 8
    path.write_bytes(data)
    curves = Curves([tmp_path], tmp_path / "own.jsonl", 0.0, {})
    assert 0 < len(curves.look().steps) < 20
    (note,) = looked(curves).notes
    assert "records of it cannot be read" in note


def test_odd_values_cost_themselves(tmp_path: Path) -> None:
    own = tmp_path / "own.jsonl"
    lines = [
        {"step": 1, "values": {"loss": 10**400, "other": 1.0}},
        {"step": 1e30, "values": {"loss": 1.0}},
        {"step": -1, "values": {"loss": 1.0}},
        {"step": 2, "values": {"loss": True, "text": "x", "real": 2.0}},
    ]
    own.write_text("".join(json.dumps({"kind": "metrics", **line}) + "\n" for line in lines))
    (tmp_path / "trainer_state.json").write_text("[" * 50_000)
    news = looked(Curves([tmp_path], own, 0.0, {}))
    assert news.steps == {1: {"train/loss": float("inf"), "train/other": 1.0}, 2: {"train/real": 2.0}}
    assert any("2 lines of it cannot be used" in note for note in news.notes)
    assert any("trainer_state.json" in note for note in news.notes)


def test_own_lines_that_are_written_anew_are_read_anew(tmp_path: Path) -> None:
    path = tmp_path / "own.jsonl"
    path.write_text('{"kind": "metrics", "step": 1, "values": {"loss": 1}}\n' * 3)
    reader = OwnLines(path)
    assert len(reader.read().points) == 3
    path.write_text('{"kind": "metrics", "step": 2, "values": {"loss": 2}}')
    assert reader.read().points == (), "its line may go on"
    assert reader.read(last=True).points == (Point(2, "train/loss", 2.0),)


def test_a_state_that_is_shorter_than_what_was_measured_has_begun_anew(tmp_path: Path) -> None:
    earlier = {(step, "train/loss"): 1.0 for step in (10, 20, 30)}
    state = State(max_steps=40)
    state.log_history = [{"loss": 1.0, "step": 10}, {"loss": 1.0, "step": 20}]
    state.save_to_json(str(tmp_path / "trainer_state.json"))
    curves = Curves([tmp_path], tmp_path / "own.jsonl", 0.0, earlier)
    assert list(looked(curves).steps) == [10, 20]
    assert looked(curves).steps == {}
    state.log_history += [{"loss": 1.0, "step": 30}, {"loss": 1.0, "step": 40}]
    state.save_to_json(str(tmp_path / "trainer_state.json"))
    assert list(looked(curves).steps) == [30, 40]


def test_a_missing_library_is_told_and_the_rest_is_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in [name for name in sys.modules if name.partition(".")[0] == "wandb"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "wandb", None)
    (tmp_path / "run-a.wandb").touch()
    (tmp_path / "trainer_state.json").write_text(json.dumps({"log_history": [{"step": 1, "loss": 1.0}]}))
    curves = Curves([tmp_path], tmp_path / "own.jsonl", 0.0, {})
    news = looked(curves)
    assert "run-a.wandb is not read, since wandb" in news.notes[0]
    assert "finetui[curves]" in news.notes[0]
    assert news.steps == {1: {"train/loss": 1.0}}
    assert looked(curves).notes == [], "told once"


# ---- flags ------------------------------------------------------------------------------------------


def test_jumps_are_told_by_the_step_that_was_logged() -> None:
    flags = CurveFlags()
    generator = np.random.default_rng(0)
    lines = []
    for point in range(1, 131):
        loss = 2.0 + 0.02 * generator.normal() + (3.0 if point in (120, 122) else 0.0)
        lines += flags.add({10 * point: {"train/loss": loss, "train/grad_norm": 1.0}})
    raised = [line for line in lines if line.state == "raised"]
    assert [(line.flag, line.level, line.step) for line in raised] == [
        ("instability", "info", 1200),
        ("instability", "warn", 1220),
    ]
    assert raised[1].since_step == 1200
    assert "at step 1220" in raised[1].message
    assert lines[-1].state == "withdrawn"
    assert not any(action.change for line in lines for action in line.actions), (
        "no key of a recipe stands for it"
    )


def test_a_loss_that_is_no_number_is_told_once() -> None:
    flags = CurveFlags()
    assert flags.add({1: {"train/loss": 2.0}}) == []
    (flag,) = flags.add({2: {"train/loss": float("nan")}})
    assert (flag.flag, flag.level, flag.step) == ("nan", "critical", 2)
    assert "step 2" in flag.message
    assert "recipe" not in " ".join(flag.advice)
    assert flags.add({3: {"train/loss": float("nan")}}) == []


def test_a_held_out_loss_that_rises_is_a_sign_and_no_warning() -> None:
    flags, lines = CurveFlags(), []
    for step, loss in ((0, 3.0), (10, 2.0), (20, 2.01), (30, 2.1), (40, 2.2), (50, 2.3), (60, 1.9)):
        lines += flags.add({step: {"heldout/loss": loss}})
    assert [(line.step, line.level, line.state) for line in lines] == [
        (40, "watch", "raised"),
        (50, "watch", "confirmed"),
        (60, "info", "withdrawn"),
    ]
    assert lines[0].since_step == 30
    assert "from 2.000 at step 10 to 2.200" in lines[0].message


def test_what_was_best_before_a_pause_still_is() -> None:
    flags = CurveFlags()
    flags.go_on({(100, "heldout/loss"): 1.5, (900, "heldout/loss"): 0.1}, 200)
    lines = [
        line for step, loss in ((300, 1.8), (400, 1.9)) for line in flags.add({step: {"heldout/loss": loss}})
    ]
    assert "from 1.500 at step 100" in lines[-1].message


def test_steps_at_the_end_that_lie_evenly() -> None:
    assert evenly_spaced_end([1, 10, 20, 30]) == [10, 20, 30]
    assert evenly_spaced_end([5]) == [5]
    assert evenly_spaced_end([]) == []
    assert evenly_spaced_end([1, 2, 3, 13]) == [3, 13]
