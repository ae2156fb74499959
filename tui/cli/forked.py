"""Let the pool run a command, in a fork that has the command's imports done: a third of a second less to wait.

Only what is over at once is run so: what stays, or takes the whole screen, is a process of its own. Where no pool is
up, or it cannot give a fork that is as good (another environment, other limits), the command runs in this process.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Sequence

from finetui.errors import ExitCode

SHORT = {
    "run", "check", "ls", "show", "examples", "sweep", "compare", "sql",
    "cancel", "pause", "resume", "requeue", "clone", "edit", "hold", "release", "start", "move", "priority",
    "group", "tag", "note", "rm", "restore", "clean",
}  # fmt: skip
NOT_HERE = {"-f", "--follow", "-h", "--help", "--tokens"}  # stays; looks at its surroundings; loads a model
FORWARDED = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT)
ANSWER_S = 0.3  # that the pool may take: what the imports would take


def run(arguments: Sequence[str]) -> int | None:
    """Return the exit code of a command that the pool has run; None if it is to be run here."""
    if not arguments or arguments[0] not in SHORT or not NOT_HERE.isdisjoint(arguments):
        return None
    if None in (sys.stdin, sys.stdout, sys.stderr):  # closed: its number may be that of any other file by now
        return None
    from engine.basics import child

    # One that comes before it can be passed on waits.
    before = signal.pthread_sigmask(signal.SIG_BLOCK, FORWARDED)
    try:
        process = child.fork("tui.cli", tuple(arguments), (0, 1, 2), exact=True, answer_s=ANSWER_S)
        if process is None:
            return None
        for number in FORWARDED:
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, lambda number, _: process.send_signal(number))
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
    code = process.exit_code()
    if code is None:
        from tui.cli.output import complain

        complain("the pool that ran this command has ended; finetui ls says whether it was done")
        return ExitCode.FAILED
    if code < 0:
        signal.signal(-code, signal.SIG_DFL)
        os.kill(os.getpid(), -code)
    return code
