"""How the screen leaves the terminal when it ends or is stopped: in a process of its own, on a terminal of its own."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import struct
import sys
import termios
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import pytest
from made_home import Served
from terminal import Terminal

from finetui.files import read_json
from finetui.start import program

SHOWN = b"docstrings-full"
PATIENCE_S = 60  # of a busy machine


def read_until(fd: int, mark: bytes | None) -> bytes:
    """What is written until the mark comes, or until the terminal is closed."""
    written, end = b"", time.monotonic() + PATIENCE_S
    while (mark is None or mark not in written) and time.monotonic() < end:
        if select.select([fd], [], [], 0.2)[0]:
            try:
                written += os.read(fd, 65536)
            except OSError:
                break
    return written


MODES = ((b"?1049h", b"?1049l"), (b"?1000h", b"?1000l"), (b"?25l", b"?25h"), (b"?2004h", b"?2004l"))
FAULTY = """
from tui.screens.dashboard import Dashboard
def fault(self): raise RuntimeError("a fault of ours")
Dashboard.do_sort = fault
from tui import cli
cli.command()
"""


@contextmanager
def opened(served: Served, words: list[str]) -> Iterator[tuple[int, int]]:
    """The screen on a terminal of 80x24: its process and the terminal."""
    pid, fd = pty.fork()
    if pid == 0:
        os.environ.update(FINETUI_HOME=str(served.home.path), TERM="xterm-256color", LANG="C.UTF-8")
        os.execv(words[0], words)
    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    try:
        yield pid, fd
    finally:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        with suppress(ChildProcessError):
            os.waitpid(pid, 0)
        os.close(fd)


def check_given_back(written: bytes) -> None:
    for on, off in MODES:
        assert written.rfind(off) > written.rfind(on) > -1, f"{on!r} is taken back"


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_that_ends_it_gives_the_terminal_back(served: Served, number: signal.Signals) -> None:
    with opened(served, program("finetui")) as (pid, fd):
        before = termios.tcgetattr(fd)
        written = read_until(fd, SHOWN)
        assert SHOWN in written, written[-200:]
        assert termios.tcgetattr(fd) != before
        os.kill(pid, number)
        written += read_until(fd, None)
        assert termios.tcgetattr(fd) == before
        _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 128 + number
    check_given_back(written)


def test_it_ends_when_its_terminal_is_gone(served: Served) -> None:
    with opened(served, program("finetui")) as (pid, fd):
        assert SHOWN in read_until(fd, SHOWN)
        os.write(fd, b":")
        assert b"Tables" in read_until(fd, b"Tables")
        os.dup2(os.open(os.devnull, os.O_RDWR), fd)  # the last end of the terminal on this side
        _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 128 + signal.SIGHUP
    assert read_json(served.home.path / "screen.json")["place"] == {"screen": "sql"}


def test_the_shell_has_the_terminal_between_and_a_fault_gives_it_back(served: Served) -> None:
    with opened(served, [sys.executable, "-c", FAULTY]) as (pid, fd):
        before = termios.tcgetattr(fd)
        written = read_until(fd, SHOWN)
        os.write(fd, b"\x1a")  # ctrl+z
        _, status = os.waitpid(pid, os.WUNTRACED)
        assert os.WIFSTOPPED(status)
        written += read_until(fd, MODES[0][1])
        assert termios.tcgetattr(fd) == before
        check_given_back(written)

        os.kill(pid, signal.SIGCONT)
        drawn = Terminal(80, 24)
        drawn.feed(read_until(fd, b" help").decode())
        assert drawn.lines()[0].startswith(" finetui  5 runs"), "the whole screen, not only what has changed"
        assert "docstrings-full" in "\n".join(drawn.lines())

        os.write(fd, b"s")
        written = read_until(fd, None)
        _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 1
    left = " ".join(written[written.rfind(MODES[0][1]) :].decode().split())
    assert (
        "finetui: the screen has ended by a fault of its own (RuntimeError: a fault of ours in <string>"
        in left
    )
    assert "runs go on" in left
    assert "Traceback" not in left
    kept = served.home.path / "screen-crash.log"
    assert "RuntimeError: a fault of ours" in kept.read_text()
    kept.unlink()
