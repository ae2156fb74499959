"""Every command: documented, with help for each of its words, run on a real home, with the exit codes of docs/cli.md.

A new command fails here until it has an example in EXAMPLES.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import typer.main
from live import RECIPE, Line, Live
from supervision import until
from with_daemon import FOREVER, directory, row, submit, wait_state

from engine.client import service, start_hook
from finetui.errors import ExitCode
from finetui.start import ROOT
from tui.cli.commands import app

GROUP = typer.main.get_command(app)
COMMANDS: dict[str, Any] = {
    f"{name} {inner}" if inner else name: one
    for name, command in GROUP.commands.items()  # type: ignore[attr-defined]
    for inner, one in (getattr(command, "commands", None) or {"": command}).items()
}


class Example(NamedTuple):
    """Words after the command, made for a home, and a part of what is printed."""

    words: Callable[[Live], list[str | int]]
    says: str
    code: ExitCode = ExitCode.OK


EXAMPLES = {
    "run": Example(lambda live: [live.recipe(), "--priority", 2], "queued #"),
    "check": Example(lambda live: [live.recipe()], "good, 1 run; queue with: finetui run"),
    "data": Example(lambda live: [live.recipe(), "--json"], '"refusals": []'),
    "estimate": Example(lambda live: [live.recipe()], "peak"),
    "ls": Example(lambda live: [], "Fake Run"),
    "show": Example(lambda live: [live.finished], "Fake Run: finished\nsft with lora"),
    "logs": Example(lambda live: [live.finished], "training\n"),
    "examples": Example(lambda live: [live.finished], "has scored no examples yet", ExitCode.REFUSED),
    "watch": Example(lambda live: [live.finished], "Fake Run"),
    "top": Example(lambda live: [], "running, "),
    "plot": Example(lambda live: [live.finished], "train/loss"),
    "skill": Example(lambda live: [], "# finetui from a shell"),
    "completion": Example(lambda live: ["bash"], "complete -o default"),
    "cancel": Example(lambda live: [live.going()], "is being cancelled: it saves a checkpoint first"),
    "pause": Example(lambda live: [live.going()], "is being paused: it saves a checkpoint first"),
    "resume": Example(lambda live: [live.cancelled()], "is queued again, from its last checkpoint"),
    "requeue": Example(lambda live: [live.finished], "has its recipe queued again as #"),
    "clone": Example(lambda live: [live.queued(), "train.max_steps=7", "name=other"], "made from run #"),
    "edit": Example(
        lambda live: [live.queued_and_held(), "train.lr=0.0003"], "has another recipe: train.lr: "
    ),
    "hold": Example(lambda live: [live.waiting()], "is held"),
    "release": Example(lambda live: [live.held()], "waits for its turn only"),
    "start": Example(lambda live: [live.waiting()], "starts as soon as there is a device for it"),
    "move": Example(lambda live: [live.waiting()], "has another place in the queue"),
    "priority": Example(lambda live: [live.waiting(), 3], "has priority 3"),
    "group": Example(lambda live: ["night", live.finished], "is in the group night"),
    "tag": Example(lambda live: [live.finished, "--add", "night"], "has the tags night"),
    "note": Example(lambda live: [live.finished, "a good one"], "has a new note"),
    "name": Example(lambda live: [live.waiting(), "mine"], "is called mine"),
    "rm": Example(lambda live: [live.ended(steps=3), "--yes"], "is removed"),
    "restore": Example(lambda live: [live.removed()], "is back"),
    "clean": Example(lambda live: [live.finished], "there is nothing to free"),
    "wait": Example(lambda live: [live.finished, "--timeout", 60], "Fake Run"),
    "fix": Example(lambda live: [live.finished], "has no flag that warns", ExitCode.REFUSED),
    "compare": Example(lambda live: [live.finished, live.ended(steps=3)], "The recipes are the same"),
    "sweep": Example(lambda live: [live.finished], "belongs to no sweep", ExitCode.REFUSED),
    "sql": Example(lambda live: ["SELECT 6 * 7 AS answer", "--csv"], "answer\r\n42\r\n"),
    "store check": Example(lambda live: [], "logs say"),
    "store rebuild": Example(lambda live: ["--yes"], "the database is made again from the logs of"),
    "store compact": Example(lambda live: [], " MB before, "),
    "store backup": Example(lambda live: [live.folder / "b.tar.gz"], "without weights"),
    "keys": Example(lambda live: ["run"], "Search in the section that is shown"),
    "pull": Example(lambda live: [live.folder / "none"], "finetui: ", ExitCode.REFUSED),
    "import": Example(lambda live: [live.folder / "none"], "does not exist", ExitCode.BAD_INPUT),
    "snapshot": Example(lambda live: [live.folder / "out.duckdb"], "out.duckdb\n"),
    "export-store": Example(lambda live: [live.folder / "lake"], "files written"),
    "export-curves": Example(lambda live: [live.finished, "--tensorboard", live.folder / "tb"], " values\n"),
    "export": Example(lambda live: [live.finished, "--merged"], "finetui: ", ExitCode.REFUSED),
}
# Print a program for a shell, and a text for assistants; speaks a protocol of its own.
WITHOUT_JSON = {"completion", "skill", "mcp"}
# These are dear, and have a test of their own below.
ALONE = {
    "demo": "test_demo_compares_its_three_runs_and_names_the_query",
    "doctor": "test_doctor_of_this_machine",
    "mcp": "test_mcp_without_the_package_says_what_to_install",
    **dict.fromkeys(
        ["daemon start", "daemon stop", "daemon status", "daemon install"],
        "test_the_daemon_is_stopped_and_started",
    ),
}


# ---- every command ---------------------------------------------------------------------------------


def test_no_command_is_without_a_run_here() -> None:
    assert set(COMMANDS) == {*EXAMPLES, *ALONE}
    assert all(name in globals() for name in ALONE.values())


@pytest.mark.parametrize("name", EXAMPLES)
def test_every_command_runs(name: str, live: Live, finetui: Line) -> None:
    example = EXAMPLES[name]
    ended = finetui(*name.split(), *example.words(live))
    said = ended.out + ended.err
    assert ended.code == example.code, said
    assert example.says in said
    assert "Traceback" not in said


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_and_is_documented(name: str, finetui: Line) -> None:
    command = COMMANDS[name]
    summary = command.help.splitlines()[0]
    assert f"| `finetui {name}` | {summary} |" in (ROOT / "docs" / "cli.md").read_text()
    assert all(one.help for one in command.params), "every argument and option says what it is"
    ended = finetui(*name.split(), "--help")
    assert ended.code == ExitCode.OK
    assert summary.split(".")[0] in " ".join(ended.out.split())


def test_every_command_has_json() -> None:
    takes = {
        name for name, command in COMMANDS.items() if any("--json" in one.opts for one in command.params)
    }
    assert COMMANDS.keys() - takes == WITHOUT_JSON


@pytest.mark.parametrize("name", COMMANDS)
def test_an_unknown_option_is_told(name: str, finetui: Line) -> None:
    ended = finetui(*name.split(), "--colour")
    assert (ended.code, ended.out) == (ExitCode.USAGE, "")
    assert "--colour" in ended.err


def test_nothing_but_help_without_a_terminal(finetui: Line) -> None:
    ended = finetui()
    assert ended.code == ExitCode.OK
    assert all(name.split()[0] in ended.out for name in COMMANDS)


# ---- what is refused -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "words",
    ["hold 99", "release 99", "start 99", "move 99", "tag 99 --add x", "group x 99", "note 99 x", "wait 99", "rm 99",
     "name 99 x", "restore 99", "clean 99", "clone 99 seed=1", "edit 99 seed=1",
     "show 99", "logs 99", "cancel 99", "pause 99", "resume 99", "requeue 99", "priority 99 1", "fix 99", "export 99",
     "compare 98 99"],
)  # fmt: skip
def test_a_run_that_is_not_there(words: str, live: Live, finetui: Line) -> None:
    ended = finetui(*words.split())
    assert (ended.code, ended.out) == (ExitCode.REFUSED, "")
    assert len(ended.err.splitlines()) == 1
    assert "no run #9" in ended.err


def test_runs_after_one_that_is_refused_are_still_done(live: Live, finetui: Line) -> None:
    waiting = live.waiting()
    ended = finetui("cancel", 99, waiting)
    assert ended.code == ExitCode.REFUSED
    assert "no run #99" in ended.err
    assert f"#{waiting} is cancelled\n" in ended.err
    assert row(live.client, waiting)["state"] == "cancelled"


def test_a_run_that_waits_is_stopped_at_once(live: Live, finetui: Line) -> None:
    assert finetui("pause", waiting := live.waiting()).err == f"#{waiting} is paused\n"
    assert finetui("cancel", waiting).err == f"#{waiting} is cancelled\n"
    assert finetui("priority", waiting, 2).code == ExitCode.REFUSED


@pytest.mark.parametrize("command", ["run", "check", "data", "estimate"])
def test_a_bad_recipe(command: str, live: Live, finetui: Line) -> None:
    ended = finetui(command, live.recipe(RECIPE + "trian: {lr: 1.0e-3}\n"))
    assert (ended.code, ended.out) == (ExitCode.BAD_INPUT, "")
    assert "key trian: unknown key" in ended.err
    assert not live.client.action("status")["queued"]


@pytest.mark.parametrize("command", ["run", "check"])
def test_bad_data(command: str, live: Live, finetui: Line) -> None:
    ended = finetui(command, live.recipe(), "data.train=nowhere.jsonl")
    assert ended.code == ExitCode.BAD_INPUT
    assert "nowhere.jsonl: there is no such file" in ended.err


@pytest.mark.parametrize(
    "words", ["show one", "priority 1", "fix 1 --add -o new.yaml", "export 1 --merged --gguf"]
)
def test_wrong_words(words: str, live: Live, finetui: Line) -> None:
    ended = finetui(*words.split())
    assert (ended.code, ended.out) == (ExitCode.USAGE, "")


@pytest.mark.parametrize(
    "words",
    [
        "ls",
        "show 1",
        "cancel 1",
        "compare 1 2",
        "sql SELECT",
        "run my.yaml",
        "demo --headless",
        "daemon start",
    ],
)
def test_a_home_that_no_daemon_can_use(
    words: str, tmp_path: Path, finetui: Line, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "my.yaml").write_text(RECIPE)
    (tmp_path / "home").write_text("a file")
    monkeypatch.setenv("FINETUI_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    ended = finetui(*words.split())
    assert (ended.code, ended.out) == (ExitCode.NO_DAEMON, "")
    said = ended.err.splitlines()[-1]
    assert said == f"finetui: the home {tmp_path / 'home'} cannot be used: File exists"


# ---- what commands do to runs ----------------------------------------------------------------------


def test_run_follow_narrates_until_the_end(live: Live, finetui: Line) -> None:
    ended = finetui("run", live.recipe(), "--follow")
    assert ended.code == ExitCode.OK
    number = int(ended.out)
    assert row(live.client, number)["state"] == "finished"
    last = ended.err.splitlines()[-1]
    assert last.startswith(f"#{number}")
    assert "finished" in last


def test_run_follow_of_a_run_that_fails(live: Live, finetui: Line) -> None:
    ended = finetui("run", live.recipe(script='{"fail_at": 2}'), "--follow", "--json")
    assert ended.code == ExitCode.FAILED
    said = json.loads(ended.out)
    (number,) = said["runs"]
    assert [(run["run"], run["created_at"] is not None) for run in said["queued"]] == [(number, True)]
    assert row(live.client, number)["state"] == "failed"
    assert "failed" in ended.err
    assert "the loss is not a number" in ended.err


def test_logs_for_scripts_are_lines(live: Live, finetui: Line) -> None:
    said = [json.loads(line) for line in finetui("logs", live.finished, "--json").out.splitlines()]
    assert said == [{"run": live.finished, "attempt": 1, "text": "training"}]


def test_logs_follow_prints_all_of_a_run_that_is_still_going(live: Live, finetui: Line) -> None:
    blocker, number = live.going(), submit(live.client, steps=3)
    live.client.action("cancel", run=blocker)  # it saves and ends; only then the other one begins
    ended = finetui("logs", "-f", number)
    assert (ended.code, ended.out) == (ExitCode.OK, "training\n")
    assert row(live.client, number)["state"] == "finished"


def test_a_paused_run_keeps_its_checkpoint_and_goes_on(live: Live, finetui: Line) -> None:
    number = live.going()
    until("a checkpoint", lambda: directory(live.home, number).last_checkpoint())
    assert finetui("pause", number).code == ExitCode.OK
    step = wait_state(live.client, number, "paused")["step"]
    again = finetui("pause", number)
    assert again.code == ExitCode.REFUSED
    assert f"#{number}" in again.err
    assert finetui("resume", number).code == ExitCode.OK
    until("a later step", lambda: (row(live.client, number)["step"] or 0) > step)
    assert row(live.client, number)["attempt"] == 2
    assert finetui("logs", number).out == "training\n--- attempt 2 ---\ntraining\n"


def test_priority_changes_who_is_next(live: Live, finetui: Line) -> None:
    blocker = live.going()
    first, second = (submit(live.client, steps=FOREVER) for _ in range(2))
    assert finetui("priority", second, 5).code == ExitCode.OK
    finetui("cancel", blocker)
    wait_state(live.client, second, "running")
    assert row(live.client, first)["state"] == "queued"


# ---- what commands print ---------------------------------------------------------------------------


def test_demo_compares_its_three_runs_and_names_the_query(live: Live, finetui: Line) -> None:
    ended = finetui("demo", "--headless")
    assert ended.code == ExitCode.OK
    assert [line.split()[2][:-1] for line in ended.err.splitlines() if line.startswith("queued #")] == [
        "demo-full", "demo-lora", "demo-qlora",
    ]  # fmt: skip
    query = ended.out.partition('finetui sql "')[2].partition('"')[0]
    assert len(json.loads(finetui("sql", query, "--json").out)) == 3


def test_doctor_of_this_machine(live: Live, finetui: Line) -> None:
    ended = finetui("doctor", "--json")
    found = {check["what"]: check for check in json.loads(ended.out)}
    bad = any(check["verdict"] == "bad" for check in found.values())
    assert ended.code == (ExitCode.FAILED if bad else ExitCode.OK)
    assert found["home"]["finding"].startswith(str(live.home.path))
    assert found["4-bit"]["finding"].startswith("NF4 on ")
    assert found["daemon"]["finding"].split(";")[0] == f"pid {live.client.action('status')['pid']}"


def test_doctor_of_a_bad_machine(tmp_path: Path, finetui: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "torch.py").write_text(
        "raise ImportError('libcudart.so.13: cannot open shared object file')\n"
    )
    (tmp_path / "home").write_text("a file")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    monkeypatch.setenv("FINETUI_HOME", str(tmp_path / "home"))
    ended = finetui("doctor")
    assert ended.code == ExitCode.FAILED
    assert "bad   4-bit      QLoRA will not work: ImportError: libcudart.so.13" in ended.out
    assert (
        f"bad   home       {tmp_path / 'home'} cannot be written (File exists); set FINETUI_HOME" in ended.out
    )
    assert "note  daemon     not running; the first command starts it" in ended.out


def test_mcp_without_the_package_says_what_to_install(finetui: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "mcp.server.mcpserver", None)
    ended = finetui("mcp")
    assert (ended.code, ended.out) == (ExitCode.REFUSED, "")
    assert ended.err == (
        "finetui: finetui mcp needs the package mcp, version 2 or newer: pip install 'finetui[mcp]'\n"
    )


def test_the_daemon_is_stopped_and_started(live: Live, finetui: Line) -> None:
    assert "1 at a time" in finetui("daemon", "status").out
    stopped = finetui("daemon", "stop", "--json")
    assert (stopped.code, json.loads(stopped.out)) == (ExitCode.OK, {"stopped": True})
    assert stopped.err == "the daemon has stopped; runs continue\n"
    assert not service.running(live.home)
    assert "no daemon is running" in finetui("daemon", "stop").err
    asked = finetui("daemon", "status", "--json")
    assert (asked.code, json.loads(asked.out)) == (ExitCode.FAILED, {"running": False})
    started = finetui("daemon", "start", "--json")
    assert started.err == f"the daemon is running, pid {json.loads(started.out)['pid']}\n"
    line = start_hook.start_line(live.home)
    installed = finetui("daemon", "install")
    assert installed.code == ExitCode.OK
    assert line in installed.out or "is enabled" in installed.err  # there may be a systemd here
    assert finetui("daemon", "install", "--remove").code == ExitCode.OK
    assert json.loads(finetui("daemon", "status", "--json").out)["queued"] == []
