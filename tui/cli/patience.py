"""Commands that stay (`watch`, `top`, `wait`, `run --follow`) bear with a daemon that goes away: the next one is waited
for, and started after a while, as other commands start one at once. The client finds it by itself.
"""

from __future__ import annotations

import time

from finetui.daemon import connect
from finetui.errors import StoreError

START_AFTER_S = 10.0  # so that somebody who stops the daemon may put another one in its place
PASSING = ("unavailable", "restarted", "timeout", "locked")  # kinds of an answer that is another one later
GONE = "the daemon does not answer; waiting for it"


class Patience:
    """Since when no daemon has answered."""

    def __init__(self) -> None:
        self._since: float | None = None

    def bear(self, error: StoreError) -> bool:
        """After an error: whether it is the first since the last answer. Raises it where it does not pass, and what
        keeps a daemon from being started.
        """
        if error.kind not in PASSING:
            raise error
        now = time.monotonic()
        first = self._since is None
        if self._since is None:
            self._since = now
        elif now - self._since > START_AFTER_S:
            connect().close()
            self._since = now
        return first

    def answered(self) -> None:
        self._since = None
