"""Runs of other tools as run directories, from files that the tools themselves write in the test."""

from __future__ import annotations

import json
import math
import os
import shutil
import sqlite3
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from supervision import submission
from torch.utils.tensorboard import SummaryWriter
from tracked import TRACKIO, run_program
from transformers.trainer_callback import TrainerState as State

from engine.basics.errors import QueueError
from engine.importing import take_in
from engine.importing.homes import take_in_home
from engine.importing.look import home_at, look
from engine.importing.take_in import Outcome
from engine.queue import accept
from engine.runs import journal
from engine.runs.events import events_of
from engine.runs.home import RunDir, run_dirs
from engine.runs.imported import refuse_imported
from engine.runs.removed import remove
from finetui.files import read_json
from finetui.home import Home
from finetui.numbers import take
from store.ingest import Ingest
from store.journal_lines import Ended
from store.lines import Checkpoint, Log, Metrics
from store.projection import Projection

WANDB = """
import os, time, wandb
settings = wandb.Settings(console="off", x_stats_sampling_interval=0.2)
config = {"lr": 1e-4, "peft": {"r": 8}}
run = wandb.init(project="mine", id="one", name="named", config=config, tags=["a b", "night"], notes="a note",
                 group="g", settings=settings)
for step in range(3):
    run.log({"train/loss": 3 - step / 2, "train/global_step": 2 * step, "text": "t"})
run.config["late"] = 5
run.log({"eval/loss": float("nan"), "train/global_step": 6})
run.summary["best"] = 1.5
run.finish(exit_code=1)
run = wandb.init(project="mine", id="two", settings=wandb.Settings(console="off"))
for step in range(400):  # more than it keeps in memory
    run.log({"loss": 1.0, "text": "t" * 200})
time.sleep(1)
os._exit(0)  # nobody says how the run ended
"""


@pytest.fixture
def home(tmp_path: Path) -> Home:
    home = Home(tmp_path / "home")
    home.create()
    return home


def imported(home: Home, *paths: Path, tool: Any = None) -> list[Outcome]:
    """Import, as the command does."""
    found = [candidate for path in paths for candidate in look(path, tool).candidates]
    with take_in.alone(home):
        return list(take_in.take_in(home, found, dry=False))


def run_of(home: Home, number: int) -> RunDir:
    return next(run for run in run_dirs(home) if run.number == number)


def curve(run: RunDir, name: str) -> dict[int, float]:
    lines = [line for line in events_of(run, Metrics) if isinstance(line, Metrics)]
    return {
        line.step: float(line.values[name] or 0) for line in lines if name in line.values
    }  # "NaN" is text


def names(run: RunDir) -> set[str]:
    lines = [line for line in events_of(run, Metrics) if isinstance(line, Metrics)]
    return {name for line in lines for name in line.values}


def whats(outcomes: Sequence[Outcome]) -> list[str]:
    return [outcome.what for outcome in outcomes]


def write_events(folder: Path, losses: Sequence[float], first: int = 0) -> None:
    writer = SummaryWriter(str(folder))
    for step, loss in enumerate(losses, first):
        writer.add_scalar("train/loss", loss, step, walltime=1_000_000.0 + step)
    writer.close()


# ---- TensorBoard -------------------------------------------------------------------------------------------


def test_folders_of_event_files_become_runs_once(home: Home, tmp_path: Path) -> None:
    logs = tmp_path / "logs"
    write_events(logs / "a", [3.0, math.nan, 1.0])
    writer = SummaryWriter(str(logs / "b"))
    writer.add_scalar("eval/loss", 2.0, 4, new_style=True)
    writer.add_scalars("parts", {"one": 1.0, "two": 2.0}, 4)
    writer.add_text("args", json.dumps({"learning_rate": 2e-4, "model_name_or_path": "gpt2"}))
    writer.add_hparams({"depth": 3, "name": "x"}, {"hparam/accuracy": 0.5})
    writer.close()
    for kind in ("train", "validation"):
        keras = SummaryWriter(str(logs / "c" / kind))
        keras.add_scalar("epoch_loss", 1.0, 1)
        keras.close()

    outcomes = imported(home, logs)
    assert sorted(outcome.name for outcome in outcomes) == ["a", "b", "c"]
    by_name = {outcome.name: run_of(home, outcome.number or 0) for outcome in outcomes}
    assert {read_json(run.meta)["project"] for run in by_name.values()} == {f"tensorboard {logs}"}
    body = read_json(by_name["a"].meta)
    assert (body["name"], body["created"], body["host"]) == ("a", 1_000_000.0, os.uname().nodename)
    assert body["imported"]["tool"] == "tensorboard"
    losses = curve(by_name["a"], "train/loss")
    assert (losses[0], losses[2]) == (3.0, 1.0)
    assert math.isnan(losses[1])
    written = [json.loads(line) for line in by_name["a"].attempt(1).events.read_text().splitlines()]
    times = [line["t"] for line in written if line["kind"] == "metrics"]
    assert times == [1_000_000.0, 1_000_001.0, 1_000_002.0], "each point has its own time"
    assert names(by_name["b"]) == {"heldout/loss", "train/parts/one", "train/parts/two", "hparam/accuracy"}
    recipe = read_json(by_name["b"].meta)["recipe"]
    assert recipe == {
        "method": "tensorboard", "learning_rate": 2e-4, "model_name_or_path": "gpt2", "depth": 3.0, "name": "x",
        "model": "gpt2",
    }  # fmt: skip
    assert names(by_name["c"]) == {"train/epoch_loss", "heldout/epoch_loss"}
    assert {journal.read(run).state for run in by_name.values()} == {"finished"}

    assert whats(imported(home, logs)) == ["known"] * 3
    elsewhere = logs.rename(tmp_path / "elsewhere")
    assert whats(imported(home, elsewhere)) == ["known"] * 3, "they are the same where their files are moved"
    moved = Home(home.path.rename(tmp_path / "moved"))
    assert whats(imported(moved, elsewhere)) == ["known"] * 3
    remove(moved, run_of(moved, 1))
    assert sorted(whats(imported(moved, elsewhere))) == ["known", "known", "removed"]


def test_a_run_that_went_on_is_one_run_of_two_attempts(home: Home, tmp_path: Path) -> None:
    write_events(tmp_path / "logs", [3.0, 2.0, 1.0])
    (first,) = imported(home, tmp_path / "logs")
    write_events(tmp_path / "logs", [1.5, 0.5], first=2)  # it went on from a checkpoint
    run = run_of(home, first.number or 0)
    journal.append(run, journal.read(run), Ended("finished", 1))  # as the daemon may, at any time
    (second,) = imported(home, tmp_path / "logs")
    assert (second.what, second.number, second.points) == ("grown", first.number, 2)
    assert curve(run, "train/loss") == {0: 3.0, 1: 2.0, 2: 1.5, 3: 0.5}
    assert [attempt.number for attempt in run.attempts()] == [1, 2]
    assert journal.read(run).attempt == 2
    assert whats(imported(home, tmp_path / "logs")) == ["known"]
    projection = Projection(tmp_path / "made.duckdb")
    Ingest(projection, home.path).poll()
    with projection.read() as cursor:
        rows = cursor.execute(
            "SELECT step, value FROM metrics WHERE key = 'train/loss' ORDER BY step"
        ).fetchall()
        states = cursor.execute("SELECT state, attempt FROM runs").fetchall()
    assert rows == [(0, 3.0), (1, 2.0), (2, 1.5), (3, 0.5)], "as a rebuild has it"
    assert states == [("finished", 2)]


def test_what_an_import_left_that_was_killed_is_done_again(home: Home, tmp_path: Path) -> None:
    write_events(tmp_path / "logs", [3.0])
    (home.runs / ".importing-000001-logs").mkdir()
    (one,) = imported(home, tmp_path / "logs")
    assert not list(home.runs.glob(".*"))
    write_events(tmp_path / "logs", [2.0], first=1)
    run = run_of(home, one.number or 0)
    before = run.journal.read_bytes(), run.meta.read_bytes()
    imported(home, tmp_path / "logs")
    run.journal.write_bytes(before[0])  # killed after the attempt was there, before the journal said so
    run.meta.write_bytes(before[1])
    assert whats(imported(home, tmp_path / "logs")) == ["grown"]
    assert journal.read(run).attempt == 2
    assert len(run.attempts()) == 2


def test_a_damaged_file_costs_its_run_at_most(home: Home, tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        write_events(tmp_path / "logs" / name, [3.0, 2.0, 1.0])
    (tmp_path / "logs" / "none").mkdir()
    (tmp_path / "logs" / "none" / "events.out.tfevents.1.x.1.0").write_bytes(b"no events" * 9)
    (bad,) = (tmp_path / "logs" / "b").iterdir()
    data = bytearray(bad.read_bytes())
    data[-20] ^= 255
    bad.write_bytes(data)
    outcomes = {Path(outcome.place).name: outcome for outcome in imported(home, tmp_path / "logs")}
    assert {name: outcome.what for name, outcome in outcomes.items()} == {
        "a": "new", "b": "new", "c": "new", "none": "failed",
    }  # fmt: skip
    assert outcomes["b"].notes == [f"{bad}: 1 record of it cannot be read"]
    assert str(tmp_path / "logs" / "none") in outcomes["none"].why
    run = run_of(home, outcomes["b"].number or 0)
    assert curve(run, "train/loss") == {0: 3.0, 1: 2.0}
    warnings = [
        line.message for line in events_of(run, Log) if isinstance(line, Log) and line.level == "warning"
    ]
    assert warnings == outcomes["b"].notes


def test_a_number_is_given_once(home: Home, tmp_path: Path) -> None:
    for name in ("a", "b"):
        write_events(tmp_path / "logs" / name, [3.0])
    shutil.copytree(tmp_path / "logs" / "b", tmp_path / "logs" / "c")  # the same run once more
    assert take(home, above=4) == 5  # the daemon, of a run that is not on the disk yet
    outcomes = imported(home, tmp_path / "logs")
    assert [(outcome.number, outcome.what) for outcome in outcomes] == [(6, "new"), (7, "new"), (7, "known")]
    assert take(home, above=4) == 8, "the daemon has not seen those"
    with (
        take_in.alone(home),
        pytest.raises(QueueError, match="another import is running in this home"),
        take_in.alone(home),
    ):
        pass


# ---- the Trainer -------------------------------------------------------------------------------------------


def test_states_of_the_trainer(home: Home, tmp_path: Path) -> None:
    out = tmp_path / "out"
    history: list[dict[str, Any]] = [{"loss": 2.5, "learning_rate": 1e-4, "epoch": 0.1, "step": 10}]
    for step in (10, 20):
        state = State(max_steps=30, global_step=step, num_train_epochs=1)
        state.log_history = list(history)
        (out / f"checkpoint-{step}").mkdir(parents=True)
        state.save_to_json(str(out / f"checkpoint-{step}" / "trainer_state.json"))
        os.utime(out / f"checkpoint-{step}" / "trainer_state.json", (1000.0 + step, 1000.0 + step))
        history.append({"eval_loss": 2.4, "step": step + 10})
    (one,) = imported(home, tmp_path)
    run = run_of(home, one.number or 0)
    assert (one.name, one.state, journal.read(run).reason) == (
        "out", "cancelled", "its last checkpoint is of step 20 of 30",
    )  # fmt: skip
    assert curve(run, "train/loss") == {10: 2.5}
    assert curve(run, "heldout/loss") == {20: 2.4}
    steps = [line.step for line in events_of(run, Checkpoint) if isinstance(line, Checkpoint)]
    assert steps == [10, 20]
    write_events(out / "runs" / "Nov30", [3.0])
    found = look(tmp_path)
    assert [candidate.tool for candidate in found.candidates] == ["tensorboard"]
    assert found.problems[0][0] == str(out), "one training is imported once"


# ---- W&B ---------------------------------------------------------------------------------------------------


def test_runs_of_wandb(home: Home, tmp_path: Path) -> None:
    environment = {**os.environ, "WANDB_MODE": "offline", "WANDB_SILENT": "true", "HOME": str(tmp_path)}
    subprocess.run([sys.executable, "-c", WANDB], cwd=tmp_path, env=environment, check=False, timeout=120)
    outcomes = {outcome.name: outcome for outcome in imported(home, tmp_path / "wandb")}
    run = run_of(home, outcomes["named"].number or 0)
    body, record = read_json(run.meta), journal.read(run)
    assert body["recipe"] == {"method": "wandb", "lr": 1e-4, "peft": {"r": 8}, "late": 5}
    assert (record.state, record.reason) == ("failed", "it ended with exit code 1")
    assert (record.tags, record.group) == (("a-b", "night"), "g")
    assert body["python"] == ".".join(map(str, sys.version_info[:3]))
    assert (body["imported"]["id"], body["project"]) == ("mine/one", "wandb mine")
    assert curve(run, "train/loss") == {0: 3.0, 2: 2.5, 4: 2.0}
    assert math.isnan(curve(run, "heldout/loss")[6])
    assert curve(run, "train/best") == {6: 1.5}, "what the summary alone has"
    assert any(name.startswith("hardware/") for name in names(run))
    killed = run_of(home, outcomes["two"].number or 0)
    assert journal.read(killed).state == "cancelled"
    assert "does not say that it ended" in (journal.read(killed).reason or "")
    assert whats(imported(home, tmp_path / "wandb")) == ["known", "known"]


# ---- MLflow and trackio ------------------------------------------------------------------------------------


def test_runs_of_mlflow_are_alike_in_its_database_and_its_folders(home: Home, tmp_path: Path) -> None:
    database, files = tmp_path / "mlflow.db", tmp_path / "files"
    run_program(
        "mlflow_runs.py", tmp_path, f"sqlite:///{database}", f"file://{files}",
        MLFLOW_ALLOW_FILE_STORE="true", MLFLOW_DISABLE_TELEMETRY="true",
    )  # fmt: skip
    shown = []
    for path in (database, files):
        outcomes = imported(home, path)
        runs = {outcome.name: run_of(home, outcome.number or 0) for outcome in outcomes}
        assert list(runs) == ["parent", "child", "broken", "killed"], "not the one that was deleted"
        parent = runs["parent"]
        body, record = read_json(parent.meta), journal.read(parent)
        assert body["recipe"] == {
            "method": "mlflow", "lr": 1e-4, "model_name": "gpt2", "packing": True, "optimizer": "None",
            "model": "gpt2",
        }  # fmt: skip
        assert set(record.tags) == {"best", "team=x-y"}
        assert body["imported"]["tags"] == {"best": "", "team": "x y"}
        assert body["project"] == "mlflow tiny"
        losses = curve(parent, "train/loss")
        assert (losses[0], losses[2]) == (3.0, math.inf)
        assert math.isnan(losses[1]), "0 with a mark in the database"
        assert curve(parent, "heldout/loss") == {2: -math.inf}
        assert curve(parent, "train/without_step") == {0: 3.0, 1: 2.0, 2: 1.0}
        assert outcomes[0].notes == ["1 values of before at steps below 0 are left out"]
        assert read_json(runs["child"].meta)["parent"] == parent.number
        assert any(name.startswith("hardware/") for name in names(runs["child"]))
        assert [journal.read(run).state for run in runs.values()] == [
            "finished",
            "finished",
            "failed",
            "cancelled",
        ]
        shown.append({name: curve(run, "train/loss") | {0: 0.0, 1: 0.0} for name, run in runs.items()})
        assert whats(imported(home, path)) == ["known"] * 4
    assert shown[0] == shown[1]
    with sqlite3.connect(database) as writing:
        (uuid,) = writing.execute("SELECT run_uuid FROM runs WHERE name = 'killed'").fetchone()
        writing.execute(
            "UPDATE runs SET status = 'FINISHED', end_time = start_time + 5000 WHERE run_uuid = ?", (uuid,)
        )
    assert whats(imported(home, database)) == ["known", "known", "known", "grown"]
    assert journal.read(run_of(home, 4)).state == "finished", "it has ended since"
    database.write_bytes(database.read_bytes()[:40_000])
    broken = look(tmp_path)
    assert str(database) in broken.problems[0][0] or whats(imported(home, database)) == ["failed"]


def test_runs_of_trackio(home: Home, tmp_path: Path) -> None:
    there = tmp_path / "trackio"
    run_program("trackio_runs.py", tmp_path, TRACKIO_DIR=str(there), PYTHONPATH=str(TRACKIO))
    outcomes = imported(home, there)
    assert [outcome.name for outcome in outcomes] == ["first", "first"], "two runs of one name"
    first, second = (run_of(home, outcome.number or 0) for outcome in outcomes)
    assert read_json(first.meta)["recipe"] == {"method": "trackio", "lr": 1e-4, "peft": {"r": 8}}
    assert read_json(first.meta)["project"] == "trackio tiny"
    assert journal.read(first).group == "night"
    losses = curve(first, "train/loss")
    assert (losses[0], losses[20]) == (3.0, 1.0)
    assert math.isnan(losses[10])
    assert curve(first, "heldout/loss") == dict.fromkeys((0, 10, 20), math.inf)
    assert "hardware/gpu" in names(first)
    assert curve(second, "train/loss") == {7: 2.0}
    assert whats(imported(home, there)) == ["known", "known"]


# ---- another home ------------------------------------------------------------------------------------------


def test_runs_of_another_home(home: Home, tmp_path: Path) -> None:
    other = Home(tmp_path / "other")
    other.create()

    def add(where: Home, number: int, **more: Any) -> RunDir:
        parts = accept.read_submission({**submission(), **more})
        return accept.accept(where, number, *parts)

    add(home, 1)
    add(home, 2)
    ended = add(other, 1)
    child = add(other, 2, parent=1)
    for run in (ended, child):
        journal.append(run, journal.read(run), Ended("finished", 1))
    add(other, 7)
    found = home_at(other.path)
    assert found is not None
    outcomes = list(take_in_home(home, found, dry=False))
    assert [(outcome.number, outcome.what) for outcome in outcomes] == [(3, "new"), (4, "new"), (7, "new")]
    assert read_json(run_of(home, 4).meta)["parent"] == read_json(run_of(home, 3).meta)["uuid"]
    assert read_json(run_of(home, 4).meta)["uuid"] == read_json(child.meta)["uuid"]
    assert journal.read(run_of(home, 3)).state == "finished"
    waits = journal.read(run_of(home, 7))
    assert (waits.state, waits.adopted) == ("paused", 7), "it waits for somebody who wants it here"
    assert take(home) == 8
    assert whats(list(take_in_home(home, found, dry=False))) == ["known"] * 3


def test_what_another_home_has_imported_is_one_run(home: Home, tmp_path: Path) -> None:
    other = Home(tmp_path / "other")
    other.create()
    for name in ("a", "b"):
        write_events(tmp_path / "logs" / name, [3.0])
    imported(home, tmp_path / "logs" / "a")
    imported(other, tmp_path / "logs")
    outcomes = list(take_in_home(home, other, dry=False))
    assert [(outcome.number, outcome.what) for outcome in outcomes] == [(1, "known"), (2, "new")]
    assert "cannot be fixed" in (refuse_imported(run_of(home, 2), "fixed") or "")
    assert whats(imported(home, tmp_path / "logs")) == ["known", "known"]
