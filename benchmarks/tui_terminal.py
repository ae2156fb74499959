"""A program in a terminal of its own, whose every byte is read and counted."""

from __future__ import annotations

import fcntl
import os
import pty
import select
import signal
import struct
import termios
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress

import psutil

COLUMNS, ROWS = 160, 50

# What a terminal answers where a program asks for it: a program that is not answered waits before it paints.
ANSWERS = {
    b"\x1b[c": b"\x1b[?62;22c",
    b"\x1b]11;?": b"\x1b]11;rgb:1010/1313/1a1a\x1b\\",
    b"\x1b]10;?": b"\x1b]10;rgb:c5c5/cdcd/dddd\x1b\\",
    b"\x1b[?2026$p": b"\x1b[?2026;2$y",
    b"\x1b[?2027$p": b"\x1b[?2027;0$y",
    b"\x1b[?2048$p": b"\x1b[?2048;0$y",
    b"\x1b[>q": b"\x1bP>|xterm(380)\x1b\\",
    b"\x1b[6n": b"\x1b[1;1R",
}


class Terminal:
    """`words`: the program; `rate`: bytes a second that the line to it carries, None for no limit."""

    def __init__(self, words: Sequence[str], env: Mapping[str, str], *, rate: int | None = None) -> None:
        self.started = time.perf_counter()
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.environ.update(TERM="xterm-256color", COLORTERM="truecolor", LANG="C.UTF-8", **env)
            os.execv(words[0], list(words))
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
        self.rate, self.free_at = rate, 0.0
        self.text = b""

    def read(self, seconds: float, until: Callable[[bytes], bool] = lambda _: False) -> int:
        """Bytes written within `seconds`, or until the text since the last key satisfies a condition."""
        end, count = time.perf_counter() + seconds, 0
        while (left := end - time.perf_counter()) > 0:
            if self.rate and (wait := self.free_at - time.perf_counter()) > 0:
                time.sleep(min(wait, left))
                continue
            if not select.select([self.fd], [], [], left)[0]:
                continue
            try:
                data = os.read(self.fd, 512 if self.rate else 65536)
            except OSError:
                break
            if self.rate:
                self.free_at = time.perf_counter() + len(data) / self.rate
            self._answer(data)
            self.text += data
            count += len(data)
            if until(self.text):
                break
        return count

    def read_until(self, word: bytes, seconds: float) -> bool:
        """Whether a word has been written since the last key, `seconds` at the longest."""
        self.read(seconds, lambda text: word in text)
        return word in self.text

    def _answer(self, data: bytes) -> None:
        for question, answer in ANSWERS.items():
            if question in data:
                os.write(self.fd, answer)

    def press(self, keys: bytes) -> None:
        self.text = b""
        os.write(self.fd, keys)

    def bytes_per_second(self, seconds: int) -> list[int]:
        return [self.read(1.0) for _ in range(seconds)]

    def after_key(self, key: bytes, shows: bytes) -> float | None:
        """Milliseconds from a key until it shows; None if it does not within five seconds."""
        self.press(key)
        start = time.perf_counter()
        return 1000 * (time.perf_counter() - start) if self.read_until(shows, 5.0) else None

    def memory(self) -> float:
        """MiB that the program and its children alone hold (unique set size)."""
        program = psutil.Process(self.pid)
        return (
            sum(each.memory_full_info().uss for each in [program, *program.children(recursive=True)]) / 2**20
        )

    def close(self) -> None:
        children = psutil.Process(self.pid).children(
            recursive=True
        )  # a launcher may end before what it launched
        os.kill(self.pid, signal.SIGTERM)
        self.read(0.5)
        for child in children:
            with suppress(psutil.NoSuchProcess):
                child.kill()
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        os.close(self.fd)
