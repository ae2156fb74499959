"""What a run waits for and where it stands in the queue, by commands on a real daemon."""

from __future__ import annotations

import json
import subprocess
from datetime import datetime

import pytest
from live import Line, Live
from supervision import until
from with_daemon import row, submit, wait_state

from engine.basics.errors import QueueError
from engine.client import service
from engine.runs import journal
from engine.runs.home import run_dirs
from finetui.daemon import connect
from finetui.errors import ExitCode
from finetui.start import program
from tui.cli.patience import GONE
from tui.cli.selection import parse_numbers
from tui.cli.times import parse_time


def waits(live: Live, number: int) -> str:
    """What the daemon says that a run waits for, once it has said so."""
    return until("a reason", lambda: row(live.client, number)["waiting_for"])


def test_a_run_waits_for_another_one(live: Live, finetui: Line) -> None:
    first = live.going()
    number = int(
        finetui("run", live.recipe(), "--after", first, "--tag", "night", "--note", "the second").out
    )
    assert waits(live, number) == f"it starts after run #{first}, which is running"
    finetui("cancel", first)
    reason = f"it starts after run #{first} has finished, and that is cancelled; finetui release {number} "
    until("the other reason", lambda: row(live.client, number)["waiting_for"].startswith(reason))
    assert "tags night" in finetui("show", number).out
    refused = finetui("run", live.recipe(), "--after", first)
    assert refused.code == ExitCode.REFUSED
    assert f"run #{first} is cancelled, so nothing would start after it" in refused.err
    assert finetui("release", number).code == ExitCode.OK
    assert finetui("wait", number, "--timeout", 60).code == ExitCode.OK
    assert row(live.client, number)["state"] == "finished"


def test_after_any_is_content_with_a_failure(live: Live, finetui: Line) -> None:
    first = int(finetui("run", live.recipe(script='{"fail_at": 2}')).out)
    number = int(finetui("run", live.recipe(), "--after", first, "--after-any").out)
    ended = finetui("wait", first, number)
    assert ended.code == ExitCode.FAILED, "the first of them has failed"
    assert [row(live.client, run)["state"] for run in (first, number)] == ["failed", "finished"]


def test_a_held_run_is_still_held_by_the_next_daemon(live: Live, finetui: Line) -> None:
    number = int(finetui("run", live.recipe(), "--hold").out)
    assert waits(live, number) == f"it is held; finetui release {number} lets it start"
    assert service.stop(live.home)
    with connect(live.home) as client:
        assert until("a reason", lambda: row(client, number)["waiting_for"]).startswith("it is held")
        assert row(client, number)["held"] is True
        assert "is held already" in finetui("hold", number).err
        assert finetui("release", number).code == ExitCode.OK
        wait_state(client, number, "finished")
        assert row(client, number)["held"] is False


def test_a_run_starts_at_its_time(live: Live, finetui: Line) -> None:
    number = int(finetui("run", live.recipe(), "--at", "+5m").out)
    assert waits(live, number).startswith("it starts at 20")
    assert finetui("run", live.recipe(), "--at", "soon").err.startswith(
        "finetui: --at soon is no time: give 02:00"
    )
    assert finetui("release", number).code == ExitCode.OK
    wait_state(live.client, number, "finished")


def test_a_run_is_started_beside_the_one_that_fills_the_machine(live: Live, finetui: Line) -> None:
    blocker = live.going()
    number = submit(live.client, steps=3, after=[])
    held = live.held()
    assert finetui("start", held).code == ExitCode.OK
    wait_state(live.client, held, "finished")
    assert row(live.client, blocker)["state"] == "running"
    assert row(live.client, number)["state"] == "queued"


def test_runs_start_in_the_order_that_somebody_made(live: Live, finetui: Line) -> None:
    blocker = live.going()
    first, second, third = (submit(live.client, steps=3) for _ in range(3))
    assert finetui("move", third).code == ExitCode.OK
    assert finetui("move", first, "--before", third).code == ExitCode.OK
    assert finetui("move", second, "--before", blocker).code == ExitCode.REFUSED
    finetui("cancel", blocker)
    assert finetui("wait", f"{first}-{third}").code == ExitCode.OK
    started = {run: row(live.client, run)["started"] for run in (first, second, third)}
    assert sorted(started, key=lambda run: started[run]) == [first, third, second]


def test_a_group_runs_so_many_at_a_time(live: Live, finetui: Line) -> None:
    before = live.home.config.read_text()
    live.home.config.write_text(
        before.replace("concurrency = 1", "concurrency = 3") + "groups = {night = 1}\n"
    )
    try:
        one = live.going()
        assert finetui("group", "night", one).code == ExitCode.OK
        two = int(finetui("run", live.recipe(), "--group", "night").out)
        three = int(finetui("run", live.recipe()).out)
        wait_state(live.client, three, "finished")
        assert waits(live, two) == "group night is full: 1 at a time (groups in config.toml)"
        assert "group night" in finetui("show", two).out
        assert finetui("group", "none", "group:night", "state:queued", "--yes").code == ExitCode.OK
        wait_state(live.client, two, "finished")
        assert "a group is one word" in finetui("group", "a b", one).err
        finetui("cancel", one)
    finally:
        live.home.config.write_text(before)


def test_a_filter_shows_what_it_finds_and_asks(live: Live, finetui: Line) -> None:
    live.going()
    one, two = (int(finetui("run", live.recipe(), "--tag", "old").out) for _ in range(2))
    assert finetui("tag", live.finished, "--add", "old").code == ExitCode.OK
    words = ("cancel", "tag:old", "state:queued")
    assert "no terminal to ask on; add --yes" in finetui(*words).err
    assert row(live.client, one)["state"] == "queued"
    ended = finetui("cancel", "tag:old", "--yes")
    assert ended.code == ExitCode.OK
    assert "1 of 3 left alone: their state does not allow it" in ended.err
    assert [row(live.client, run)["state"] for run in (one, two)] == ["cancelled"] * 2
    assert "no run matches tag:none" in finetui("cancel", "tag:none", "--yes").err
    finetui("tag", live.finished, "--remove", "old")
    assert row(live.client, live.finished)["tags"] is None


def test_orders_for_scripts(live: Live, finetui: Line) -> None:
    """A list of what came of each, also of one that is refused; nobody is asked."""
    number = live.waiting()
    ended = finetui("hold", number, 99, "--json")
    done, refused = json.loads(ended.out)
    live.client.drain()
    uuid = live.client.query(f"SELECT uuid FROM runs WHERE run = {number}").to_pylist()[0]["uuid"]
    assert done == {"run": number, "uuid": uuid, "outcome": "done", "says": "is held", "reason": None}
    assert (refused["run"], refused["uuid"], refused["outcome"]) == (99, None, "refused")
    assert ended.code == ExitCode.REFUSED
    assert f"finetui: {refused['reason']}\n" in ended.err
    asked = finetui("cancel", "state:queued", "--json")
    assert (asked.code, asked.out) == (ExitCode.REFUSED, "")
    assert "With --json nobody is asked; add --yes" in asked.err
    assert row(live.client, number)["state"] == "queued"
    (again,) = json.loads(finetui("requeue", live.finished, "--json").out)
    assert row(live.client, again["made"])["state"] == "queued"
    recipe = live.queued()
    cloned = json.loads(finetui("clone", recipe, "seed=3", "--json").out)
    (run,) = cloned["queued"]
    assert (cloned["runs"], run["parent"]) == ([run["run"]], recipe)
    listed = json.loads(finetui("ls", "--json").out)
    assert run.keys() == listed[0].keys()


def test_answers_to_the_question(live: Live, finetui: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    number = live.waiting()
    finetui("tag", number, "--add", "asked")
    monkeypatch.setattr("sys.stdin.isatty", lambda: True, raising=False)
    for answer, state in ((False, "queued"), (True, "cancelled")):
        monkeypatch.setattr("typer.confirm", lambda question, err, answer=answer: answer)
        assert finetui("cancel", "tag:asked").code == (ExitCode.OK if answer else ExitCode.REFUSED)
        assert row(live.client, number)["state"] == state


def test_a_run_that_is_queued_again_takes_neither_tags_nor_conditions_along(
    live: Live, finetui: Line
) -> None:
    number = int(finetui("run", live.recipe(), "--hold", "--tag", "old", "--note", "x").out)
    finetui("note", number, "the latest")
    assert "\nnote the latest\n" in finetui("show", number).out
    assert json.loads(finetui("show", number, "--json").out)["note"] == "the latest"
    finetui("cancel", number)
    finetui("requeue", number)
    made = max(run.number for run in run_dirs(live.home))
    record = journal.read(next(run for run in run_dirs(live.home) if run.number == made))
    assert (record.held, record.tags) == (False, ())
    wait_state(live.client, made, "finished")


def test_wait_gives_up(live: Live, finetui: Line) -> None:
    ended = finetui("wait", number := live.going(), "--timeout", 0)
    assert ended.code == ExitCode.FAILED
    assert ended.err == f"after 0 s #{number} still wait or run\n"


def test_wait_outlives_its_daemon_and_runs_that_are_removed(live: Live, finetui: Line) -> None:
    ended, going = live.ended(steps=3), live.going()
    words = program("finetui", "wait", str(ended), str(going), "--json")
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as waiting:
        assert waiting.stdout
        assert waiting.stderr
        assert json.loads(waiting.stdout.readline())["run"] == ended
        assert service.stop(live.home)
        assert waiting.stderr.readline() == f"{GONE}\n"
        with connect(live.home) as client:
            client.action("remove", run=ended)
            assert waiting.stderr.readline().startswith(f"#{ended} is removed")
            client.action("cancel", run=going)
            cancelled = json.loads(waiting.stdout.readline())
    assert (cancelled["run"], cancelled["state"]) == (going, "cancelled")
    assert waiting.returncode == ExitCode.FAILED


def test_wrong_tags_queue_nothing(live: Live, finetui: Line) -> None:
    ended = finetui("run", live.recipe(), "--tag", "two words")
    assert ended.code == ExitCode.REFUSED
    assert "a tag is one word" in ended.err


# ---- words


def test_times() -> None:
    now = datetime(2030, 1, 31, 12, 0)  # local
    for text, wanted in (
        ("13:30", datetime(2030, 1, 31, 13, 30)),
        ("02:00", datetime(2030, 2, 1, 2, 0)),
        ("2030-02-03 04:05", datetime(2030, 2, 3, 4, 5)),
        ("+90m", datetime(2030, 1, 31, 13, 30)),
        ("+2d", datetime(2030, 2, 2, 12, 0)),
    ):
        assert parse_time(text, now) == wanted.timestamp()
    for text in ("25:00", "+2", "yesterday", "2030-01-01 00:00", ""):
        with pytest.raises(ValueError, match="give 02:00"):
            parse_time(text, now)


def test_numbers_and_ranges() -> None:
    assert parse_numbers(["3", "#5", "7-9", "8,12"]) == [3, 5, 7, 8, 9, 12]
    for wrong in ("9-7", "x", "1-99999", ""):
        with pytest.raises(QueueError, match="names no runs"):
            parse_numbers([wrong])
