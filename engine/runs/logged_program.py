"""The program that logs a run by itself: whether it is gone, and why."""

from __future__ import annotations

import time
from pathlib import Path

from engine.basics.process import alive, boot_id
from engine.runs.home import RunDir
from engine.runs.journal import RunRecord

SILENT_S = 86_400.0  # after which a program on another machine is taken to be gone


def is_gone(run: RunDir, record: RunRecord, elsewhere: str | None) -> bool:
    """Whether a program is gone, or has to be taken to be. `elsewhere`: the other machine that it runs on, of whose
    processes nothing is known.
    """
    if not elsewhere:
        return not alive(record.worker)
    return record.request == "cancel" or time.time() - _last_change(run.attempt(1).events) > SILENT_S


def _last_change(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except FileNotFoundError:
        return 0.0


def why_gone(record: RunRecord, elsewhere: str | None) -> str:
    """Return why a program is taken to be gone that said nothing."""
    if elsewhere:
        return f"its program was on {elsewhere}, and has logged nothing for a day"
    if record.worker is not None and record.worker.boot_id != boot_id():
        return "the machine was restarted"
    return "its program is gone without a word: killed, or ended at once"
