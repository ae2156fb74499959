"""Notices for people who are away: sent by a command of theirs, by Apprise, or both. One that fails touches no run.

Addresses often hold passwords: they come from the environment or from a file of mode 0600, and neither they nor the
command are ever logged.
"""

from __future__ import annotations

import json
import logging
import os
import queue
import signal
import subprocess
import threading
from contextlib import suppress
from dataclasses import asdict, dataclass
from typing import Literal, get_args

from engine.basics.safe_text import one_line
from finetui.start import program

log = logging.getLogger("finetui.notices")

Event = Literal["finished", "failed", "paused", "flagged", "stalled", "queue_empty", "disk_full", "budget"]
EVENTS: tuple[Event, ...] = get_args(Event)
URLS = "FINETUI_NOTIFY_URLS"  # Apprise addresses, separated by blanks
SEND_S = 60.0  # that sending may take
MOST = 200  # that wait to be sent; more are dropped, and counted


@dataclass(frozen=True)
class Notice:
    """Something that somebody wants to know."""

    event: Event
    message: str  # one sentence
    run: int | None = None
    name: str = ""

    @property
    def title(self) -> str:
        return f"finetui: {self.event.replace('_', ' ')}" + (f" #{self.run} {self.name}" if self.run else "")


@dataclass(frozen=True)
class Channels:
    """How notices are sent, from config.toml."""

    on: frozenset[Event]
    command: str = ""  # for sh
    urls_file: str = ""

    @property
    def apprise(self) -> bool:
        return bool(self.urls_file or os.environ.get(URLS))

    @property
    def any(self) -> bool:
        return bool(self.command) or self.apprise


class Notices:
    """Sends notices one after the other, in a thread of its own that begins with the first."""

    def __init__(self, channels: Channels) -> None:
        self.channels = channels
        self.problem: str | None = None  # of the last one that was sent
        self._waiting: queue.Queue[Notice] = queue.Queue(MOST)
        self._dropped = 0
        self._thread: threading.Thread | None = None

    def send(self, notice: Notice) -> None:
        """Send a notice soon, if it is wanted. Never waits."""
        if notice.event not in self.channels.on or not self.channels.any:
            return
        if self._thread is None:
            self._thread = threading.Thread(target=self._send_all, name="notices", daemon=True)
            self._thread.start()
        try:
            self._waiting.put_nowait(notice)
        except queue.Full:
            self._dropped += 1
            self.problem = f"{self._dropped} notices could not be sent: they come faster than they can be"

    def _send_all(self) -> None:
        while True:
            notice = self._waiting.get()
            try:
                problems = [problem for problem in (self._command(notice), self._apprise(notice)) if problem]
            except Exception as error:
                problems = [f"a notice could not be sent: {type(error).__name__}"]
            for problem in problems:
                if problem != self.problem:
                    log.warning("%s", problem)
            self.problem = problems[0] if problems else None

    def _command(self, notice: Notice) -> str | None:
        if not self.channels.command:
            return None
        described = {
            "FINETUI_EVENT": notice.event,
            "FINETUI_RUN": str(notice.run or ""),
            "FINETUI_NAME": one_line(notice.name),
            "FINETUI_TITLE": one_line(notice.title),
            "FINETUI_MESSAGE": one_line(notice.message),
        }
        code = run(["sh", "-c", self.channels.command], "", described)
        if code == 0:
            return None
        return f"notify_command in config.toml {ended(code)} for the notice {notice.event}"

    def _apprise(self, notice: Notice) -> str | None:
        if not self.channels.apprise:
            return None
        body = {**asdict(notice), "title": one_line(notice.title), "urls_file": self.channels.urls_file}
        code = run(program("engine.queue.apprise_notice"), json.dumps(body), {})
        return None if code == 0 else WHY.get(code or 0, f"Apprise {ended(code)}")


# Exit codes of engine/queue/apprise_notice.py.
NO_APPRISE, OPEN_FILE, NO_FILE, BAD_ADDRESS, NOT_SENT = 10, 11, 12, 13, 14
WHY = {
    NO_APPRISE: "notices need Apprise: pip install 'finetui[notices]'",
    OPEN_FILE: "notify_urls_file in config.toml can be read by others, and is not used: chmod 600 it",
    NO_FILE: "notify_urls_file in config.toml cannot be read",
    BAD_ADDRESS: "an address for notices is not one that Apprise knows",
    NOT_SENT: "a notice was not delivered to all addresses",
}


def run(command: list[str], text: str, environment: dict[str, str]) -> int | None:
    """Return the exit code; None where it took too long. What it prints may hold addresses, and goes nowhere."""
    process = subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        env={**os.environ, **environment},
        start_new_session=True,
        text=True,
    )
    try:
        process.communicate(text, timeout=SEND_S)
    except subprocess.TimeoutExpired:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        return None
    except OSError:  # it has ended without reading
        process.wait()
    return process.returncode


def ended(code: int | None) -> str:
    return f"did not end within {SEND_S:g} s" if code is None else f"ended with {code}"
