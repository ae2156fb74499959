"""The `finetui` command: data on stdout, narration on stderr, exit codes that scripts can rely on."""

from __future__ import annotations

import errno
import io
import os
import sys
from collections.abc import Callable
from typing import NoReturn

from finetui.errors import ExitCode, FinetuiError


def main() -> NoReturn:
    """Run the command line: the screen at once, a short command in a fork of the pool where that spares the imports."""
    from tui.cli import forked, opening

    if not sys.argv[1:] and opening.has_terminal():
        _answer(opening.open_screen)
    code = forked.run(sys.argv[1:])
    if code is None:
        run_and_leave()
    leave(code)


def run_and_leave(last: Callable[[int], object] = lambda code: None) -> NoReturn:
    """Run the command line in this process, and end it; `last` is called with the exit code before."""
    try:
        command()
    except SystemExit as ended:
        leave(ended.code if isinstance(ended.code, int) else ExitCode.OK, last)
    leave(ExitCode.OK, last)


def leave(code: int, last: Callable[[int], object] = lambda code: None) -> NoReturn:
    """End this process at once: nothing is left to do, and libraries take longer to be taken down than most commands
    take.
    """
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream is not None:
                stream.flush()
        except OSError as error:
            # Nobody reads on; or the disk is full, which has been said if there is a code.
            if code == ExitCode.OK and error.errno != errno.EPIPE:
                os.write(2, f"{_unwritten(error)}\n".encode())
            code = code or ExitCode.FAILED
    last(code)
    os._exit(code)


def _unwritten(error: OSError) -> str:
    return f"finetui: the output cannot be written: {error.strerror}"


def command() -> None:
    """Run the command line in this process."""
    from tui.cli import plain_ls

    if plain_ls.is_meant(sys.argv[1:]):
        _answer(plain_ls.run)
    from tui.cli.commands import parser

    _answer(lambda: parser()(prog_name="finetui"))


def _answer(run: Callable[[], None]) -> None:
    """Run it: an error that a person can cause is one sentence and an exit code."""
    for name in ("stdin", "stdout", "stderr"):
        if getattr(sys, name) is None:  # closed by whoever started this
            setattr(sys, name, open(os.devnull, "r" if name == "stdin" else "w"))  # noqa: SIM115, PTH123
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")  # a terminal that is not UTF-8 has no dash
    if any(stream.isatty() for stream in (sys.stdout, sys.stderr)):
        from tui.cli.guarded import guard_streams

        guard_streams()
    try:
        run()
    except FinetuiError as error:
        from tui.cli.output import complain

        complain(error)
        sys.exit(error.exit_code)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        sys.stderr.write(f"{_unwritten(error)}\n")
        sys.exit(ExitCode.FAILED)
