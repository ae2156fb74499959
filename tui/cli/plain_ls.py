"""`finetui ls` and `finetui ls --json` where no pool runs them. What parses commands is not imported for it, nor what
Arrow takes along for arrays of NumPy: together they take longer than all else.
"""

from __future__ import annotations

import errno
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import NoReturn

from finetui.errors import ExitCode

LATEST = 50  # runs that are listed where no number is given


def is_meant(arguments: Sequence[str]) -> bool:
    return list(arguments) in (["ls"], ["ls", "--json"])


def run() -> NoReturn:
    """List the runs and end the process, also at an interrupt and where nobody reads on. Raises FinetuiError."""
    try:
        with absent("numpy", "cloudpickle"):
            import pyarrow.flight  # noqa: F401
        from tui.cli import ls

        ls.ls(None, LATEST, by=None, every=None, as_json="--json" in sys.argv)
    except KeyboardInterrupt:
        sys.exit(128 + signal.SIGINT)
    except OSError as error:
        if error.errno != errno.EPIPE:
            raise
        sys.exit(ExitCode.FAILED)
    sys.exit(ExitCode.OK)


@contextmanager
def absent(*names: str) -> Iterator[None]:
    """Import something as if these modules were not installed, which it can do without. Those that are imported already
    stay.
    """
    hidden = [name for name in names if name not in sys.modules]
    sys.modules.update(dict.fromkeys(hidden))  # type: ignore[arg-type]  # None: not found
    try:
        yield
    finally:
        for name in hidden:
            del sys.modules[name]
