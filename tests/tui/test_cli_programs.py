"""`finetui run -- PROGRAM …`: what stands behind `--`, what stands before it, and what is said of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from live import Line, Live
from with_daemon import directory, row

from finetui.errors import ExitCode


def test_a_program_is_queued_word_by_word(live: Live, finetui: Line) -> None:
    words = ("sh", "-c", "exit 0", "--", "--priority", "9", "a b", "ü🙂")
    options = (
        "--hold",
        "--tag",
        "own",
        "--name",
        "mine",
        "--gpus",
        2,
        "--on-resume",
        "--go 'on and on'",
        "--watch",
        ".",
    )
    number = int(finetui("run", *options, "--", *words).out)
    recipe = json.loads(directory(live.home, number).meta.read_text())["recipe"]
    assert recipe == {
        "name": "mine",
        "method": "command",
        "command": list(words),
        "on_resume": ["--go", "on and on"],
        "watch": ["."],
        "processes": 2,
    }
    found = row(live.client, number)
    assert (found["name"], found["tags"], found["priority"]) == ("mine", "own", 0)
    shown = finetui("show", number).out
    assert "a command: sh -c 'exit 0' -- --priority 9 'a b' 'ü🙂'" in shown
    assert "None" not in shown
    finetui("cancel", number)


def test_its_name_is_its_words(live: Live, finetui: Line) -> None:
    number = int(finetui("run", "--hold", "--", "/bin/sh", "-c", "exit 0").out)
    assert row(live.client, number)["name"] == "sh -c exit 0"
    finetui("cancel", number)


def test_a_file_of_a_command_is_checked_run_and_edited(live: Live, finetui: Line) -> None:
    Path("mine.yaml").write_text("command: [sh, -c, exit 0]\non_resume: [--again]\n")
    checked = finetui("check", "mine.yaml")
    assert checked.code == ExitCode.OK
    assert "command  sh -c exit 0" in checked.out
    assert "resumed  with --again" in checked.out
    number = int(finetui("run", "mine.yaml", "--hold", "--name", "other", "command=[sh, -c, exit 1]").out)
    assert row(live.client, number)["name"] == "other"
    edited = finetui("edit", number, "on_resume=[]")
    assert (edited.code, "on_resume" in edited.err) == (ExitCode.OK, True)
    refused = finetui("edit", number, "lr=1")
    assert refused.code == ExitCode.BAD_INPUT
    assert "key lr: unknown key; known keys: name, method, command" in refused.err
    for words in (("estimate", "mine.yaml"), ("data", "mine.yaml")):
        ended = finetui(*words)
        assert ended.code == ExitCode.BAD_INPUT
        assert "mine.yaml: it has a command" in ended.err
    finetui("cancel", number)


@pytest.mark.parametrize(
    ("words", "code", "sentence"),
    [
        (("run",), ExitCode.USAGE, "give a recipe, or a program behind --"),
        (("run", "--"), ExitCode.USAGE, "behind -- there is no program"),
        (("run", "mine.yaml", "--", "sh"), ExitCode.USAGE, "give either the recipe mine.yaml or the program"),
        (("run", "mine.yaml", "--gpus", 2), ExitCode.USAGE, "go with a program behind --"),
        (("run", "--on-resume", "it's", "--", "sh"), ExitCode.BAD_INPUT, "write it as in a shell"),
        (("run", "--", "nosuchprogram"), ExitCode.BAD_INPUT, "nosuchprogram is no program on the PATH"),
        (("run", "--watch", "/dev/null", "--", "sh"), ExitCode.BAD_INPUT, "/dev/null is no folder"),
    ],
)
def test_what_cannot_be_queued_is_told(
    live: Live, finetui: Line, words: tuple[str, ...], code: int, sentence: str
) -> None:
    ended = finetui(*words)
    assert ended.code == code
    assert sentence in " ".join(ended.err.replace("│", " ").split())
    assert ended.out == ""
