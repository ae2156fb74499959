"""Open the screen. What parses commands is not imported for it: that takes as long as a bare Textual app."""

from __future__ import annotations

import os
import signal
import sys
from typing import NoReturn

from finetui.errors import ExitCode

SWITCH_S = 0.001  # that a thread goes on while another waits; 0.005 is usual


def has_terminal() -> bool:
    """Whether there is one to show a screen on."""
    return all(stream is not None and stream.isatty() for stream in (sys.stdin, sys.stdout))


def open_screen(*, readonly: bool = False, mouse: bool = True) -> NoReturn:
    """Show the screen until it is left, and end the process. Raises FinetuiError where there can be none."""
    from finetui.home import home
    from tui.app import FinetuiApp

    # Whatever started this may have ignored it (nohup): a screen whose terminal is gone has nothing to go on for.
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    # A key takes the interpreter from the thread that reads answers, several times until it is seen.
    sys.setswitchinterval(SWITCH_S)
    shown = FinetuiApp(home(), readonly=readonly)
    shown.run(mouse=mouse)
    last = shown.state.snapshot
    if last.trouble and not last.loaded and not last.starting:  # no daemon was ever reached
        from tui.cli import service

        service.explain(last.trouble)
    sys.stdout.flush()
    # The screen owns nothing, and taking Arrow and gRPC down takes half a second.
    os._exit(shown.return_code or ExitCode.OK)
