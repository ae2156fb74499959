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

from made_home import Served

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


def test_sigterm_gives_the_terminal_back(served: Served) -> None:
    pid, fd = pty.fork()
    if pid == 0:
        os.environ.update(FINETUI_HOME=str(served.home.path), TERM="xterm-256color", LANG="C.UTF-8")
        words = program("finetui")
        os.execv(words[0], words)
    fcntl.ioctl(fd, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))
    try:
        opened = read_until(fd, SHOWN)
        assert SHOWN in opened, opened[-200:]
        os.kill(pid, signal.SIGTERM)
        closed = read_until(fd, None)
    finally:
        os.kill(pid, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
        os.close(fd)
    assert os.waitstatus_to_exitcode(status) == 128 + signal.SIGTERM
    written = opened + closed
    for on, off in (
        (b"?1049h", b"?1049l"),
        (b"?1000h", b"?1000l"),
        (b"?25l", b"?25h"),
        (b"?2004h", b"?2004l"),
    ):
        assert written.rfind(off) > written.rfind(on) > -1, f"{on!r} is taken back"
