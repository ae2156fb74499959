"""What runs cost, and what a budget stops."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from supervision import until
from with_daemon import FOREVER, a_home, row, submit, wait_state

from engine.client import service
from engine.queue.budget import Budget
from finetui.client import Client
from finetui.daemon import connect

HOUR_S = 3600.0


def configure(path: Path, client: Client, text: str, seen: Callable[[dict[str, Any]], bool]) -> None:
    """Change config.toml, and wait until the daemon goes by it."""
    time.sleep(0.02)  # its time of change is what the daemon looks at
    path.write_text(text)
    until("the new configuration", lambda: seen(client.action("status")))


def cost(client: Client, run: int) -> float | None:
    client.action("drain")
    return next(one["cost"] for one in client.named("runs").to_pylist() if one["run"] == run)


def test_a_run_costs_what_an_hour_cost_when_it_ran(tmp_path: Path) -> None:
    with a_home(tmp_path / "home") as home:
        home.config.write_text("price_per_hour = 3600.0\n")  # one for each second
        with connect(home) as client:
            one = submit(client, steps=5, step_s=0.1)
            ended = wait_state(client, one, "finished")
            seconds = ended["ended"] - ended["started"]
            until("the cost", lambda: cost(client, one) is not None)
            assert cost(client, one) == pytest.approx(seconds, abs=0.5)
            until("the sum", lambda: client.action("status").get("spent", 0) > 0.3)
            before = client.action("status")["spent"]
            configure(home.config, client, "price_per_hour = 0.0\n", lambda told: told["budget"] is None)
            two = submit(client, steps=3)
            wait_state(client, two, "finished")
            assert cost(client, one) == pytest.approx(seconds, abs=0.5), "by the price of its day"
            client.action("remove", run=one)
            time.sleep(2.5)
            assert client.action("status")["spent"] == pytest.approx(before, abs=0.5), (
                "it has been spent all the same"
            )
            client.action("restore", run=one)
            until("it is back", lambda: row(client, one)["state"] == "finished")
            time.sleep(2.5)
            assert client.action("status")["spent"] == pytest.approx(before, abs=0.5)


@pytest.mark.parametrize("pauses", [False, True])
def test_nothing_starts_once_the_budget_is_spent(tmp_path: Path, pauses: bool) -> None:
    told = tmp_path / "told"
    settings = f"""
price_per_hour = 3600.0
budget = 1.0
budget_pauses = {str(pauses).lower()}
notify_on = ["budget"]
notify_command = "echo $FINETUI_MESSAGE >> {told}"
"""
    with a_home(tmp_path / "home") as home:
        home.config.write_text(settings)
        with connect(home) as client:
            one = submit(client, steps=FOREVER)
            wait_state(client, one, "running")
            two = submit(client, steps=3)
            until(
                "the end of the money",
                lambda: (row(client, two)["waiting_for"] or "").startswith("the budget of 1 is spent ("),
            )
            if pauses:
                paused = wait_state(client, one, "paused")
                assert paused["reason"].startswith("the budget of 1 is spent (")
            else:
                assert row(client, one)["state"] == "running"
                client.action("cancel", run=one)
                wait_state(client, one, "cancelled")
            assert row(client, two)["state"] == "queued"
            until("a notice", lambda: told.exists() and "of the budget of 1 is spent" in told.read_text())
            home.config.write_text(settings.replace("budget = 1.0", "budget = 1000.0"))
            wait_state(client, two, "finished")


def test_a_daemon_that_begins_knows_what_is_spent(tmp_path: Path) -> None:
    with a_home(tmp_path / "home") as home:
        home.config.write_text("price_per_hour = 3600.0\nbudget = 0.5\n")
        with connect(home) as client:
            one = submit(client, steps=8, step_s=0.1)
            wait_state(client, one, "finished")
        service.stop(home)
        with connect(home) as client:
            two = submit(client, steps=3)
            until("a reason", lambda: row(client, two)["waiting_for"])
            assert row(client, two)["waiting_for"].startswith("the budget of 0.5 is spent (")


def test_notices_of_a_budget() -> None:
    budget = Budget(1.0, 100.0)
    assert [notice.message for notice in budget.notices(10.0, 85.0)] == [
        "85.00 of the budget of 100 is spent"
    ]
    assert len(list(budget.notices(70.0, 101.0))) == 2
    assert list(budget.notices(85.0, 99.0)) == []
    assert list(Budget(1.0).notices(0.0, 1e9)) == []
    assert budget.refusal(99.9) is None
    assert budget.refusal(100.0) == "the budget of 100 is spent (100.00); raise budget in config.toml"
    assert (budget.price_of("gpu0,gpu1"), budget.price_of("cpu"), Budget().price_of("cpu")) == (
        2.0,
        1.0,
        None,
    )
