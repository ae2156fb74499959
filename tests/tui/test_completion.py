"""Completion: what each shell is answered over its own protocol, and what bash makes of it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import made_home
import pytest
from test_hygiene import HEAVY, imported_by

from finetui.home import Home
from store.states import RunState
from tui.cli.completion import BASH


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A home with runs on disk, and nobody that answers for them."""
    path = tmp_path_factory.mktemp("completed") / "h"
    made_home.fill(Home(path))
    (path / "config.toml").write_text("groups = {night = 1}\n")
    return path


def asked(home: Path, line: str, shell: str = "bash") -> str:
    """What the command prints for a line that was typed so far."""
    words = line.split(" ")
    protocol = {
        "bash": {"COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1)},
        "zsh": {"_TYPER_COMPLETE_ARGS": line},
        "fish": {"_TYPER_COMPLETE_ARGS": line, "_TYPER_COMPLETE_FISH_ACTION": "get-args"},
    }[shell]
    variables = {
        **os.environ,
        "FINETUI_HOME": str(home),
        "_FINETUI_COMPLETE": f"complete_{shell}",
        **protocol,
    }
    done = subprocess.run(
        [sys.executable, "-m", "tui.cli"], env=variables, capture_output=True, text=True, check=False
    )
    assert done.stderr == ""
    return done.stdout


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("finetui sho", ["show"]),
        ("finetui show ", ["5", "4", "3", "2", "1"]),
        ("finetui compare 1 2", ["2"]),
        ("finetui ls --state ", list(map(str, RunState))),
        ("finetui cancel state:qu", ["state:queued"]),
        ("finetui cancel group:", ["group:night"]),
        ("finetui group n", ["night", "none"]),
        ("finetui run my.yaml train.sch", ["train.schedule="]),
        (
            "finetui run my.yaml train.schedule=",
            [f"train.schedule={name}" for name in ("cosine", "linear", "constant")],
        ),
        ("finetui run my.yaml method=ql", ["method=qlora"]),
        ("finetui run my.yaml model=", ["model=bundled:stdlib-2m"]),
        ("finetui clone 1 data.train=bundled:docstrings", ["data.train=bundled:docstrings"]),
        ("finetui plot 1 --key heldout/t", ["heldout/token_accuracy"]),
        ("finetui plot 4 --key ", ["train/loss", "heldout/loss", "general/loss"]),
        ("finetui completion z", ["zsh"]),
        ("finetui sql SELECT", []),
    ],
)
def test_bash_is_given_words(home: Path, line: str, words: list[str]) -> None:
    assert asked(home, line).split() == words


def test_zsh_and_fish_are_given_words_with_what_they_are(home: Path) -> None:
    assert '"3":"docstrings-qlora"' in asked(home, "finetui show ", "zsh")
    assert "3\tdocstrings-qlora" in asked(home, "finetui show ", "fish")


def test_no_home_and_foul_files_are_met_in_silence(home: Path, tmp_path: Path) -> None:
    assert asked(tmp_path / "none", "finetui show ").strip() == ""
    assert not (tmp_path / "none").exists(), "nothing is made, and no daemon started"
    foul = tmp_path / "foul"
    made_home.fill(Home(foul))
    (foul / "config.toml").write_text("groups = [\n")
    (log,) = (foul / "runs").glob("000001-*/attempts/1/events.jsonl")
    log.write_bytes(b'{"kind":"metrics","values":{"a;rm -rf /":1,"fine":2}}\n\xff\n[]\n{"values":3')
    assert asked(foul, "finetui plot 1 -k ").split() == ["fine"]
    assert asked(foul, "finetui cancel group:").split() == []
    assert not (home / "daemon.sock").exists()


def test_completion_imports_nothing_heavy() -> None:
    code = "import tui.cli.commands\nfrom tui.cli import completions\ncompletions.changes('')"
    assert imported_by(code).isdisjoint({*HEAVY, "pyarrow", "numpy", "textual"})


@pytest.mark.parametrize(
    ("line", "replies", "no_blank"),
    [
        ("finetui run my.yaml train.sch", ["train.schedule="], True),
        ("finetui run my.yaml train.schedule=li", ["linear"], False),
        ("finetui clone 1 data.train=bundled:docstrings", ["docstrings"], False),
        ("finetui cancel state:", [str(state) for state in RunState], False),
        ("finetui show ", ["5", "4", "3", "2", "1"], False),
    ],
)
def test_bash_replaces_the_piece_that_it_takes_for_a_word(
    home: Path, tmp_path: Path, line: str, replies: list[str], no_blank: bool
) -> None:
    command = tmp_path / "finetui"
    command.write_text(f'#!/bin/sh\nexec {sys.executable} -P -m tui.cli "$@"\n')
    command.chmod(0o755)
    script = (
        BASH.replace("compopt -o nospace", "echo no blank")
        + f"COMP_WORDBREAKS=$' \\t\\n\"\\'><=;|&(:'\nCOMP_LINE='{line}'\nCOMP_POINT={len(line)}\n"
        + '_finetui finetui\nprintf "%s\\n" "${COMPREPLY[@]}"\n'
    )
    path = f"{tmp_path}:{os.environ['PATH']}"
    done = subprocess.run(
        ["bash", "--norc", "-c", script], env={**os.environ, "PATH": path, "FINETUI_HOME": str(home)},
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    assert done.stdout.splitlines() == [*(["no blank"] if no_blank else []), *replies]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_script_is_one_that_its_shell_reads(shell: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tui.cli", "completion", shell], capture_output=True, text=True, check=True
    )
    assert f"_FINETUI_COMPLETE=complete_{shell}" in done.stdout
    if shutil.which(shell):
        assert subprocess.run([shell, "-n"], input=done.stdout, text=True, check=False).returncode == 0
