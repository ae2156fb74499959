"""What befalls a home in chaos.py beside kills: its clock jumps, its disk is full, clients hang.

The clock is that of libfaketime (`pip install libfaketime`), which all processes of the home have loaded; monotonic
time goes on, as it does where a machine's clock is set. The disk is a tmpfs, which root alone can mount. Where either
is missing it is left out, and the table has no line of it.
"""

from __future__ import annotations

import json
import random
import signal
import socket
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Callable
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import pyarrow.flight as flight

from benchmarks.small_disk import SmallDisk
from finetui.home import Home

DISK_MIB = 1536
JUMPS_S = (-86_400, -3_600, -60, -1, 1, 60, 3_600, 86_400)
LARGE = "SELECT range, repeat('x', 1000) FROM range(200000)"  # 200 MB, which nobody reads


@dataclass
class Clock:
    """A file that says how far the clock of a home's processes is off."""

    file: Path
    offset: int = 0  # seconds

    def environment(self) -> dict[str, str]:
        """What a process needs to follow the file; empty where libfaketime is not installed."""
        package = find_spec("libfaketime")
        if package is None or package.origin is None:
            return {}
        library = Path(package.origin).parent / "vendor" / "libfaketime" / "src" / "libfaketime.so.1"
        self.file.write_text("+0s")
        return {
            "LD_PRELOAD": str(library),
            "FAKETIME_TIMESTAMP_FILE": str(self.file),
            "FAKETIME_CACHE_DURATION": "1",  # seconds: without it the file is read at each look at the clock
            "FAKETIME_DONT_FAKE_MONOTONIC": "1",
            "NO_FAKE_STAT": "1",
        }

    def jump(self, rng: random.Random) -> None:
        self.offset += rng.choice(JUMPS_S)
        new = self.file.with_suffix(".new")
        new.write_text(f"{self.offset:+d}s")
        new.replace(self.file)


def fill(disk: SmallDisk, seconds: float) -> None:
    """Take every free page of a disk for a while, also what somebody frees meanwhile."""
    until = time.monotonic() + seconds
    try:
        while time.monotonic() < until:
            disk.fill()
            time.sleep(0.05)
    finally:
        disk.clear()


def hang(home: Home, rng: random.Random, seconds: float, meanwhile: Callable[[], None]) -> None:
    """Clients that say nothing, or half of something, or ask for much and read nothing; what others see meanwhile."""
    with ExitStack() as stack:
        for said in (b"", b"PRI * HTTP/2.0\r\n", rng.randbytes(200), b"GET / HTTP/1.1\r\n") * 8:
            connection = stack.enter_context(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM))
            with suppress(OSError):
                connection.connect(str(home.socket))
                connection.sendall(said)
        command = subprocess.Popen(
            [sys.executable, "-m", "finetui", "sql", LARGE, "--json"],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        time.sleep(rng.uniform(0.0, 1.0))
        command.send_signal(signal.SIGSTOP)
        reader = threading.Thread(target=_read_nothing, args=(home, seconds), daemon=True)
        reader.start()
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            meanwhile()
            time.sleep(0.2)
        command.kill()
        command.communicate()
        reader.join()


def _read_nothing(home: Home, seconds: float) -> None:
    """Ask for a large answer, take its first part, and wait."""
    with suppress(Exception), flight.connect(f"grpc+unix://{home.socket}") as client:
        ticket = flight.Ticket(json.dumps({"sql": LARGE, "limit": None, "id": str(uuid.uuid4())}).encode())
        answer = client.do_get(ticket)
        answer.read_chunk()
        time.sleep(seconds)
        answer.cancel()
