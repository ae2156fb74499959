"""What the screen costs: time to the first paint, bytes to the terminal, time from key to paint.

    python benchmarks/tui.py            # prints a table; needs nothing but this repository

The app runs as a program of its own in a pseudo-terminal of 160x50, over a real store that this process
serves. "Bare" is a Textual app with one line of text, started in the same way in turn with ours, so that the
ratio does not depend on the machine. "Live" appends five metrics lines a second to a run's log.
"""

from __future__ import annotations

import argparse
import fcntl
import os
import pty
import select
import signal
import statistics
import struct
import sys
import tempfile
import termios
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "tui")]
COLUMNS, ROWS = 160, 50


def child(kind: str, home: str) -> None:
    """The measured program."""
    if kind == "bare":
        from textual.app import App
        from textual.widgets import Static

        class Bare(App[None]):
            def compose(self):
                yield Static("painted")

        Bare().run()
        return
    from finetui.home import Home
    from tui.app import FinetuiApp

    def connect():
        from finetui.client import Client

        return Client(Home(Path(home)).socket)

    FinetuiApp(Home(Path(home)), connect=connect).run()


class Terminal:
    """A program in a pseudo-terminal; everything it writes is read and counted."""

    def __init__(self, kind: str, home: str) -> None:
        self.started = time.perf_counter()
        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.environ.update(TERM="xterm-256color", COLORTERM="truecolor", PYTHONPATH=str(ROOT))
            os.execv(sys.executable, [sys.executable, __file__, "--child", kind, home])
        fcntl.ioctl(self.fd, termios.TIOCSWINSZ, struct.pack("HHHH", ROWS, COLUMNS, 0, 0))
        self.text = b""

    def read(self, seconds: float, until: Callable[[bytes], bool] = lambda _: False) -> int:
        """Bytes written within `seconds`, or until the text so far satisfies a condition."""
        end, count = time.perf_counter() + seconds, 0
        while (left := end - time.perf_counter()) > 0:
            if select.select([self.fd], [], [], left)[0]:
                try:
                    data = os.read(self.fd, 65536)
                except OSError:
                    break
                self.text += data
                count += len(data)
                if until(self.text):
                    break
        return count

    def press(self, keys: bytes) -> None:
        self.text = b""
        os.write(self.fd, keys)

    def close(self) -> None:
        os.kill(self.pid, signal.SIGTERM)
        self.read(0.5)
        os.kill(self.pid, signal.SIGKILL)
        os.waitpid(self.pid, 0)
        os.close(self.fd)


@contextmanager
def opened(kind: str, home: Path) -> Iterator[Terminal]:
    terminal = Terminal(kind, str(home))
    try:
        yield terminal
    finally:
        terminal.close()


def first_paint(kind: str, home: Path) -> float:
    """Seconds from the start of the program until its first text is on the terminal."""
    word = b"painted" if kind == "bare" else b"Runs"
    with opened(kind, home) as terminal:
        terminal.read(30, lambda text: word in text)
        return time.perf_counter() - terminal.started


def bytes_per_second(terminal: Terminal, seconds: int) -> list[int]:
    return [terminal.read(1.0) for _ in range(seconds)]


def key_to_paint(terminal: Terminal, presses: int) -> list[float]:
    """Milliseconds from a key (the cursor moves) until something is written."""
    times = []
    for at in range(presses):
        terminal.read(0.12)
        terminal.press(b"jk"[at % 2 : at % 2 + 1])
        start = time.perf_counter()
        if terminal.read(2.0, lambda text: bool(text)):
            times.append(1000 * (time.perf_counter() - start))
    return times


def measure(rounds: int, seconds: int) -> None:
    import made_home  # type: ignore[import-not-found]  # of the tests

    from engine.runs.home import RunDir
    from finetui.home import Home

    with tempfile.TemporaryDirectory() as directory:
        home = Home(Path(directory) / "h")
        made_home.fill(home)
        with made_home.served(home) as served:
            paints = [(first_paint("bare", home.path), first_paint("app", home.path)) for _ in range(rounds)]
            bare, ours = (statistics.median(column) for column in zip(*paints, strict=True))
            print(f"first paint     bare {bare:.3f} s   finetui {ours:.3f} s   ratio {ours / bare:.2f}")

            stop = threading.Event()
            live = RunDir(next(home.runs.glob("000003-*")))
            writer = threading.Thread(target=_write, args=(live, served, stop))
            with opened("app", home.path) as terminal:
                terminal.read(4)
                writer.start()
                terminal.read(4)
                counts = bytes_per_second(terminal, seconds)
                print(f"live dashboard  median {statistics.median(counts):.0f} B/s   most {max(counts)} B/s")
                times = key_to_paint(terminal, 250)
                worst = statistics.quantiles(times, n=100)[98]
                print(f"key to paint    median {statistics.median(times):.0f} ms   p99 {worst:.0f} ms (live)")
                stop.set()
                writer.join()
            made_home.say(live, "ended", state="finished", attempt=1, exit_code=0)
            for number in ("4", "5"):
                run = RunDir(next(home.runs.glob(f"00000{number}-*")))
                made_home.say(run, "cancel", state="cancelled")
            served.look()
            with opened("app", home.path) as terminal:
                terminal.read(6)
                counts = bytes_per_second(terminal, seconds)
                print(f"idle dashboard  {sum(counts)} bytes in {seconds} s")


def _write(run, served, stop) -> None:
    from finetui.log import LogWriter

    log = LogWriter(run.attempt(1).events, "worker")
    hardware = LogWriter(served.home.hardware_log, "hardware")
    step = 236
    while not stop.wait(0.2):
        step += 1
        log.write(
            "metrics",
            step=step,
            values={"train/loss": 1.1 + (step * 7 % 11) / 100, "train/tokens_per_s": 18_000.0},
        )
        if step % 10 == 0:
            hardware.write("sample", values={"cpu/percent": float(step % 100), "gpu0/util": 90.0 + step % 9})
        served.look()
    log.close()
    hardware.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--child", nargs=2, metavar=("KIND", "HOME"), help=argparse.SUPPRESS)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=int, default=15)
    options = parser.parse_args()
    if options.child:
        child(*options.child)
    else:
        measure(options.rounds, options.seconds)


if __name__ == "__main__":
    main()
