"""The log of one of several processes of an attempt."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from engine.runs.home import AttemptDir, RunDir
from finetui.files import write_json
from finetui.log import LogWriter
from store.lines import End

# In place of a status of `end`: another rank was lost, which reports the cause.
LOST = "lost"


class RankLog:
    """The log of one rank: the first writes the attempt's own, and how each ends goes to a file beside it."""

    def __init__(self, run: RunDir, attempt: AttemptDir, rank: int) -> None:
        self._log = LogWriter(attempt.events, "worker", run.number, attempt.number) if rank == 0 else None
        self._outcome = outcome_file(attempt, rank)

    def write(self, kind: str, *, sync: bool = False, **fields: Any) -> None:
        if kind == End.kind:
            write_json(self._outcome, {**fields, "t": time.time()})
        elif self._log:
            self._log.write(kind, sync=sync, **fields)

    def close(self) -> None:
        if self._log:
            self._log.close()


def outcome_file(attempt: AttemptDir, rank: int) -> Path:
    """Return the file in which a rank reports how it ended."""
    return attempt.path / f"rank-{rank}.json"
