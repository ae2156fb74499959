"""Follow runs with progress lines until all of them have ended."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

from engine.basics.wording import duration
from finetui.errors import StoreError
from store.states import ACTIVE, WAITING, RunState
from tui.cli.output import print_json_line, say
from tui.cli.patience import GONE, Patience
from tui.cli.shape import runs_as_json

if TYPE_CHECKING:
    from finetui.client import Client

Row = dict[str, Any]
POLL_S = 0.5
LINE_EVERY_S = 5.0


def say_run(row: Row) -> None:
    """One run in one line on stderr."""
    say(line(row))


def print_run(client: Client, row: Row) -> None:
    """One run, as it is now, as a line of JSON."""
    for one in runs_as_json(client, [row["run"]]):
        print_json_line(one)


def follow_runs(client: Client, numbers: list[int], tell: Callable[[Row], object] = say_run) -> bool:
    """Narrate until every run has ended; True if all of them finished."""
    said: dict[int, tuple[str, float]] = {}  # run → state and time of its last line
    rows: list[Row] = []
    for rows in _until_ended(client, numbers):
        for row in rows:
            state, when = said.get(row["run"], ("", 0.0))
            due = row["state"] == RunState.RUNNING and time.monotonic() - when >= LINE_EVERY_S
            if row["state"] != state or due:
                tell(row)
                said[row["run"]] = (row["state"], time.monotonic())
    return _finished(rows, numbers)


def wait_for_runs(
    client: Client, numbers: list[int], timeout: float | None, tell: Callable[[Row], object] = say_run
) -> bool:
    """Say of each run that it has ended, or is paused, once it has; True if all of them finished, within `timeout`
    seconds.
    """
    began, left = time.monotonic(), set(numbers)
    rows: list[Row] = []
    for rows in _until_ended(client, numbers):
        for row in rows:
            if row["run"] in left and _has_ended(row):
                left.remove(row["run"])
                tell(row)
        if left and timeout is not None and time.monotonic() - began >= timeout:
            names = ", ".join(f"#{number}" for number in sorted(left))
            say(f"after {timeout:g} s {names} still wait or run")
            return False
    return _finished(rows, numbers)


def _until_ended(client: Client, numbers: list[int]) -> Iterator[list[Row]]:
    """Yield the rows of runs again and again, as they were last, until all of them have ended or are removed."""
    latest: dict[int, Row] = {}
    removed: set[int] = set()
    patience = Patience()
    while True:
        try:
            now = _rows(client, numbers)
            if missing := latest.keys() - now.keys() - removed:
                client.drain(say)  # a daemon that has just begun may not have read all of them
                now = _rows(client, numbers)
                for number in sorted(missing - now.keys()):
                    say(f"#{number} is removed; finetui restore {number} brings it back")
                    removed.add(number)
            patience.answered()
            latest |= now
        except StoreError as error:
            if patience.bear(error):
                say(GONE)
        yield [latest[number] for number in numbers if number in latest]
        # A run that was queued a moment ago may not be in the store yet.
        if all(number in removed or (number in latest and _has_ended(latest[number])) for number in numbers):
            return
        time.sleep(POLL_S)


def _rows(client: Client, numbers: list[int]) -> dict[int, Row]:
    return {row["run"]: row for row in client.named("runs").to_pylist() if row["run"] in numbers}


def _has_ended(row: Row) -> bool:
    return row["state"] not in WAITING | ACTIVE


def _finished(rows: list[Row], numbers: list[int]) -> bool:
    return len(rows) == len(numbers) and all(row["state"] == RunState.FINISHED for row in rows)


def line(row: Row) -> str:
    """One run in one line, such as `#3 demo-lora running 40/160 loss 2.31 held-out 2.40, 38s left`."""
    parts = [f"#{row['run']:<3} {row['name']:<14} {row['state']}"]
    if row["state"] in WAITING and row["waiting_for"]:
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
