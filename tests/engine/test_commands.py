"""Programs of the user's own as runs: queued, started, watched, stopped, started again. With a real daemon."""

from __future__ import annotations

import json
import math
import os
import shlex
import signal
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest
from supervision import until
from with_daemon import a_home, directory, row, wait_state
from workers import FORKED

from engine.attempt.command import measured_before
from engine.basics.errors import ExportError, FixError, RecipeError
from engine.client import clone, fix
from engine.client.commands import check_command
from engine.client.submit import submit
from engine.export import source
from engine.recipe import recipe_file
from engine.recipe.recipe_file import RecipeFile
from engine.runs.home import RunDir
from finetui.client import Client
from finetui.daemon import connect
from finetui.errors import StoreError
from finetui.home import Home
from finetui.log import LogWriter
from store.line_fields import write
from store.lines import Metrics

# Writes lines of our own log, as fast as it is told.
LINES = """
import json, os, sys, time
def log(**line):
    with open(os.environ["FINETUI_LOG"], "a") as file:
        file.write(json.dumps(line) + "\\n")
log(kind="plan", total_steps=10)
first = int(sys.argv[2]) if len(sys.argv) > 2 else 1
for step in range(first, 11):
    log(kind="metrics", step=step, values={"loss": 3.0 - step / 10})
    time.sleep(float(sys.argv[1]))
log(kind="metrics", step=10, values={"eval_loss": 2.5})
print("trained", os.environ["MINE"], os.environ["FINETUI_RUN"], os.environ["FINETUI_ATTEMPT"], os.getcwd())
"""
# Has a child that does the work, as torchrun and shells have.
PARENT = f"{shlex.quote(sys.executable)} lines.py 60; true"


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    """A home with its daemon, for all tests here."""
    with a_home(tmp_path_factory.mktemp("commands") / "home") as home, pytest.MonkeyPatch.context() as patch:
        patch.delenv("FINETUI_WORKER_MODULE")
        with connect(home):
            yield home


@pytest.fixture
def home(box: Home, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    work = tmp_path / "work"
    work.mkdir()
    monkeypatch.chdir(work)
    (work / "lines.py").write_text(LINES)
    monkeypatch.setenv("MINE", "as in this shell")
    return box


@pytest.fixture
def client(home: Home) -> Iterator[Client]:
    with connect(home) as client:
        yield client
        said = client.action("status")
        for run in said["queued"] + said["running"]:
            with suppress(StoreError):
                client.action("cancel", run=run)
        until("an empty queue", lambda: not client.action("status")["running"])


def command(*words: Any, **keys: Any) -> RecipeFile:
    return recipe_file.parse(
        json.dumps({"command": [str(word) for word in words], **keys}), Path("command line")
    )


def queue(client: Client, file: RecipeFile, **more: Any) -> int:
    assert file.command
    (number,) = submit(client, file, [check_command(file.command, Path.cwd())], **more)
    return number


def python(*words: Any, **keys: Any) -> RecipeFile:
    return command(sys.executable, *words, **keys)


def points(client: Client, run: int, key: str = "train/loss") -> dict[int, float]:
    client.action("drain")
    found = client.query(f"SELECT step, value FROM metrics WHERE run = {run} AND key = '{key}' ORDER BY step")
    return {one["step"]: one["value"] for one in found.to_pylist()}


def resumes(client: Client, run: int) -> list[str]:
    client.action("drain")
    events = client.query(f"SELECT message FROM events WHERE run = {run} AND kind = 'resume'").to_pylist()
    return [one["message"] for one in events]


def printed(home: Home, run: int, attempt: int = 1) -> str:
    return directory(home, run).attempt(attempt).stdout.read_text()


def test_a_command_is_started_as_in_its_shell_and_watched(home: Home, client: Client) -> None:
    run = queue(client, python("lines.py", 0, name="mine"), tags=["own"])
    found = wait_state(client, run, "finished")
    assert (found["name"], found["method"], found["model"], found["task"]) == ("mine", "command", None, None)
    assert (found["step"], found["total_steps"], found["tags"]) == (10, 10, "own")
    assert points(client, run) == {step: 3.0 - step / 10 for step in range(1, 11)}
    assert points(client, run, "heldout/loss") == {10: 2.5}
    assert f"trained as in this shell {run} 1 {Path.cwd()}" in printed(home, run)
    listed = next(one for one in client.named("runs").to_pylist() if one["run"] == run)
    assert (listed["loss"], listed["heldout"], listed["progress"]) == (2.0, 2.5, 1.0)


def test_the_environment_is_its_owners_alone(home: Home, client: Client) -> None:
    run = queue(client, python("lines.py", 0), held=True)
    where = directory(home, run)
    assert where.environment.stat().st_mode & 0o077 == 0
    assert json.loads(where.environment.read_text())["MINE"] == "as in this shell"
    assert "as in this shell" not in where.meta.read_text() + where.journal.read_text()
    assert "as in this shell" not in json.dumps(row(client, run), default=str)


def test_how_it_failed_is_told_in_its_last_words(client: Client) -> None:
    script = "echo all is well; echo 'ValueError: no such column' >&2; exit 7"
    failed = queue(client, command("sh", "-c", script))
    gone = queue(client, command("sh", "-c", "kill -TERM $$"))
    silent = queue(client, command("false"))
    reason = wait_state(client, failed, "failed")["reason"]
    assert reason == f"sh ended with exit code 7: ValueError: no such column (finetui logs {failed})"
    assert "sh was ended by SIGTERM" in wait_state(client, gone, "failed")["reason"]
    assert (
        "false ended with exit code 1: it printed nothing" in wait_state(client, silent, "failed")["reason"]
    )


def test_a_program_that_is_gone_when_its_turn_comes(client: Client, tmp_path: Path) -> None:
    program = tmp_path / "program"
    program.write_text("#!/bin/sh\n")
    program.chmod(0o755)
    run = queue(client, command(program), held=True)
    program.unlink()
    client.action("release", run=run)
    assert "program cannot be started: No such file" in wait_state(client, run, "failed")["reason"]


def test_all_that_it_started_is_told_to_stop(home: Home, client: Client) -> None:
    run = queue(client, command("sh", "-c", PARENT))
    until("its first step", lambda: points(client, run))
    shim = next(
        child
        for child in psutil.process_iter()
        if f"engine.attempt.shim {directory(home, run).path}" in words(child)
    )
    family = shim.children(recursive=True)
    assert len(family) >= 3, "the watcher, the shell and its child"
    answer = client.action("pause", run=run)
    assert answer["first"] == "its program was sent SIGTERM"
    assert wait_state(client, run, "paused")["reason"] is None
    _, left = psutil.wait_procs(family, timeout=20)
    assert not left


LEAVES = "setsid sleep 987 & setsid sh -c 'sleep 988' & exit 0"


def test_nothing_that_it_started_outlives_it(client: Client) -> None:
    """Not what made a session of its own, either: torchrun's ranks do."""
    done = queue(client, command("sh", "-c", LEAVES))
    wait_state(client, done, "finished")
    asked = queue(client, command("timeout", 300, "sleep", 989))
    until("its program", lambda: [one for one in psutil.process_iter() if words(one) == "sleep 989"])
    client.action("cancel", run=asked)
    wait_state(client, asked, "cancelled")
    assert [
        words(one) for one in psutil.process_iter() if words(one) in {f"sleep {n}" for n in (987, 988, 989)}
    ] == []


SAVES = """
import json, os, pathlib, signal, sys
number = int(os.environ["FINETUI_ATTEMPT"])
folder = pathlib.Path(f"out/checkpoint-{1000 * number}")
folder.mkdir(parents=True)
(folder / "trainer_state.json").write_text(json.dumps({"log_history": []}))
if number == 4:
    sys.exit()
with open(os.environ["FINETUI_LOG"], "a") as log:
    for step in range(900):
        name = "a_long_name_of_a_measure_" * 4
        log.write(json.dumps({"kind": "metrics", "step": 1000 * number + step, "values": {name: 1.0}}) + "\\n")
__import__("time").sleep(1.5)
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_program_that_saves_is_started_again_as_often_as_it_takes(home: Home, client: Client) -> None:
    Path("saves.py").write_text(SAVES)
    run = queue(client, python("saves.py"))
    assert wait_state(client, run, "finished", "failed")["state"] == "finished"
    assert row(client, run)["attempt"] == 4


def test_a_folder_that_is_gone_is_told(home: Home, client: Client, tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    run = queue(client, command("true"), held=True, cwd=gone)
    gone.rmdir()
    client.action("release", run=run)
    reason = wait_state(client, run, "failed")["reason"]
    assert f"the folder that it was queued in is gone: {gone}" in reason


def test_files_are_made_as_in_the_shell(client: Client) -> None:
    before = os.umask(0o022)
    try:
        run = queue(client, command("sh", "-c", "touch made; umask"))
    finally:
        os.umask(before)
    wait_state(client, run, "finished")
    assert Path("made").stat().st_mode & 0o777 == 0o644


def words(process: psutil.Process) -> str:
    try:
        return " ".join(process.cmdline())
    except psutil.Error:
        return ""


def test_it_is_resumed_with_what_it_takes_to_go_on(home: Home, client: Client) -> None:
    run = queue(client, python("lines.py", 1, on_resume=["4"]))
    until("three steps", lambda: len(points(client, run)) >= 3)
    client.action("pause", run=run)
    wait_state(client, run, "paused")
    before = points(client, run)
    assert max(before) < 10
    client.action("resume", run=run)
    until("a step of the next attempt", lambda: resumes(client, run))
    client.action("cancel", run=run)
    wait_state(client, run, "cancelled")
    after = points(client, run)
    assert list(after)[:4] == [1, 2, 3, 4], "what the first attempt measured before it, and its own"
    assert resumes(client, run) == ["resumed from step 3"]
    assert "lines.py 1 4" in printed(home, run, 2)


def test_a_command_that_begins_anew_takes_the_place_of_the_attempt_before(client: Client) -> None:
    run = queue(client, python("lines.py", 0.2))
    until("two steps", lambda: len(points(client, run)) >= 2)
    client.action("pause", run=run)
    wait_state(client, run, "paused")
    client.action("resume", run=run)
    wait_state(client, run, "finished")
    assert points(client, run) == {step: 3.0 - step / 10 for step in range(1, 11)}
    assert resumes(client, run) == ["started over: there was no checkpoint"]


def test_a_program_that_was_killed_is_started_again(home: Home, client: Client) -> None:
    run = queue(client, python("lines.py", 60))
    until("its first step", lambda: points(client, run))
    (program,) = [child for child in psutil.process_iter() if words(child).endswith("lines.py 60")]
    program.send_signal(signal.SIGKILL)
    until("another attempt", lambda: row(client, run)["attempt"] == 2)
    (ended,) = client.query(
        f"SELECT message FROM events WHERE run = {run} AND kind = 'interrupted'"
    ).to_pylist()
    assert "killed by SIGKILL" in ended["message"]
    client.action("cancel", run=run)
    wait_state(client, run, "cancelled")


def test_it_is_queued_again_with_its_environment_and_changed(
    home: Home, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = queue(client, python("lines.py", 0, name="mine"), held=True)
    monkeypatch.setenv("MINE", "of another shell")
    again = client.action("requeue", run=first)["run"]
    wait_state(client, again, "finished")
    assert "trained as in this shell" in printed(home, again)
    file, folder = clone.recipe_of(directory(home, first), ["name=other"])
    assert folder == Path.cwd()
    assert file.command
    assert file.command.name == "other"
    cloned = queue(client, file, parent=first, cwd=folder)
    assert wait_state(client, cloned, "finished")["parent"] == row(client, first)["uuid"]
    assert "trained of another shell" in printed(home, cloned)


def test_what_needs_a_recipe_of_ours_says_so(home: Home, client: Client) -> None:
    run = directory(home, queue(client, python("lines.py", 0), held=True))
    said = f"run #{run.number} is a command, {Path(sys.executable).name} lines.py 0: what it trained is where it put it"
    with pytest.raises(FixError, match=said):
        fix.propose(run)
    with pytest.raises(ExportError, match=f"{said}, and cannot be exported"):
        source.read(run)
    with pytest.raises(RecipeError, match="it has a command"):
        _ = python("lines.py").recipes
    with pytest.raises(StoreError, match="key command"):
        client.action("submit", recipe={"method": "command", "command": []})


@pytest.mark.parametrize(
    ("keys", "sentence"),
    [
        ({"command": ["nosuchprogram"]}, "nosuchprogram is no program on the PATH"),
        ({"command": ["./lines.py"]}, r"\./lines.py is no program that can be started \(chmod \+x\)"),
        ({"command": ["./gone.py"]}, r"\./gone.py is no program below"),
        ({"command": ["sh"], "watch": ["lines.py"]}, "lines.py is no folder"),
        ({"command": []}, "key command: "),
        ({"command": ["a\0b"]}, r"has the character U\+0000"),
        ({"command": ["sh"], "sweep": {"x": [1]}}, "key sweep: a command has none"),
        ({"command": ["sh"], "train": {}}, "key train: unknown key"),
        ({"command": ["sh"], "method": "lora"}, "key method: must be one of 'command'"),
    ],
)
def test_what_is_wrong_with_a_command_is_one_sentence(
    home: Home, keys: dict[str, Any], sentence: str
) -> None:
    def check() -> None:
        file = recipe_file.parse(json.dumps(keys), Path("mine.yaml"))
        assert file.command
        check_command(file.command, Path.cwd())

    with pytest.raises(RecipeError, match=sentence) as raised:
        check()
    assert "\n" not in str(raised.value)


# ---- real trainers ----------------------------------------------------------------------------------

TRAINER = """
import os, sys
from datasets import Dataset
from transformers import AutoModelForCausalLM, AutoTokenizer, DataCollatorForLanguageModeling
from transformers import Trainer, TrainerCallback, TrainingArguments
class Slow(TrainerCallback):
    def on_step_end(self, arguments, state, control, **_):
        import time
        if state.global_step == 3:  # between two checkpoints: one that is cut while it is written would be gone on from
            time.sleep(float(os.environ.get("SLOW", 0)))
path = sys.argv[1]
tokenizer = AutoTokenizer.from_pretrained(path)
tokenizer.pad_token = tokenizer.pad_token or tokenizer.eos_token
rows = Dataset.from_list([{"text": f"def f{i}(x): return x + {i}"} for i in range(24)])
rows = rows.map(lambda row: tokenizer(row["text"]), remove_columns=["text"])
arguments = TrainingArguments(
    "out", max_steps=6, per_device_train_batch_size=2, logging_steps=1, eval_strategy="steps", eval_steps=2,
    save_steps=2, report_to=["tensorboard"], use_cpu=True, disable_tqdm=True,
)
trainer = Trainer(
    AutoModelForCausalLM.from_pretrained(path), arguments, DataCollatorForLanguageModeling(tokenizer, mlm=False),
    rows.select(range(20)), rows.select(range(20, 24)), callbacks=[Slow()],
)
trainer.train(resume_from_checkpoint="--resume" in sys.argv)
"""
TRL = """
import sys
from datasets import Dataset
from trl import SFTConfig, SFTTrainer
rows = Dataset.from_list([{"prompt": f"Add {i}.", "completion": f" x + {i}"} for i in range(16)])
arguments = SFTConfig(
    "out", max_steps=3, per_device_train_batch_size=2, logging_steps=1, eval_strategy="steps", eval_steps=3,
    save_steps=3, report_to=[], use_cpu=True, disable_tqdm=True, bf16=False,
)
train, heldout = rows.select(range(12)), rows.select(range(12, 16))
SFTTrainer(sys.argv[1], arguments, train_dataset=train, eval_dataset=heldout).train()
"""


def test_a_trainer_of_transformers_is_watched_paused_and_goes_on(
    home: Home, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SLOW", "4")
    program = command(*FORKED, "-c", TRAINER, os.environ["FINETUI_SHALLOW"], on_resume=["--resume"])
    run = queue(client, program)
    until("its first checkpoint", lambda: client.named("checkpoints", run=run).to_pylist())
    client.action("pause", run=run)
    wait_state(client, run, "paused")
    assert row(client, run)["total_steps"] == 6
    client.action("resume", run=run)
    found = wait_state(client, run, "finished")
    assert found["step"] == 6
    losses, heldout = points(client, run), points(client, run, "heldout/loss")
    state = json.loads(Path("out/checkpoint-6/trainer_state.json").read_text())["log_history"]
    assert losses == pytest.approx({one["step"]: one["loss"] for one in state if "loss" in one}, rel=1e-5)
    assert heldout == pytest.approx(
        {one["step"]: one["eval_loss"] for one in state if "eval_loss" in one}, rel=1e-5
    )
    assert set(losses) == set(range(1, 7))
    assert set(heldout) == {2, 4, 6}
    (number,) = client.query(
        f"SELECT count(*) AS n FROM metrics WHERE run = {run} AND key = 'train/lr'"
    ).to_pylist()
    assert number["n"] == 6, "each point once, over both attempts"
    checkpoints = client.named("checkpoints", run=run).to_pylist()
    assert [(one["step"], one["path"]) for one in checkpoints] == [
        (step, str(Path(f"out/checkpoint-{step}").absolute())) for step in (2, 4, 6)
    ]
    assert all(one["present"] and one["bytes"] > 1e6 for one in checkpoints)


def test_a_script_of_trl_is_watched(client: Client) -> None:
    run = queue(client, command(*FORKED, "-c", TRL, os.environ["FINETUI_SHALLOW"]))
    found = wait_state(client, run, "finished", "failed")
    assert (found["state"], found["step"], found["total_steps"]) == ("finished", 3, 3)
    assert set(points(client, run)) == {1, 2, 3}
    assert set(points(client, run, "heldout/loss")) == {3}


def test_what_was_no_number_is_none_for_the_next_attempt_either(tmp_path: Path) -> None:
    run = RunDir(tmp_path / "000001-mine")
    log = LogWriter(run.attempt(1).events, "worker", 1, 1)
    write(log, Metrics(3, {"train/loss": float("nan")}))
    log.close()
    ((key, value),) = measured_before(run, 2).items()
    assert key == (3, "train/loss")
    assert math.isnan(value), "in the log it is text"
