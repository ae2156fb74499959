"""Follow runs with progress lines until all of them have ended."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from engine.basics.wording import duration
from store.states import ACTIVE, WAITING, RunState
from tui.cli.output import say

if TYPE_CHECKING:
    from finetui.client import Client

POLL_S = 0.5
LINE_EVERY_S = 5.0


def follow_runs(client: Client, numbers: list[int]) -> bool:
    """Narrate until every run has ended; True if all of them finished."""
    said: dict[int, tuple[str, float]] = {}  # run → state and time of its last line
    while True:
        rows = [row for row in client.named("runs").to_pylist() if row["run"] in numbers]
        for row in rows:
            state, when = said.get(row["run"], ("", 0.0))
            due = row["state"] == RunState.RUNNING and time.monotonic() - when >= LINE_EVERY_S
            if row["state"] != state or due:
                say(line(row))
                said[row["run"]] = (row["state"], time.monotonic())
        # A run that was queued a moment ago may not be in the store yet.
        if len(rows) == len(numbers) and all(row["state"] not in WAITING | ACTIVE for row in rows):
            return all(row["state"] == RunState.FINISHED for row in rows)
        time.sleep(POLL_S)


def line(row: dict[str, Any]) -> str:
    """One run in one line, such as `#3 demo-lora running 40/160 loss 2.31 held-out 2.40, 38s left`."""
    parts = [f"#{row['run']:<3} {row['name']:<14} {row['state']}"]
    if row["state"] == RunState.QUEUED and row["waiting_for"]:
        parts.append(f"({row['waiting_for']})")
    if row["step"] and row["total_steps"]:
        parts.append(f"{row['step']}/{row['total_steps']}")
    for label, key in (("loss", "loss"), ("held-out", "heldout"), ("general", "general")):
        if row[key] is not None:
            parts.append(f"{label} {row[key]:.3f}")
    if row["state"] == RunState.RUNNING and row["eta_s"] is not None:
        parts.append(f"{duration(row['eta_s'])} left")
    if row["state"] in (RunState.FAILED, RunState.INTERRUPTED, RunState.FINISHED) and row["reason"]:
        parts.append(f"- {row['reason']}")
    if row["flags"]:
        parts.append(f"[{row['flags']} flag{'s' if row['flags'] > 1 else ''}]")
    return "  ".join(parts)
