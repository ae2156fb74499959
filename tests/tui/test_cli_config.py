"""A config.toml that cannot be used: every way into finetui says so, in one sentence with file and key."""

from __future__ import annotations

import os
import pty
import select
import sys
from pathlib import Path
from typing import Any

import pytest

from engine.client import service
from finetui.errors import ExitCode
from finetui.home import Home
from finetui.start import program
from tui import cli
from tui.cli import doctor
from tui.poller import Poller

RECIPE = "model: bundled:stdlib-2m\nmethod: lora\ndata: {train: bundled:docstrings}\n"
SENTENCE = "config.toml, key concurency: unknown key; did you mean `concurrency`?"


@pytest.fixture
def bad_home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    home = Home(tmp_path / "home")
    home.create()
    home.config.write_text("concurency = 2\n")
    (tmp_path / "my.yaml").write_text(RECIPE)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("FINETUI_HOME", str(home.path))
    return home


@pytest.mark.parametrize("words", ["ls", "run my.yaml", "pause 1", "daemon start", "daemon status"])
def test_a_command_that_needs_the_daemon_exits_with_3(
    bad_home: Home, words: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("sys.argv", ["finetui", *words.split()])
    with pytest.raises(SystemExit) as ended:
        cli.command()
    assert ended.value.code == ExitCode.BAD_INPUT
    out, err = capsys.readouterr()
    *notes, last = err.splitlines()
    assert (out, last) == ("", f"finetui: {bad_home.path}/{SENTENCE}")
    assert all(note.startswith("note: ") for note in notes)
    assert not list(bad_home.runs.iterdir())
    assert not service.running(bad_home)


def test_the_screen_says_it_and_again_when_it_is_left(bad_home: Home) -> None:
    pid, terminal = pty.fork()
    if pid == 0:
        wide = {"TERM": "xterm-256color", "COLUMNS": "250", "LINES": "24"}  # room for the whole sentence
        os.execve(sys.executable, program("finetui"), {**os.environ, **wide})
    try:
        assert "concurency" in _read(terminal, until=b"concurency")
        os.write(terminal, b"q")
        left = _read(terminal)
    finally:
        os.close(terminal)  # which hangs up on a screen that is still there
    assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == ExitCode.BAD_INPUT
    assert SENTENCE in left.replace("\r\n", "")


def _read(terminal: int, until: bytes | None = None) -> str:
    """What is written until these bytes, or until the last writer has gone."""
    seen = b""
    while until is None or until not in seen:
        assert select.select([terminal], [], [], 60)[0], f"silence after {seen[-2000:]!r}"
        try:
            data = os.read(terminal, 65536)
        except OSError:  # how Linux tells the end of a terminal
            break
        seen += data
    return seen.decode(errors="replace")


def test_the_screen_goes_on_saying_it_while_a_start_is_tried_again(bad_home: Home) -> None:
    said: list[tuple[str, bool]] = []
    poller = Poller(bad_home, None, lambda snapshot: said.append((snapshot.trouble, snapshot.starting)))
    for _ in range(3):
        poller._look()
    assert said == [("starting the daemon …", True), (f"{bad_home.path}/{SENTENCE}", False)]


def test_doctor_finds_it(bad_home: Home) -> None:
    def config() -> Any:
        return doctor.config_check().verdict, doctor.config_check().finding

    assert config() == ("bad", f"no daemon can start with it: {bad_home.path}/{SENTENCE}")
    bad_home.config.write_text("concurrency = 2\n")
    assert config() == ("good", str(bad_home.config))
    bad_home.config.unlink()
    assert config()[0] == "good"
