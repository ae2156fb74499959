"""Orders are taken back: a run is in the state, at the place and under the conditions that it had before."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from with_daemon import FOREVER, a_home, directory, row, starts, submit, wait_state, wait_worker

from engine.basics.errors import QueueError
from engine.queue import back
from engine.runs import journal
from engine.runs.journal import RunRecord
from engine.runs.lifecycle import Remains, verdict
from finetui.client import Client
from finetui.daemon import connect
from finetui.errors import StoreError
from finetui.home import Home
from store.journal_lines import Cancel, Conditions, Moved, Pause, Priority, Requeued, Tagged

WAITING = RunRecord(7, place=50.0, priority=2, after=(3,), tags=("night",), note="why")


def taken_back(order: str, record: RunRecord, *lines: Any) -> RunRecord:
    """What a run is like after an order that wrote these lines, and after that was taken back."""
    before = back.read(back.standing(record))
    for line in lines:
        record = journal.add(record, line, 100.0)
    for line in back.lines(order, record, before):
        record = journal.add(record, line, 200.0)
    return record


@pytest.mark.parametrize(
    ("order", "line"),
    [
        ("cancel", Cancel("cancelled")),
        ("pause", Pause("paused")),
        ("priority", Priority(9)),
        ("move", Moved(4, 1.0)),
        ("hold", Conditions(True, [3])),
        ("release", Conditions()),
        ("tag", Tagged(["other"])),
    ],
)
def test_a_waiting_run_is_as_it_was(order: str, line: Any) -> None:
    assert journal.add(WAITING, line, 100.0) != WAITING
    assert taken_back(order, WAITING, line) == WAITING


def test_a_run_that_was_resumed_is_paused_or_cancelled_again() -> None:
    requeued = Requeued("queued", interruptions=0)
    assert taken_back("resume", replace(WAITING, state="paused"), requeued).state == "paused"
    assert taken_back("resume", replace(WAITING, state="failed"), requeued).state == "cancelled"
    assert taken_back("cancel", replace(WAITING, state="paused"), Cancel("cancelled")).state == "paused"


def test_a_run_that_stops_goes_on_when_it_has_stopped() -> None:
    running = replace(WAITING, state="running", attempt=1)
    record = taken_back("cancel", running, Cancel("running"))
    assert (record.state, record.request, record.taken_back) == ("running", "cancel", True)
    ended = verdict(record, Remains(checkpoint=20))
    assert (ended.state, ended.reason, ended.checkpoint) == ("interrupted", "its cancel was taken back", 20)
    again = journal.add(record, Pause("running"), 300.0)
    assert verdict(again, Remains()).state == "paused", "a later request counts"


def test_what_cannot_be_taken_back_says_so() -> None:
    running = replace(WAITING, state="running")
    with pytest.raises(QueueError, match="run #7 is running; only a run that waits"):
        taken_back("priority", running)
    with pytest.raises(QueueError, match="run #7 is running: there is no cancel to take back"):
        taken_back("cancel", running)
    with pytest.raises(QueueError, match="goes on already"):
        back.lines("resume", running, back.read(back.standing(running)))
    for wrong in (
        None,
        {},
        {**back.standing(WAITING), "place": "x"},
        {**back.standing(WAITING), "tags": [1]},
    ):
        with pytest.raises(QueueError):
            back.read(wrong)


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    with a_home(tmp_path / "home") as home:
        home.config.write_text("concurrency = 1\nretry_wait_seconds = 0\n")
        yield home


@pytest.fixture
def client(home: Home) -> Iterator[Client]:
    with connect(home) as client:
        yield client


def test_the_daemon_takes_back_and_gives_names(home: Home, client: Client) -> None:
    going = submit(client, steps=FOREVER, step_s=0.05, checkpoint_every=1)
    wait_worker(home, going)
    first, second, third = (submit(client, steps=FOREVER) for _ in range(3))
    before = client.action("cancel", run=second)["before"]
    assert row(client, second)["state"] == "cancelled"
    assert client.action("put_back", run=second, order="cancel", before=before)["state"] == "queued"
    waiting = (journal.read(directory(home, run)) for run in (first, second, third))
    assert [run.number for run in sorted(waiting, key=lambda run: run.place)] == [first, second, third]

    before = client.action("cancel", run=going)["before"]
    client.action("put_back", run=going, order="cancel", before=before)
    wait_worker(home, going, attempt=2)
    wait_state(client, going, "running")
    assert starts(home, going) == [1, 2]
    assert row(client, first)["state"] == "queued", "it has its place again, before those that wait"

    assert client.action("name", run=going, name="  mine ")["before"] == "Fake Run"
    assert row(client, going)["name"] == "mine"
    with pytest.raises(StoreError, match="a name is a line"):
        client.action("name", run=going, name=" ")
