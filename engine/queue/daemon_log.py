"""The daemon's log, and its words to the command that starts it."""

from __future__ import annotations

import contextlib
import faulthandler
import logging
import os
import sys
import threading
from logging.handlers import RotatingFileHandler
from typing import BinaryIO

from finetui.errors import ExitCode
from finetui.files import append_regular
from finetui.home import Home

log = logging.getLogger("finetui.daemon")


def report_refusal(sentence: str, code: int = ExitCode.NO_DAEMON) -> int:
    log.error("cannot start: %s", sentence)
    report_to_starter(sentence)
    return code


def report_to_starter(sentence: str) -> None:
    """Print to the command that started this daemon, if it still runs."""
    with contextlib.suppress(OSError):
        print(sentence, file=sys.stderr, flush=True)


def log_to(home: Home) -> None:
    os.close(append_regular(home.daemon_log))  # a pipe in its place would be waited for
    handler = RotatingFileHandler(home.daemon_log, maxBytes=1 << 20, backupCount=1)
    format = "%(asctime)s %(levelname)s %(name)s: %(message)s"
    handler.setFormatter(logging.Formatter(format, "%Y-%m-%d %H:%M:%S %Z"))
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    logging.captureWarnings(True)
    threading.excepthook = lambda args: log.error(
        "a thread died", exc_info=(args.exc_type, args.exc_value or args.exc_type(), args.exc_traceback)
    )


def redirect_output_to_log(home: Home) -> None:
    """Send what native code prints (or a crash) to the log, and release the terminal."""
    with home_log(home) as output:
        os.dup2(output.fileno(), 1)
        os.dup2(output.fileno(), 2)
    faulthandler.enable()


def home_log(home: Home) -> BinaryIO:
    """Open the daemon's log to append to it. Raises OSError."""
    return os.fdopen(append_regular(home.daemon_log), "ab")
