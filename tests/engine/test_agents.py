"""What assistants may do, and how much of their day is used: by what the journals add up to."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from supervision import until
from with_daemon import FOREVER, a_home, directory, kill_daemon, row, submit, wait_state

from engine.basics.errors import QueueError
from engine.queue.agents import DAY_S, HOUR_S, Agents, Used, has_code, name_of, used
from engine.recipe.command import any_recipe
from engine.runs import journal
from engine.runs.journal import RunRecord, add
from finetui.daemon import connect
from finetui.errors import StoreError
from store.journal_lines import Ended, Pause, Requeued, Starting, Submitted
from store.states import RunState

CONFIG = Path("/home/me/config.toml")
BY = "helper 1"
RECIPE: dict[str, Any] = {
    "model": {"path": "bundled:stdlib-2m"},
    "method": {"name": "lora"},
    "data": {"train": "x.jsonl"},
}


def queued(at: float, by: str | None = BY, seconds: float | None = None, processes: int = 1) -> RunRecord:
    line = Submitted(RunState.QUEUED, processes=processes, by=by, seconds=seconds)
    return add(RunRecord(1), line, at)


def begun(record: RunRecord, at: float) -> RunRecord:
    return add(record, Starting(record.attempt + 1, RunState.STARTING, "cpu"), at)


def ended(record: RunRecord, at: float) -> RunRecord:
    return add(record, Ended(RunState.FINISHED), at)


def test_hours_are_those_that_ran_and_of_what_goes_on_those_foretold() -> None:
    now = 1e9
    assert used([queued(now - 60), queued(now - 60, by=None)], now) == Used(1, 0.0)
    waiting = queued(now - 60, seconds=2 * HOUR_S, processes=2)
    assert used([waiting], now) == Used(1, 4.0)
    going = begun(queued(now - 5 * HOUR_S, seconds=HOUR_S), now - 3 * HOUR_S)
    assert used([going], now).hours == 3.0, "longer than was foretold"
    over = ended(begun(queued(now - 5 * HOUR_S, seconds=9 * HOUR_S), now - 3 * HOUR_S), now - HOUR_S)
    assert used([over], now).hours == 2.0, "what was foretold counts no more"
    assert used([over, going, waiting], now) == Used(3, 9.0)


def test_a_day_later_only_what_still_runs_counts_and_no_longer_as_a_run_of_the_day() -> None:
    now = 1e9
    going = begun(queued(now - DAY_S - HOUR_S), now - DAY_S)
    assert used([going], now) == Used(0, 24.0)
    assert used([ended(going, now)], now) == Used(0, 0.0)


def test_two_attempts_add_up_and_whoever_resumes_a_run_answers_for_it() -> None:
    now = 1e9
    paused = add(begun(queued(now - 5 * HOUR_S), now - 5 * HOUR_S), Pause(RunState.PAUSED), now - 4 * HOUR_S)
    again = begun(paused, now - HOUR_S)
    assert again.seconds(now) == 2 * HOUR_S
    assert used([again], now).hours == 2.0
    resumed = add(paused, Requeued(RunState.QUEUED), now)
    assert used([resumed], now) == Used(0, 0.0)


@pytest.mark.parametrize(
    ("action", "body", "may", "line"),
    [
        ("submit", {}, [], 'agents_may = ["queue"]'),
        ("submit", {}, ["stop"], 'agents_may = ["queue", "stop"]'),
        ("submit", {"parent": 3}, ["fix"], None),
        ("submit", {}, ["fix"], 'agents_may = ["queue", "fix"]'),
        ("requeue", {"run": 1}, ["queue"], None),
        ("cancel", {"run": 1}, ["queue"], 'agents_may = ["queue", "stop"]'),
        ("pause", {"run": 1}, ["stop"], None),
        ("sweep", {"section": {"search": "tpe"}}, ["queue"], "sweep.search"),
        ("sweep", {"section": {"train.lr": [1, 2]}}, ["queue"], None),
        ("remove", {"run": 1}, ["queue", "fix", "stop", "programs"], "may not ask the daemon to remove"),
        ("resume", {"run": 1}, ["queue", "fix", "stop", "programs"], "may not ask the daemon to resume"),
        ("stop", {}, ["queue", "fix", "stop", "programs"], "may not ask the daemon to stop"),
        ("status", {}, [], None),
    ],
)
def test_rights(action: str, body: dict[str, Any], may: list[Any], line: str | None) -> None:
    agents = Agents(frozenset(may), 10, 10.0)
    if line is None:
        agents.check(action, body, CONFIG)
        return
    with pytest.raises(QueueError) as refused:
        agents.check(action, body, CONFIG)
    assert line in str(refused.value)
    assert "\n" not in str(refused.value)


def test_code_of_their_own_needs_a_right_of_its_own() -> None:
    plain = any_recipe(RECIPE)
    remote = any_recipe({**RECIPE, "model": {"path": "x", "trust_remote_code": True}})
    metric = any_recipe({**RECIPE, "evals": {"metrics": ["mine:score"]}})
    command = any_recipe({"command": ["true"]})
    assert [has_code(one) for one in (plain, remote, metric, command)] == [False, True, True, True]
    agents = Agents(frozenset(["queue"]), 10, 10.0)
    agents.check_run(plain, None, [])
    for one in (remote, metric, command):
        with pytest.raises(QueueError, match='agents_may = \\["queue", "programs"\\]'):
            agents.check_run(one, None, [])
        replace(agents, may=frozenset(["queue", "programs"])).check_run(one, None, [])


@pytest.mark.parametrize("name", ["", "\n", "x" * 61, 3])
def test_a_name_is_a_line(name: Any) -> None:
    with pytest.raises(QueueError, match="the name of an assistant"):
        name_of(name)


def test_the_day_is_counted_from_the_journals_and_outlives_the_daemon(tmp_path: Path) -> None:
    with a_home(tmp_path / "home") as home:
        home.config.write_text('concurrency = 1\nagents_may = ["queue"]\nagent_runs_per_day = 2\n')
        with connect(home) as client:
            own = submit(client, steps=FOREVER)
            wait_state(client, own, "running")
            client.by = BY
            first = submit(client)
            assert client.action("agent")["runs_left"] == 1
            with pytest.raises(StoreError, match="and this would be 2 more"):
                client.action("agent", runs=2, seconds=0.0)
            second = submit(client)
            with pytest.raises(StoreError, match=r"have queued 2 of 2 runs .* agent_runs_per_day"):
                submit(client)
            with pytest.raises(StoreError, match='agents_may = \\["queue", "stop"\\]'):
                client.action("cancel", run=own)
        kill_daemon(home)
        with connect(home) as client:
            assert [journal.read(directory(home, run)).by for run in (own, first, second)] == [None, BY, BY]
            assert client.action("agent")["runs_left"] == 0
            home.config.write_text('concurrency = 2\nagents_may = ["queue"]\nagent_hours_per_day = 0\n')
            client.action("cancel", run=own)
            wait_state(client, own, "cancelled")
            until("a reason", lambda: "hours of the day" in (row(client, first)["waiting_for"] or ""))
            client.action("cancel", run=first)
            client.action("resume", run=first)
            wait_state(client, first, "finished")
            assert row(client, second)["state"] == "queued"
