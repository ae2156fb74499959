"""How the screen leaves the terminal when it is told to end: in a process of its own, on a terminal of its own."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import struct
import termios
import time
from contextlib import suppress

import pytest
from made_home import Served

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


def started(served: Served) -> tuple[int, int]:
    """The screen in a terminal: its process and the terminal's other end."""
    pid, fd = pty.fork()
    if pid == 0:
        os.environ.update(FINETUI_HOME=str(served.home.path), TERM="xterm-256color", LANG="C.UTF-8")
        words = program("finetui")
        os.execv(words[0], words)
    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    return pid, fd


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_gives_the_terminal_back(served: Served, number: signal.Signals) -> None:
    pid, fd = started(served)
    try:
        opened = read_until(fd, SHOWN)
        assert SHOWN in opened, opened[-200:]
        os.kill(pid, number)
        closed = read_until(fd, None)
    finally:
        os.kill(pid, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
        os.close(fd)
    assert os.waitstatus_to_exitcode(status) == 128 + number
    written = opened + closed
    for on, off in (
        (b"?1049h", b"?1049l"),
        (b"?1000h", b"?1000l"),
        (b"?25l", b"?25h"),
        (b"?2004h", b"?2004l"),
    ):
        assert written.rfind(off) > written.rfind(on) > -1, f"{on!r} is taken back"


def test_a_terminal_that_goes_away_ends_the_screen_and_keeps_its_place(served: Served) -> None:
    pid, fd = started(served)
    try:
        assert SHOWN in read_until(fd, SHOWN)
        os.write(fd, b":")
        assert b"Tables" in read_until(fd, b"Tables")
        os.close(fd)
        deadline = time.monotonic() + PATIENCE_S
        while (ended := os.waitpid(pid, os.WNOHANG)) == (0, 0) and time.monotonic() < deadline:
            time.sleep(0.05)
        assert ended[0] == pid
    finally:
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    assert read_json(served.home.path / "screen.json")["place"] == {"screen": "sql"}
