"""Being asked to stop: SIGTERM sets a mark, which the worker looks at where it can stop cleanly."""

from __future__ import annotations

import signal


class Cancelled(Exception):  # noqa: N818 (no error: somebody asked for it)
    """The run was asked to stop."""


class Stop:
    """Whether SIGTERM (or Ctrl-C) has come."""

    def __init__(self) -> None:
        self.requested = False

    def listen(self) -> None:
        """Catch the signals from now on."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: setattr(self, "requested", True))

    def check(self) -> None:
        """Raise Cancelled if asked to stop."""
        if self.requested:
            raise Cancelled
