"""`finetui top`: the hardware with its processes, and the runs that run or wait, live."""

from __future__ import annotations

import sys
import time
from datetime import datetime
from math import isfinite
from typing import TYPE_CHECKING, Any

from finetui.daemon import connect
from store.states import ACTIVE, WAITING
from tui.cli import inline
from tui.cli.output import print_json, waiting
from tui.cli.shape import runs_as_json
from tui.lines.text import Line
from tui.poller import machine_now
from tui.rows import Row, etas_of, runs_of
from tui.widgets import hardware, run_table
from tui.widgets.hardware import Hardware
from tui.widgets.hardware_asked import HISTORY, LATEST, STEP_S
from tui.widgets.run_table import TableView

if TYPE_CHECKING:
    from finetui.client import Client

WIDEST = 120  # columns of a meter's line
LEAST = 4  # lines for the hardware
BETWEEN_LOOKS_S = 0.3


def top(every: float, *, once: bool, as_json: bool) -> None:
    """Once where nobody looks on: in a pipe, or with `once`."""
    with connect() as client:
        if once or as_json or not sys.stdout.isatty():
            client.drain(waiting())
            machine_now(client)  # the loads of processes are those between two looks
            time.sleep(BETWEEN_LOOKS_S)
        if as_json:
            print_json(_shape(client))
        elif once or not sys.stdout.isatty():
            inline.print_lines(lines(client, inline.size()[0] - 1))
        else:
            inline.keep_drawing(
                lambda width, height: _within(lines(client, width - 1, height), height), lambda: False, every
            )


def lines(client: Client, width: int, height: int | None = None) -> list[Line]:
    """When, how many runs, hardware, and every run that runs or waits; in few lines (`height`) processes give way."""
    table = client.named("runs")
    live = sorted((run for run in runs_of(table) if run.live), key=lambda run: run.state in WAITING)
    waiting = sum(run.state in WAITING for run in live)
    count = f"{len(live) - waiting} running, {waiting} waiting"
    head: Line = [
        ("finetui top  ", "title"),
        (f"{datetime.now().astimezone():%Y-%m-%d %H:%M:%S %Z}  {count}", "dim"),
    ]
    machine = Hardware.of(*_answers(client), busy=bool(live))
    room = 100 if height is None else max(LEAST, height - min(len(live), height // 2) - 4)
    meters = hardware.lines(machine, min(width, WIDEST), room, whole=height is None)
    if not live:
        return [
            head,
            *meters,
            [],
            [("nothing runs or waits; queue a run with: finetui run recipe.yaml", "dim")],
        ]
    view = TableView(
        live,
        cursor=-1,
        top=0,
        slots={},
        sort="",
        etas=etas_of(table),
        highest=max(run.number for run in live),
    )
    return [head, *meters, [], *run_table.lines(view, width, len(live) + 1)]


def _answers(client: Client) -> tuple[list[Row], list[Row], Row]:
    latest, history = (client.named(name, **dict(args)).to_pylist() for name, args in (LATEST, HISTORY))
    return latest, history, machine_now(client)


def _within(shown: list[Line], height: int) -> list[Line]:
    """As many lines as there is room for, and how many runs are not among them."""
    if len(shown) <= height:
        return shown
    kept = shown[: height - 1]
    return [*kept, [(f"{len(shown) - len(kept)} more: finetui ls --state queued", "dim")]]


def _shape(client: Client) -> dict[str, Any]:
    latest, history, machine = _answers(client)
    values, labels = hardware.latest_values(latest)
    past = {
        key: [value if isfinite(value) else None for value in one]
        for key, one in hardware.series(history).items()
    }
    return {
        "hardware": values,
        "devices": labels,
        "history": {"step_s": STEP_S, "values": past},
        "gpus": machine.get("gpus", {}),
        "processes": machine.get("processes", []),
        "problem": machine.get("problem"),
        "runs": [run for run in runs_as_json(client) if run["state"] in WAITING | ACTIVE],
    }
