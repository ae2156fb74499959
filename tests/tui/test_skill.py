"""What `finetui skill` tells an assistant is so: commands are taken, those that read are run, answers have the keys."""

from __future__ import annotations

import json
import re
import shlex
from typing import Any

import pytest
from live import Line, Live

from engine.queue.agents import Right
from engine.queue.config import Config
from finetui.errors import ExitCode
from store.states import RunState
from tui.cli import skill
from tui.cli.commands import parser

TEXT = skill.text()
BLOCKS = "\n".join(re.findall(r"```\n(.*?)```", TEXT, re.DOTALL))
COMMANDS = [line.split(" ", 1)[1] for line in BLOCKS.splitlines() if line.startswith("finetui ")]


def keys_in(paragraph: str) -> set[str]:
    """The words in backquotes of the paragraph or item that begins so."""
    (found,) = (part for part in re.split(r"\n(?=- )|\n\n", TEXT) if part.startswith(paragraph))
    return set(re.findall(r"`(\w+)`", found))


def test_it_is_printed_whole(finetui: Line) -> None:
    ended = finetui("skill")
    assert (ended.code, ended.err) == (ExitCode.OK, "")
    assert ended.out.startswith("---\nname: finetui\ndescription: ")
    assert ended.out == TEXT
    assert all(f"| {int(code)} | {code.meaning} |" in TEXT for code in ExitCode)
    assert all(f"`{state}`" in TEXT for state in RunState)


@pytest.mark.parametrize("line", COMMANDS)
def test_every_command_in_it_is_one(line: str) -> None:
    command, context, words = parser(), None, shlex.split(line)
    while hasattr(command, "resolve_command"):
        context = command.make_context("finetui", words, parent=context, resilient_parsing=True)
        name, command, words = command.resolve_command(context, words)
    assert command.make_context(name, words, parent=context).params


def test_words_of_the_configuration_are_those_that_it_has() -> None:
    words = set(re.findall(r"`(agents?_\w+)`", TEXT))
    assert words == {name for name in Config.model_fields if name.startswith("agent")}
    assert set(Right.__args__) <= set(re.findall(r"`(\w+)`", TEXT))  # type: ignore[attr-defined]


def test_answers_have_the_keys_that_it_names(live: Live, finetui: Line) -> None:
    def said(*words: str | int) -> Any:
        ended = finetui(*words, "--json")
        assert ended.code == ExitCode.OK, ended.err
        return json.loads(ended.out)

    assert said("daemon", "status")["agents"]["may"] == []
    for line in COMMANDS:
        if line.startswith(("daemon status", "ls", "sql")):
            assert said(*(word for word in shlex.split(line) if word != "--json")) is not None
    first, second = live.finished, live.ended(steps=3)
    run = said("ls")[-1]
    assert keys_in("- A run has the same keys") <= run.keys()
    shown = said("show", first)
    in_flags = {"message", "effect", "lo", "hi", "worst", "advice"}
    assert keys_in("- `show` has") - in_flags - {"show"} <= shown.keys()
    (columns,) = ({row["column_name"] for row in said("sql", "DESCRIBE flags")},)
    assert in_flags <= columns
    compared = said("compare", first, second)
    assert keys_in("- `compare` has") - {"compare", "lo", "hi"} == compared.keys() - {"runs"}
    told = keys_in("A recipe is a YAML file") - {"check", "data", "estimate"}
    checked, needed = said("check", live.recipe()), said("estimate", live.recipe())
    assert told - {"refusals"} <= checked.keys() | checked["runs"][0].keys() | needed.keys()
    ordered = said("cancel", live.waiting())
    assert keys_in("Orders print a list") - {"done", "refused"} == ordered[0].keys() - {"uuid"}
