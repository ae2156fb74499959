"""Commands that the pool runs: what they print and return is what they print and return in a process of their own."""

from __future__ import annotations

import contextlib
import json
import os
import shlex
import signal
import socket
import subprocess
from pathlib import Path

import pytest
from made_home import Served
from supervision import until
from workers import Call, finish

from engine.basics import child, pool
from engine.basics.process import Identity, alive
from finetui.errors import ExitCode
from finetui.start import program
from tui.cli import forked

COMMANDS = [
    ("ls",),
    ("ls", "--json"),
    ("show", "1"),
    ("show", "99"),
    ("sql", "SELECT count(*) AS n, 'ü' AS letter FROM runs"),
    ("sql", "SELECT nothing"),
    ("check", "nowhere.yaml"),
    ("cancel", "99"),
    ("ls", "--no-such-option"),
]


@pytest.fixture
def commands(served: Served, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    """Where the pool of this session is, which is up."""
    assert finish(Call(len, "the pool of this session is up")) == 0
    monkeypatch.setattr(forked, "ANSWER_S", 60.0)  # other tests may take the processor meanwhile
    monkeypatch.setenv("FINETUI_HOME", str(served.home.path))
    monkeypatch.chdir(tmp_path)
    return os.environ[pool.PLACE]


def outcome(words: tuple[str, ...], place: str) -> tuple[str, str, int]:
    """What a command says on stdout and stderr, and its exit code, with a pool in a folder."""
    done = subprocess.run(
        program("finetui", *words),
        env={**os.environ, pool.PLACE: place},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    return done.stdout, done.stderr, done.returncode


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_a_command_says_the_same_in_the_pool(words: tuple[str, ...], commands: str, tmp_path: Path) -> None:
    assert outcome(words, commands) == outcome(words, str(tmp_path / "none"))


def test_a_short_command_is_run_by_the_pool_where_one_is_up(
    commands: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    assert forked.run(["check", "nowhere.yaml"]) == ExitCode.BAD_INPUT
    assert "there is no such recipe" in capfd.readouterr().err
    for words in ([], ["wait", "1"], ["run", "my.yaml", "--follow"], ["ls", "--help"], ["nonsense"]):
        assert forked.run(words) is None
    monkeypatch.setenv(pool.PLACE, f"{commands}-none")
    assert forked.run(["check", "nowhere.yaml"]) is None
    assert capfd.readouterr() == ("", "")


def test_a_command_whose_fork_was_told_too_late_is_run_once(
    commands: str, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """By the process that asked, which has not waited; the fork is there and does nothing."""
    answers = []

    def late(connection: socket.socket) -> None:
        answers.append(receive(connection))
        raise TimeoutError

    receive = pool.receive
    monkeypatch.setattr(child.pool, "receive", late)
    assert forked.run(["check", "nowhere.yaml"]) is None
    fork = Identity.from_dict(answers[0]["process"])
    assert fork
    until("the end of the fork", lambda: not alive(fork))
    assert capfd.readouterr() == ("", "")


def test_a_command_in_the_pool_has_the_environment_of_its_shell(commands: str, tmp_path: Path) -> None:
    """A daemon that it starts, or a program that it queues, gets the same."""
    told = tmp_path / "told.json"
    with (tmp_path / "nothing").open("w+") as file:
        process = child.fork("told", (str(told),), (file.fileno(),) * 3, exact=True)
        assert process
        assert process.wait() == 3
    assert json.loads(told.read_text())["environ"] == dict(os.environ)


def test_an_interrupt_reaches_a_command_in_the_pool(commands: str) -> None:
    """The command asks on the terminal and waits for an answer: a Ctrl-C ends both."""
    screen, terminal = os.openpty()
    command = subprocess.Popen(
        program("finetui", "rm", "1"),
        stdin=terminal,
        stdout=terminal,
        stderr=terminal,
        start_new_session=True,
    )
    os.close(terminal)
    said = ""
    while "[y/N]" not in said:
        said += os.read(screen, 4096).decode()
    # As a person does: one may come between the question and the reading of the answer. Not at once, since the second
    # would kill a process that is at its end already.
    for _ in range(10):
        command.send_signal(signal.SIGINT)
        with contextlib.suppress(subprocess.TimeoutExpired):
            command.wait(5)
            break
    assert command.wait(5) == ExitCode.FAILED
    with contextlib.suppress(OSError):  # Linux's way to say that the other side is closed
        while piece := os.read(screen, 4096):
            said += piece.decode()
    os.close(screen)
    assert "Aborted" in said
    assert "Traceback" not in said


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-"])
def test_a_command_does_without_a_stream_that_is_closed(closed: str, commands: str) -> None:
    words = " ".join(map(shlex.quote, program("finetui", "ls")))
    done = subprocess.run(["sh", "-c", f"{words} {closed}"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert ("docstrings-full" in done.stdout) == (closed != ">&-")
    assert done.stderr == ""


def test_a_pool_that_ends_before_its_command_is_told(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    theirs.close()
    gone = Identity(pid=2**22 + 1, start_time=1, boot_id="none")
    monkeypatch.setattr(child, "fork", lambda *_, **__: child.Forked(gone, ours))
    handlers = {number: signal.getsignal(number) for number in forked.FORWARDED}
    try:
        assert forked.run(["ls"]) == ExitCode.FAILED
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
    assert "the pool that ran this command has ended" in capsys.readouterr().err


@pytest.mark.parametrize("place", ["the pool", "none"])
def test_output_that_cannot_be_written_is_told(place: str, commands: str, tmp_path: Path) -> None:
    environment = {**os.environ, pool.PLACE: commands if place == "the pool" else str(tmp_path / "none")}
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            program("finetui", "ls"),
            env=environment,
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )
    assert (done.returncode, "No space left on device" in done.stderr) == (ExitCode.FAILED, True)
    assert "Traceback" not in done.stderr
