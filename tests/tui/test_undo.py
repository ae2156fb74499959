"""Z takes back what keys did: for one run or several, step by step, and says so."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from live import Live
from made_home import Served
from pilot import ready, status, type_text, until

from finetui.errors import StoreError
from store.states import RunState
from tui.app import FinetuiApp
from tui.undo import Act, Acts, Step, step_of, take_back

MakeApp = Callable[..., FinetuiApp]
BEFORE = {"state": "queued", "priority": 0, "held": False, "tags": ["old"], "note": "", "group": None}


class Daemon:
    """A daemon that refuses what is asked of run 7."""

    def __init__(self) -> None:
        self.asked: list[tuple[str, int]] = []

    def action(self, name: str, run: int, **body: Any) -> dict[str, Any]:
        self.asked.append((name, run))
        if run == 7:
            raise StoreError("run #7 is running; only a run that waits has a place in the queue", "queue")
        return {"state": "queued"}


def test_what_came_of_each_run_is_said() -> None:
    steps = [step for run in (4, 5, 6, 7, 9) if (step := step_of("cancel", run, {"before": BEFORE}))]
    daemon = Daemon()
    said = take_back(daemon, Act("cancel of 5 runs", steps))
    assert daemon.asked == [("put_back", run) for run in (9, 7, 6, 5, 4)], "the last one first"
    assert said == (
        "#4–#6 #9 queued again, in its place; "
        "#7 not undone: run #7 is running; only a run that waits has a place in the queue"
    )


def test_each_order_has_what_takes_it_back_in_words() -> None:
    words = {
        action: step.done
        for action in ("priority", "move", "hold", "tag", "note", "group")
        if (step := step_of(action, 4, {"before": BEFORE}))
    }
    assert words == {
        "priority": "of priority 0 again",
        "move": "at its former place",
        "hold": "waiting as before",
        "tag": "tagged old again",
        "note": "without a note again",
        "group": "in no group again",
    }
    assert step_of("remove", 4, {"path": "x"}) == Step(4, "restore", {}, "back")
    assert step_of("requeue", 4, {"run": 9}) == Step(9, "cancel", {}, "cancelled, which was made")
    assert step_of("name", 4, {"name": "new", "before": "old"}) == Step(
        4, "name", {"name": "old"}, "named old again"
    )
    assert step_of("start_now", 4, {"before": BEFORE}) is None


def test_the_latest_act_comes_first_and_old_ones_are_forgotten() -> None:
    acts = Acts()
    assert not acts.keep(Act("nothing"))
    for number in range(60):
        acts.keep(Act(f"{number}", [Step(number, "restore", {}, "back")]))
    taken = []
    while act := acts.last():
        taken.append(act.what)
    assert taken == [f"{number}" for number in range(59, 9, -1)]


async def test_the_key_undoes_step_by_step(make_app: MakeApp, served: Served) -> None:
    served.actions.answer = lambda name, body: (
        {"before": BEFORE} if name != "put_back" else {"state": "queued"}
    )
    app = make_app()
    async with app.run_test(size=(120, 30)) as pilot:
        await ready(pilot)
        await pilot.press("Z")
        assert status(app) == "there is nothing to undo"
        await pilot.press("k", "h")
        await until(pilot, lambda: status(app) == "run #4 is held (Z undoes it)", "the notice")
        await pilot.press("space", "Z")
        assert status(app) == "undone, marks: no runs are marked, as before"
        await pilot.press("k", "M", "U", "N", "y")
        await until(pilot, lambda: "starts as soon as" in status(app), "the start")
        await pilot.press("Z")
        assert status(app) == "the start now of #4 cannot be undone: p pauses it, x cancels it"
        await pilot.press("Z")
        assert status(app) == "undone, marks: 5 runs are marked, as before"
        await pilot.press("Z")
        assert status(app) == "undone, marks: no runs are marked, as before"
        served.actions.asked.clear()
        await pilot.press("Z")
        await until(pilot, lambda: status(app) == "undone, hold of #4: #4 waiting as before", "the end")
        assert served.actions.asked == [("put_back", {"run": 4, "order": "hold", "before": BEFORE})]
        await pilot.press("Z")
        assert status(app) == "there is nothing to undo"


async def test_a_real_daemon_takes_back_what_was_done_on_the_screen(live: Live) -> None:
    going, waiting, ended = live.going(), live.queued_and_held(), live.cancelled()
    recipe = json.loads(next(live.home.runs.glob(f"{waiting:06}-*/run.json")).read_text())["recipe"]
    app = FinetuiApp(live.home, [waiting], connect=lambda: live.client, unicode=True)

    def state(run: int) -> str:
        found = app.state.snapshot.run(run)
        return found.state if found else "gone"

    def name(run: int) -> str | None:
        found = app.state.snapshot.run(run)
        return found.name if found else "gone"

    async def typed(key: str, text: str) -> None:
        await pilot.press(key)
        await until(pilot, lambda: app.focused is not None, "the prompt")
        await pilot.press("ctrl+u")
        await type_text(pilot, text)
        await pilot.press("enter")
        await until(pilot, lambda: "Z undoes it" in status(app), f"what {key} did")

    async with app.run_test(size=(120, 30)) as pilot:
        await ready(pilot)
        app.state.marked.clear()
        await until(pilot, lambda: app.state.run_list.cursor == waiting, "the run, queued a moment ago")
        await typed("T", "other")
        await until(pilot, lambda: name(waiting) == "other", "the name")
        await typed("n", "worth it")
        await typed("E", "train.lr=3e-4")
        await pilot.press("x", "y")
        await until(pilot, lambda: state(waiting) == RunState.CANCELLED, "the cancel")
        app.state.run_list.go_to(ended)
        await pilot.press("D", "y")
        await until(pilot, lambda: state(ended) == "gone", "the removal")
        for said in (
            f"undone, remove of #{ended}: #{ended} back",
            f"undone, cancel of #{waiting}: #{waiting} queued again",
            f"undone, edit of #{waiting}: #{waiting} with its former recipe",
            f"undone, note of #{waiting}: #{waiting} without a note again",
            f"undone, name of #{waiting}: #{waiting} named my again",
        ):
            await pilot.press("Z")
            await until(pilot, lambda said=said: status(app).startswith(said), said)
        await until(
            pilot, lambda: state(ended) == RunState.CANCELLED and state(waiting) == RunState.QUEUED, "both"
        )
        await until(pilot, lambda: name(waiting) == "my", "the name")
        assert app.state.snapshot.run(waiting).held  # type: ignore[union-attr]
        now = json.loads(next(live.home.runs.glob(f"{waiting:06}-*/run.json")).read_text())["recipe"]
        assert now == recipe
        app.state.run_list.go_to(going)
        await pilot.press("x", "y")
        await until(pilot, lambda: "is being cancelled" in status(app), "the notice")
        await pilot.press("Z")
        await until(pilot, lambda: status(app).startswith(f"undone, cancel of #{going}"), "the undo")
        await until(pilot, lambda: app.state.snapshot.run(going).attempt == 2, "another attempt")  # type: ignore[union-attr]
