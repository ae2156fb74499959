"""The promises, with every part real: command line, daemon, worker, training, DuckDB, and real SIGKILLs."""

from __future__ import annotations

import json
import os
import pty
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from finetui.daemon import connect
from finetui.home import Home

FINETUI = str(Path(sys.executable).parent / "finetui")
PATIENCE_S = 180.0

STEPS = 24
RECIPE = f"""\
model: bundled:stdlib-2m
method: lora
data: {{train: bundled:docstrings, heldout: 16, limit: 400}}
train: {{max_steps: {STEPS}, precision: fp32, lr: 1.0e-3, tokens_per_step: 256, checkpoint_every: 5}}
evals: {{every: 50%, limit: 8, samples: 4, drift: 2, few_shot: 0, generate: 1, max_new_tokens: 8}}
"""


class Box:
    """One home, and the command line on it."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.env = {**os.environ, "FINETUI_HOME": str(path / "home"), "COLUMNS": "200"}

    def run(self, *words: str, code: int = 0) -> subprocess.CompletedProcess[str]:
        command = [FINETUI, *words]
        done = subprocess.run(
            command, env=self.env, capture_output=True, text=True, stdin=subprocess.DEVNULL, check=False
        )
        assert done.returncode == code, f"{words}: exit {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done

    def json(self, *words: str) -> Any:
        return json.loads(self.run(*words, "--json").stdout)

    def submit(self) -> int:
        recipe = self.path / "lora.yaml"
        recipe.write_text(RECIPE)
        return int(self.run("run", str(recipe)).stdout)

    def row(self, number: int) -> dict[str, Any]:
        with connect(Home(self.path / "home")) as client:  # many times cheaper than a command
            client.action("drain")
            return client.named("run", run=number).to_pylist()[0]

    def wait(self, number: int, reached: Callable[[dict[str, Any]], bool]) -> dict[str, Any]:
        deadline = time.monotonic() + PATIENCE_S
        while not reached(row := self.row(number)):
            if time.monotonic() > deadline or row["state"] == "failed":
                log = self.run("logs", str(number)).stdout
                pytest.fail(f"run #{number} is {row}\n{log[-3000:]}")
            time.sleep(0.2)
        return row

    def runs(self) -> list[int]:
        with connect(Home(self.path / "home")) as client:
            return [row["run"] for row in client.query("SELECT run FROM runs ORDER BY run").to_pylist()]

    def losses(self, number: int) -> list[tuple[int, float]]:
        query = f"SELECT step, value FROM metrics WHERE run = {number} AND key = 'train/loss' ORDER BY step"
        return [(row["step"], row["value"]) for row in self.json("sql", query)]

    def process(self, number: int, module: str) -> psutil.Process:
        """The live worker or shim of a run."""
        for process in psutil.process_iter(["cmdline"]):
            words = process.info["cmdline"] or []
            if module in words and f"{self.path}/home/runs/{number:06d}-" in " ".join(words):
                return process
        raise AssertionError(f"no {module} of run #{number}")

    def daemon_pid(self) -> int:
        with connect(Home(self.path / "home")) as client:
            return int(client.action("status")["pid"])

    def stop(self) -> None:
        subprocess.run([FINETUI, "daemon", "stop"], env=self.env, capture_output=True, check=False)
        for process in psutil.process_iter(["cmdline", "environ"]):
            if str(self.path) in " ".join(process.info["cmdline"] or []):
                process.kill()


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Box]:
    box = Box(tmp_path_factory.mktemp("e2e"))
    yield box
    box.stop()


@pytest.fixture(scope="module")
def whole(box: Box) -> int:
    """A run whose worker is left alone, whatever happens to what is around it."""
    return box.submit()


def test_a_hung_up_screen_is_noticed_by_nobody(box: Box, whole: int) -> None:
    pid, terminal = pty.fork()
    if pid == 0:
        signal.signal(signal.SIGHUP, signal.SIG_IGN)  # as nohup does
        os.execve(FINETUI, [FINETUI], {**box.env, "TERM": "xterm-256color"})
    seen = b""
    while b"lora" not in seen:  # it has painted the run table
        seen += os.read(terminal, 65536)
    daemon = box.daemon_pid()
    os.kill(pid, signal.SIGHUP)
    os.close(terminal)
    os.waitpid(pid, 0)
    box.wait(whole, lambda row: (row["step"] or 0) >= 1)
    assert box.daemon_pid() == daemon


def test_a_killed_daemon_loses_nothing(box: Box, whole: int) -> None:
    box.wait(whole, lambda row: (row["step"] or 0) >= 3)
    worker = box.process(whole, "engine.attempt.worker")
    daemon = box.daemon_pid()
    os.kill(daemon, signal.SIGKILL)
    assert worker.is_running()
    box.wait(whole, lambda row: row["state"] == "finished")
    assert box.daemon_pid() != daemon
    assert [step for step, _ in box.losses(whole)] == list(range(1, STEPS + 1))
    assert box.row(whole)["attempt"] == 1


@pytest.fixture(scope="module")
def again(box: Box, whole: int) -> int:
    """The same recipe once more: this worker is not left alone."""
    box.wait(whole, lambda row: row["state"] == "finished")
    box.run("requeue", str(whole))
    return max(row["run"] for row in box.json("ls"))


def test_a_killed_worker_is_resumed(box: Box, again: int) -> None:
    box.wait(again, lambda row: (row["step"] or 0) >= 7)
    box.process(again, "engine.attempt.worker").kill()
    box.wait(again, lambda row: row["attempt"] == 2)
    states = box.json("sql", f"SELECT kind FROM events WHERE run = {again} AND kind = 'interrupted'")
    assert len(states) == 1


def test_cancel_saves_and_resume_goes_on(box: Box, again: int) -> None:
    box.wait(again, lambda row: row["attempt"] == 2 and row["state"] == "running" and (row["step"] or 0) >= 9)
    worker = box.process(again, "engine.attempt.worker")
    worker.suspend()  # on a busy machine it would be at its end before the command is
    box.run("cancel", str(again))
    worker.resume()
    step = box.wait(again, lambda row: row["state"] == "cancelled")["step"]
    assert 9 <= step < STEPS
    assert "nothing to cancel" in box.run("cancel", str(again), code=4).stderr
    box.run("resume", str(again))
    assert box.wait(again, lambda row: row["state"] == "finished")["attempt"] == 3
    assert "use requeue" in box.run("resume", str(again), code=4).stderr


def test_killed_cancelled_and_resumed_it_ends_where_the_first_run_did(
    box: Box, whole: int, again: int
) -> None:
    """Same seed, and no point lost or doubled: the two curves are one."""
    assert box.losses(again) == box.losses(whole)
    assert box.json("compare", str(whole), str(again))["config"] == []


def test_the_base_model_stands_beside_what_was_trained(box: Box, again: int) -> None:
    """Over three attempts: step 0 is of the first, the end of the last."""
    with connect(Home(box.path / "home")) as client:
        general = {row["slice"] for row in client.named("slices", run=again).to_pylist()}
        drift = {row["measure"]: row for row in client.named("drift", run=again).to_pylist()}
    # The text that comes along, without what the model does not know.
    assert "prose" in general
    assert not {"code", "languages"} & general
    assert (drift["tokens"]["n"], drift["tokens"]["step"]) == (2, STEPS)
    assert drift["entropy"]["base"] != drift["entropy"]["now"]


@pytest.mark.parametrize(
    ("command", "override", "says"),
    [
        ("run", "data.train=nowhere.jsonl", "nowhere.jsonl: there is no such file"),
        ("check", "method.rank=8", "unknown key"),
        ("run", "data.train=empty.jsonl", "empty.jsonl: has no rows"),
        ("check", "data.train=broken.jsonl", "broken.jsonl, line 2: is not valid JSON"),
        ("run", "model=./notamodel", "is not a model"),
    ],
)
def test_bad_input_is_one_sentence_and_queues_nothing(
    box: Box, command: str, override: str, says: str
) -> None:
    (box.path / "bad.yaml").write_text(RECIPE)
    (box.path / "empty.jsonl").write_text("")
    (box.path / "broken.jsonl").write_text('{"prompt": "a", "completion": "b"}\n{"prompt": "a"\n')
    (box.path / "notamodel").mkdir(exist_ok=True)
    before = box.runs()
    done = box.run(command, str(box.path / "bad.yaml"), override, code=3)
    assert says in done.stderr
    assert "Traceback" not in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert done.stdout == ""
    assert box.runs() == before


def test_sql_is_guarded_and_its_errors_are_for_people(box: Box) -> None:
    assert "Traceback" not in box.run("sql", "DROP TABLE runs", code=4).stderr
    assert "run" in box.run("sql", "SELECT rum FROM runs", code=4).stderr
    query = "SELECT 1 AS a, 2 AS a, 1.5 AS b, sum(3) AS c"
    assert box.json("sql", query) == [{"a": 1, "a_2": 2, "b": 1.5, "c": 3}]
    assert box.run("sql", "SELECT 1 AS one, 'a' AS letter", "--csv").stdout.split() == ["one,letter", "1,a"]
