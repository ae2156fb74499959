"""The command line in a fork of the pool: see forked.py."""

from __future__ import annotations

import signal
import sys

from engine.attempt import fork
from tui.cli import run_and_leave


def open_streams() -> None:
    """Make stdin, stdout and stderr anew, as Python does at its start: those of the pool belong to other files."""
    for descriptor, name in enumerate(("stdin", "stdout", "stderr")):
        before = getattr(sys, name)
        mode, buffering = ("r", -1) if name == "stdin" else ("w", 1 if name == "stderr" else -1)
        stream = open(descriptor, mode, buffering, before.encoding, before.errors, closefd=False)  # noqa: SIM115
        setattr(sys, name, stream)


if __name__ == "__main__":
    signal.signal(signal.SIGHUP, signal.SIG_DFL)  # the pool ignores it; what this starts would inherit that
    open_streams()
    run_and_leave(fork.tell_end)
