"""Requests to stop: SIGTERM sets a flag, which the worker checks where it can stop cleanly."""

from __future__ import annotations

import signal
from collections.abc import Callable


class Cancelled(Exception):  # noqa: N818 (no error: somebody asked for it)
    """The run was asked to stop."""


class Stop:
    """Whether SIGTERM (or Ctrl-C) has come."""

    def __init__(self, agree: Callable[[bool], bool] = bool) -> None:
        """`agree`: whether any process of the run was asked; all have to stop at the same place."""
        self.requested = False
        self._agree = agree

    def listen(self) -> None:
        """Catch the signals from now on."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: setattr(self, "requested", True))

    def check(self) -> None:
        """Raise Cancelled if asked to stop. Of several processes, all have to call this."""
        if self._agree(self.requested):
            raise Cancelled
