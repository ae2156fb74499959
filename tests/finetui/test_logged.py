"""Runs that a program logs by itself, without a daemon: what is written, and that nothing stops the program."""

from __future__ import annotations

import copy
import json
import logging
import math
import os
import pickle
import re
import signal
import subprocess
import sys
import threading
from argparse import Namespace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from small_disk import small_disk

import finetui
from finetui import endings
from finetui.compat import wandb
from finetui.files import read_json
from finetui.home import Home
from finetui.log import read_log
from finetui.measures import Measures
from store.journal_lines import JOURNAL, Tagged
from store.line_fields import Bad, read_lines
from store.lines import WORKER, End, Eval


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    home = Home(tmp_path / "home")
    monkeypatch.setenv("FINETUI_HOME", str(home.path))
    monkeypatch.setenv("FINETUI_DAEMON", "off")
    return home


def events(run: finetui.Run) -> Path:
    assert run.path is not None
    return run.path / "attempts" / "1" / "events.jsonl"


def of_kind(run: finetui.Run, kind: str) -> list[dict[str, Any]]:
    return [line for line in read_log(events(run)) if line["kind"] == kind]


def metrics(run: finetui.Run) -> dict[int, dict[str, Any]]:
    found: dict[int, dict[str, Any]] = {}
    for line in of_kind(run, "metrics"):
        found.setdefault(line["step"], {}).update(line["values"])
    return found


def python(code: str, **environment: str) -> subprocess.Popen[str]:
    """A program of its own."""
    return subprocess.Popen(
        [sys.executable, "-c", code],
        env={**os.environ, **environment},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def test_a_run_is_a_directory_as_our_own_are(home: Home) -> None:
    config = Namespace(lr=1e-4, model="gpt2", betas=(0.9, np.float32(0.5)), where=Path("x"), none=math.inf)
    run = finetui.init(
        "my project", config=config, tags=["a, b"], group="night", note="first", total_steps=20
    )
    run.log({"loss": 2.5, "eval_loss": 2.75, "learning_rate": 1e-4, "train": {"acc": True, "deep": {"x": 3}}})
    run.log({"loss": float("nan"), "norm": np.float32(1.5), "one": np.array([2])}, step=10)
    run.finish()
    assert run.path == home.runs / "000001-my-project"
    assert metrics(run) == {
        1: {
            "train/loss": 2.5, "heldout/loss": 2.75, "train/lr": 1e-4, "train/acc": 1, "train/deep/x": 3,
        },
        10: {"train/loss": "NaN", "train/norm": 1.5, "train/one": 2.0},
    }  # fmt: skip
    journal = [line for _, line in read_lines(run.path / "journal.jsonl", JOURNAL)]
    assert [getattr(line, "kind", line) for line in journal] == [
        "submitted", "tagged", "grouped", "note", "starting", "running",
    ]  # fmt: skip
    lines = [line for _, line in read_lines(events(run), WORKER)]
    assert not any(isinstance(line, Bad) for line in lines)
    assert isinstance(lines[-1], End)
    assert (lines[-1].status, lines[-1].step) == ("finished", 10)
    meta = json.loads((run.path / "run.json").read_text())
    assert meta["recipe"] == {
        "lr": 1e-4, "model": "gpt2", "betas": [0.9, 0.5], "where": "x", "none": "Infinity",
    }  # fmt: skip
    assert {path.name for path in home.path.iterdir()} == {"numbers", "runs"}


def test_a_text_is_one_tag() -> None:
    with finetui.init(tags="single one") as run:
        assert run.path is not None
    journal = read_lines(run.path / "journal.jsonl", JOURNAL)
    assert [line.tags for _, line in journal if isinstance(line, Tagged)] == [["single-one"]]


def test_a_line_says_what_json_would(caplog: pytest.LogCaptureFixture) -> None:
    values = {'a"\\\n': 0.1, "ü/\ud800": 1e300, "c": -0.0, "d": 2**62, "e": 5e-324, "f": math.inf, "g/h": -7}
    line = Measures(pytest.fail).line(values, 7)
    assert line is not None
    assert line.endswith(b"\n")
    read = json.loads(line)["values"]
    spelled = {**values, "f": "Infinity"}
    assert read == {name if "/" in name else f"train/{name}": value for name, value in spelled.items()}


def test_what_is_no_number_is_left_out_with_one_warning(caplog: pytest.LogCaptureFixture) -> None:
    run = finetui.init("words")
    for _ in range(3):
        run.log({"text": "hello", "loss": 1.0, "many": np.zeros(3), "none": None, "huge": 10**400})
    run.log("not even a dictionary")  # type: ignore[arg-type]
    run.log({"loss": 2.0}, step=-1)
    run.log_examples(3, [1.0, 2.0], tokens=[1])
    run.finish()
    run.log({"loss": 3.0})
    said = [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]
    for word in ("text", "many", "none", "huge", "-1 is no step", "2 losses and 1 tokens", "finished"):
        assert sum(word in sentence for sentence in said) == 1, (word, said)
    for sentence in (
        "huge is left out: it is too large for a number of 64 bits",
        "log takes a dictionary of numbers by name, not str",
    ):
        assert f"finetui: run #{run.number}: {sentence}" in said
    assert [line["values"] for line in of_kind(run, "metrics")] == [
        *[{"train/loss": 1.0}] * 3,
        {"train/loss": 2.0},
    ]
    assert len(of_kind(run, "log")) == len(said) - 1  # the last one came after the end


def test_examples_have_the_interval_of_our_own_evaluations() -> None:
    from engine.basics.statistics import ratio

    with finetui.init("examples") as run:
        run.log_examples(
            0, [2.0, 4.0, 9.0, 1.0], [1, 2, 3, 0], ids=list("abcd"), texts=["A", ("p", "B"), "C", "D"]
        )
        run.log_examples(5, np.array([1.0, 2.0]), np.array([3, 4]), suite="seen", reduction="mean")
    lines = [line for _, line in read_lines(events(run), WORKER) if isinstance(line, Eval)]
    first, second = lines
    expected = ratio(np.array([2.0, 4.0, 9.0]), np.array([1, 2, 3])).measure
    loss = first.values["loss"]
    assert (loss.value, loss.lo, loss.hi, loss.n) == (expected.value, expected.lo, expected.hi, 3)
    assert first.examples.id == ["a", "b", "c"]  # the last one has no token
    assert (second.suite, second.examples.nll) == ("seen", [3.0, 8.0])
    (texts,) = of_kind(run, "examples")
    assert [row["target"] for row in texts["rows"]] == ["A", "B", "C"]


def test_examples_without_ids_are_known_by_their_texts() -> None:
    def ids(run: finetui.Run) -> list[list[str]]:
        return [look["examples"]["id"] for look in of_kind(run, "eval")]

    with finetui.init("one") as one:
        one.log_examples(0, [1.0, 2.0, 3.0], texts=["a", "b", "a"])
        one.log_examples(1, [1.0, 2.0, 3.0])
        one.log_examples(2, [2.0, 1.0, 3.0], texts=["b", "a", "a"])
    with finetui.init("two") as two:
        two.log_examples(0, [1.0, 2.0], texts=["c", ("", "a")])
    with finetui.init("three") as three:
        three.log_examples(0, [1.0, 2.0])
        three.log_examples(1, [1.0, 2.0], texts=["a", "b"])  # the first look has named them
    a, b, again = ids(one)[0]
    assert len({a, b, again}) == 3
    assert ids(one)[1:] == [[a, b, again], [b, a, again]]
    assert not set(ids(two)[0]) & {a, b, again}
    assert ids(three) == [["0", "1"]] * 2


def test_two_runs_in_one_process_and_several_threads() -> None:
    first, second = finetui.init("one"), finetui.init("two")

    def work() -> None:
        for step in range(200):
            first.log({"loss": 0.5}, step=step)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    second.log({"loss": 1.0})
    for thread in threads:
        thread.join()
    second.finish()
    first.log({"loss": 9.0})
    first.finish()
    assert (first.number, second.number) == (1, 2)
    assert len(of_kind(first, "metrics")) == 801
    assert len(list(read_log(events(first)))) == sum(1 for _ in events(first).open())  # all whole
    assert metrics(second) == {1: {"train/loss": 1.0}}


def test_config_and_summary_may_change() -> None:
    run = finetui.init("changes", config={"lr": 1})
    run.config.update({"batch": 2}, layers=3)
    run.config.lr = 4
    run.config.setdefaults({"lr": 5, "seed": 6})
    run.log({"acc": 0.5})
    run.summary["best"] = 0.75
    run.rename("better")
    run.finish()
    meta = json.loads((run.path / "run.json").read_text()) if run.path else {}
    assert (meta["name"], meta["recipe"]) == ("better", {"lr": 4, "batch": 2, "layers": 3, "seed": 6})
    assert dict(run.summary) == {"acc": 0.5, "summary/best": 0.75, "best": 0.75}
    assert metrics(run)[1] == {"train/acc": 0.5, "summary/best": 0.75}


def test_a_forked_child_logs_nothing(caplog: pytest.LogCaptureFixture) -> None:
    run = finetui.init("forks")
    run.log({"loss": 1.0})
    child = os.fork()
    if child == 0:
        run.log({"loss": 2.0})
        run.finish()
        os._exit(0 if "forked" in caplog.text else 1)
    assert os.waitpid(child, 0)[1] == 0
    run.log({"loss": 3.0})
    run.finish()
    assert [line["values"]["train/loss"] for line in of_kind(run, "metrics")] == [1.0, 3.0]
    assert len(of_kind(run, "end")) == 1


def test_what_is_kept_of_a_value_is_a_number() -> None:
    """A tensor would keep all that it was computed from."""

    class Tensor:
        def item(self) -> float:
            return 0.5

    with finetui.init("kept") as run:
        run.log({"loss": Tensor(), "word": "x"})
        assert dict(run.summary) == {"loss": 0.5}
        again = pickle.loads(pickle.dumps(run))
        assert copy.deepcopy({"run": run})["run"] is run
    assert not again.active
    again.log({"loss": 1.0})


@pytest.mark.parametrize("name", ["RANK", "SLURM_PROCID", "OMPI_COMM_WORLD_RANK", "PMI_RANK"])
def test_only_the_first_rank_writes(name: str, home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "1")
    run = finetui.init("ranks", config={"lr": 1})
    run.log({"loss": 1.0})
    run.log_examples(0, [1.0])
    run.config.lr = 2
    run.finish()
    assert run.path is None
    assert not home.path.exists()
    monkeypatch.setenv(name, "0")
    with finetui.init("ranks") as first:
        assert first.number == 1


def test_a_home_that_cannot_be_used_is_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("FINETUI_HOME", str(tmp_path / "file" / "home"))
    with finetui.init("nowhere") as run:
        run.log({"loss": 1.0})
    assert "not logged" in caplog.text


ENDS = {
    "run.log({'loss': 1.0})": ("finished", None),
    "raise ValueError('too hot')": ("failed", "ValueError: too hot"),
    "raise KeyboardInterrupt": ("cancelled", "stopped by the keyboard"),
    "sys.exit(3)": ("failed", "it ended with exit code 3"),
    "sys.exit()": ("finished", None),
    "run.finish('failed', 'no luck')": ("failed", "no luck"),
    "\nwith run: raise SystemExit(4)": ("failed", "it ended with exit code 4"),
}


def test_a_program_that_ends_says_how() -> None:
    programs = [python(f"import sys, finetui; run = finetui.init('ends'); {code}") for code in ENDS]
    for program in programs:
        program.communicate(timeout=120)
    ends = []
    for path in finetui_runs():
        (end,) = [
            line for line in read_log(path / "attempts" / "1" / "events.jsonl") if line["kind"] == "end"
        ]
        ends.append((end["status"], end.get("error") or end.get("reason")))
    assert sorted(ends, key=str) == sorted(ENDS.values(), key=str)


def finetui_runs() -> list[Path]:
    return sorted((Path(os.environ["FINETUI_HOME"]) / "runs").iterdir())


def test_a_killed_program_has_lost_nothing() -> None:
    program = python(
        "import sys, finetui\n"
        "run = finetui.init('killed')\n"
        "for step in range(10**9):\n"
        "    run.log({'loss': float(step)}, step=step)\n"
        "    print(step, flush=True)\n"
    )
    assert program.stdout is not None
    for _ in range(500):
        program.stdout.readline()
    program.send_signal(signal.SIGKILL)
    said = [line for line in program.communicate()[0].splitlines(keepends=True) if line.endswith("\n")]
    acknowledged = int(said[-1]) + 1 if said else 500
    (path,) = finetui_runs()
    steps = [
        line["step"]
        for line in read_log(path / "attempts" / "1" / "events.jsonl")
        if line["kind"] == "metrics"
    ]
    assert steps == list(range(len(steps)))
    assert len(steps) >= acknowledged


def test_processes_that_begin_at_once_share_no_number() -> None:
    code = "import finetui\nfor _ in range(6): finetui.init('many', daemon=False).finish()"
    programs = [python(code) for _ in range(3)]
    for program in programs:
        assert program.communicate(timeout=120)[1] == ""
    assert [int(path.name[:6]) for path in finetui_runs()] == list(range(1, 19))


def test_on_a_full_disk_lines_wait(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("finetui.patient_log.MOST_WAITING", 600)
    with small_disk(tmp_path / "disk", 4) as disk:
        monkeypatch.setenv("FINETUI_HOME", str(disk.path / "home"))
        run = finetui.init("full")
        run.log({"loss": 0.0}, step=0)
        disk.fill()
        for step in range(1, 501):
            run.log({"loss": float(step), "padding": 1 / 3, "more": 2 / 3}, step=step)
        run.config.lr = 1  # cannot be written, either
        assert len(of_kind(run, "metrics")) < 500
        disk.clear()
        run.log({"loss": 501.0}, step=501)
        run.finish()
        assert list(metrics(run)) == list(range(502))
        assert of_kind(run, "end")
    assert caplog.text.count("cannot be written (No space left on device)") == 1


def test_scripts_of_wandb_go_on_as_they_are(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    run = wandb.init(
        project="moved", config={"lr": 1}, tags=["t"], notes="n", entity="me", settings=wandb.Settings()
    )
    wandb.config.update({"batch": 8})
    wandb.define_metric("acc", summary="max")
    wandb.define_metric("val/wer", step_metric="epoch", goal="minimize")
    wandb.define_metric("val/*", summary="min,max")
    wandb.define_metric("*", step_metric="epoch")
    wandb.define_metric("val/a*", summary="max")
    wandb.define_metric("val/acc_gap*", summary="min")
    wandb.watch(object())
    wandb.log({"acc": 0.5, "score": 1.0}, commit=False)
    wandb.define_metric("scor*", summary="max")
    wandb.log(
        {
            "loss": 1.0,
            "picture": wandb.Image("x.png"),
            "pictures": [wandb.Image("y.png")],
            "line": wandb.plot.line("t"),
        }
    )
    wandb.log({"loss": 0.5})
    wandb.log({"loss": 0.25, "score": 2.0, "val/acc": 0.5, "val/acc_gap_2": 0.1, "val/wer": 0.2}, step=10)
    assert wandb.run is run
    wandb.run.summary["best"] = 0.25
    run.name = "another"
    assert run.config["batch"] == 8
    own = run._own
    assert wandb.init(project="again") is run
    wandb.finish()
    assert wandb.run is None
    assert metrics(own) == {
        0: {"train/acc": 0.5, "train/score": 1.0, "train/loss": 1.0},
        1: {"train/loss": 0.5},
        10: {
            "train/loss": 0.25,
            "train/score": 2.0,
            "heldout/acc": 0.5,
            "heldout/acc_gap_2": 0.1,
            "heldout/wer": 0.2,
            "summary/best": 0.25,
        },
    }
    assert own.path is not None
    told = read_json(own.path / "run.json")["higher_is_better"]
    best = {"train/acc": True, "train/score": True, "heldout/acc": True}
    assert told == best | {"heldout/wer": False, "heldout/acc_gap_2": False}
    for what in ("watch", "picture", "pictures", "line"):
        assert f"{what} is left out" in caplog.text
    with pytest.raises(AttributeError, match=r"has no sweep: it stands in for"):
        wandb.sweep({})
    with pytest.raises(AttributeError, match=r"has no Run.link_model"):
        run.link_model("x")
    monkeypatch.setenv("WANDB_MODE", "disabled")
    with wandb.init(project="off") as off:
        off.log({"loss": 1.0})
        assert off.disabled
    assert len(finetui_runs()) == 1


def test_the_examples_of_the_page_work() -> None:
    page = (Path(__file__).parents[2] / "docs" / "logging.md").read_text()
    snippets = [
        block for block in re.findall(r"```python\n(.*?)```", page, re.DOTALL) if "Trainer(" not in block
    ]
    assert len(snippets) == 3
    for snippet in snippets:
        _, said = python(snippet).communicate(timeout=120)
        assert said == ""
    assert [path.name[7:] for path in finetui_runs()] == ["mine", "with-examples", "mine"]


def test_no_run_is_left_open_here() -> None:
    assert endings._open == []
