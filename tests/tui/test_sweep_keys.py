"""Keys on the one line of a sweep: what is done to all of its runs, and what is refused."""

from __future__ import annotations

from collections.abc import Callable
from types import SimpleNamespace
from typing import Any, cast

import pytest

from finetui.errors import StoreError
from tui import actions
from tui.bindings import Context
from tui.host import Host
from tui.rows import Run
from tui.screens.base import BaseScreen
from tui.undo import Acts


class Client:
    """A daemon that refuses what is asked of run 4."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, int, dict[str, Any]]] = []

    def action(self, name: str, run: int, **body: Any) -> dict[str, Any]:
        self.asked.append((name, run, body))
        if run == 4:
            raise StoreError("run #4 is stopping", "refused")
        return {"priority": body.get("priority"), "tags": body.get("add")}


class Screen:
    """The dashboard with the cursor on a sweep of these runs."""

    room = "dashboard"

    def __init__(self, *members: Run, marked: bool = False) -> None:
        self.runs, self.marked = members, marked

    def target(self) -> Run:
        return self.runs[0]

    def members(self) -> tuple[Run, ...]:
        return self.runs if len(self.runs) > 1 and not self.marked else ()

    def group(self) -> tuple[Run, ...]:
        return self.runs if self.marked else ()

    def context(self) -> Context:
        return Context(self.target(), self.members(), self.group())

    def ask(self, label: str, text: str, hint: str, then: Callable[[str], None]) -> None:
        then("night")


class Asked:
    """A host that answers every question with yes."""

    readonly = False

    def __init__(self) -> None:
        self.client, self.questions, self.said = Client(), list[str](), list[str]()
        self.state = SimpleNamespace(acts=Acts())

    def confirm(self, question: str, then: Callable[[], None]) -> None:
        self.questions.append(question)
        then()

    def in_thread(self, work: Callable[[Any], Any], then: Callable[[Any], None]) -> None:
        then(work(self.client))

    def say(self, text: str, style: str = "text", keep: bool = False) -> None:
        self.said.append(text)


def press(action: str, *members: Run, marked: bool = False) -> Asked:
    host = Asked()
    actions.perform(cast(Host, host), cast(BaseScreen, Screen(*members, marked=marked)), action)
    return host


SWEEP = (
    Run(2, "s lr=1", "finished", sweep="a", tags="old"),
    Run(3, "s lr=2", "running", sweep="a"),
    Run(4, "s lr=3", "queued", sweep="a"),
    Run(5, "s lr=4", "queued", sweep="a", held=True),
)


@pytest.mark.parametrize(
    ("action", "name", "runs", "question"),
    [
        ("cancel", "cancel", [3, 4, 5], "Cancel 3 of the 4 runs of this sweep?"),
        ("pause", "pause", [3, 4, 5], "Pause 3 of the 4 runs of this sweep?"),
        ("earlier", "priority", [4, 5], "Priority 1 for 2 of the 4 runs of this sweep?"),
        ("hold", "hold", [4, 5], "Hold 2 of the 4 runs of this sweep?"),
        ("remove", "remove", [2], "Remove (finetui restore brings them back) 1 of the 4 runs of this sweep?"),
        ("tag", "tag", [2, 3, 4, 5], "Change the tags of 4 of the 4 runs of this sweep?"),
    ],
)
def test_a_key_orders_all_runs_of_a_sweep_that_can_be(
    action: str, name: str, runs: list[int], question: str
) -> None:
    host = press(action, *SWEEP)
    assert host.questions == [question]
    assert [(one, run) for one, run, _ in host.client.asked] == [(name, run) for run in runs]
    refused = "; 1 refused: run #4 is stopping" if 4 in runs else ""
    undone = " (Z undoes it)" if action == "remove" else ""  # of others the daemon here says nothing
    assert host.said == [f"done for {len(runs) - (4 in runs)} of the 4 runs of this sweep{undone}{refused}"]
    if name == "tag":
        assert host.client.asked[0][2] == {"add": ["night"], "remove": ["old"]}


def test_a_sweep_of_which_all_that_waits_is_held_is_released() -> None:
    assert [one for one, *_ in press("hold", SWEEP[0], SWEEP[3]).client.asked] == ["release"]


def test_what_no_run_of_a_sweep_can_do_is_refused() -> None:
    host = press("resume", *SWEEP)
    assert host.said == ["no run of this sweep is in a state that allows it"]
    assert host.questions == []
    assert host.client.asked == []


@pytest.mark.parametrize("action", ["requeue", "front", "start_now", "edit", "note"])
def test_what_is_meant_for_one_run_asks_to_choose_it(action: str) -> None:
    host = press(action, *SWEEP)
    assert host.said == ["this line is a sweep of 4 runs: o shows them, to choose one"]
    assert host.client.asked == []


def test_a_run_alone_is_ordered_as_before() -> None:
    host = press("pause", SWEEP[1])
    assert host.client.asked == [("pause", 3, {})]
    assert host.questions == []


def test_a_key_on_one_of_several_marked_runs_means_all_of_them() -> None:
    host = press("pause", *SWEEP, marked=True)
    assert host.questions == ["Pause 3 of the 4 marked runs?"]
    assert [run for _, run, _ in host.client.asked] == [3, 4, 5]
    assert press("resume", *SWEEP, marked=True).said == ["no marked run is in a state that allows it"]


def test_a_key_for_one_run_means_the_one_under_the_cursor_marked_or_not() -> None:
    """Its own state decides, not that of the others."""
    assert press("requeue", *SWEEP, marked=True).client.asked == [("requeue", 2, {})]
    assert press("front", *SWEEP, marked=True).said == [
        "run #2 is finished; only a run that waits has a place in the queue"
    ]
