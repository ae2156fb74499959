"""The app under the fingers: what keys do, over a real store."""

from __future__ import annotations

import json
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any, get_args

import pytest
from made_home import Served
from pilot import ready, status, text_of, type_text, until
from textual.widgets import TextArea

from engine.runs.lifecycle import Action, refused
from finetui.errors import StoreError
from store.states import RunState
from tui import run_filter
from tui.actions import ACTIONS
from tui.app import FinetuiApp
from tui.bindings import BINDINGS, PANES_ON, SCREENS, Context, bindings_of, find
from tui.cli.keys import keys_markdown
from tui.lines.theme import Glyphs
from tui.rows import Run, Snapshot, ended_between, runs_of
from tui.screens.compare import CompareScreen
from tui.screens.dashboard import Dashboard
from tui.screens.dashboard_panes import PANES
from tui.screens.data import DataScreen
from tui.screens.examples import ExamplesScreen
from tui.screens.fix import FixScreen
from tui.screens.help import HelpScreen
from tui.screens.new_run import NewRunScreen
from tui.screens.queries import QueriesScreen
from tui.screens.reader import ReaderScreen
from tui.screens.run import SECTIONS, RunScreen
from tui.screens.scale import ScaleScreen
from tui.screens.sql import SqlScreen
from tui.widgets.prompt import Prompt

MakeApp = Callable[..., FinetuiApp]
SMALL, LARGE = (80, 24), (200, 50)


def cursor(app: FinetuiApp) -> int | None:
    return app.state.run_list.cursor


# ---- the table of keys -------------------------------------------------------------------------------


def test_every_binding_can_be_done() -> None:
    rooms = {
        "dashboard": Dashboard,
        "run": RunScreen,
        "compare": CompareScreen,
        "new": NewRunScreen,
        "data": DataScreen,
        "examples": ExamplesScreen,
        "fix": FixScreen,
        "scale": ScaleScreen,
        "sql": SqlScreen,
        "queries": QueriesScreen,
        "reader": ReaderScreen,
        "help": HelpScreen,
        "line": Prompt,
    }
    for binding in BINDINGS:
        method = f"do_{binding.action.partition('(')[0]}"
        for room in binding.screens:
            if room not in ("all", "question", "editor"):
                assert hasattr(rooms[room], method) or binding.action in ACTIONS, (binding.action, room)


@pytest.mark.parametrize("room", [room for room in SCREENS if room != "all"])
def test_no_key_means_two_things_on_one_screen(room: str) -> None:
    keys = [key for binding in bindings_of(room) for key in binding.keys]
    assert len(keys) == len(set(keys))


def test_the_documentation_of_keys_has_them_all() -> None:
    text = keys_markdown()
    for binding in BINDINGS:
        assert binding.help in text


@pytest.mark.parametrize("state", RunState)
def test_keys_work_when_the_daemon_would_do_what_they_ask(state: RunState) -> None:
    context = Context(run=Run(7, "x", state))
    for binding in BINDINGS:
        asked = {"earlier": "priority", "later": "priority", "front": "move"}
        action = asked.get(binding.action, binding.action)
        if action in get_args(Action):
            assert binding.unless(context) == refused(action, 7, state)  # type: ignore[arg-type]
            assert binding.unless(replace(context, connected=False)) is not None
            assert binding.unless(Context()) is not None


def test_keys_that_need_a_recipe_of_ours_say_so_of_a_logged_run() -> None:
    context = Context(run=Run(7, "x", RunState.RUNNING, flags=1, logged=True))
    refusing = {
        binding.action
        for binding in BINDINGS
        if "dashboard" in binding.screens and "is logged by its own program" in str(binding.unless(context))
    }
    assert refusing == {
        "pause", "resume", "requeue", "earlier", "later", "front", "hold", "start_now", "edit", "clone", "fix", "data",
    }  # fmt: skip
    assert "cancel" not in refusing
    ended = find("cancel", "dashboard")
    assert ended
    assert ended.unless(Context(run=Run(7, "x", RunState.FAILED, logged=True))) == (
        "run #7 is failed; there is nothing to cancel"
    )


def test_an_interrupted_run_waits_and_can_be_paused_and_moved() -> None:
    context = Context(run=Run(7, "x", RunState.INTERRUPTED))
    for action in ("pause", "earlier", "later", "cancel", "front", "hold", "start_now"):
        found = find(action, "dashboard")
        assert found is not None
        assert found.unless(context) is None


def test_number_keys_are_those_of_the_panes_that_there_are() -> None:
    panes = {"dashboard": PANES, "run": SECTIONS, "compare": CompareScreen.panes, "new": NewRunScreen.panes,
             "data": DataScreen.panes, "examples": ExamplesScreen.panes}  # fmt: skip
    assert {room: len(names) for room, names in panes.items()} == PANES_ON
    for room, names in panes.items():
        numbers = [one.action for one in bindings_of(room) if one.action.startswith("pane(")]
        assert numbers == [f"pane({number})" for number in range(1, len(names) + 1)]


async def test_a_key_pressed_before_the_runs_are_there_is_answered(served: Served) -> None:
    go = threading.Event()

    def connect() -> Any:
        go.wait(60)
        return served.connect()

    app = FinetuiApp(served.home, connect=connect, unicode=True)
    async with app.run_test(size=SMALL) as pilot:
        try:
            for key in ("j", "G", "pagedown", "space", "M", "x", "enter"):
                await pilot.press(key)
                assert status(app) == "the runs are still being loaded", key
                app.say("")
            await pilot.press("k")
        finally:
            go.set()
        await ready(pilot)
        assert status(app) == "", "it is so no longer"


# ---- what the terminal is told ---


def test_runs_that_have_ended_are_told_from_others() -> None:
    was, now = ("running", "running", "queued", "failed"), ("finished", "running", "cancelled", "failed")
    going, later = (
        [Run(number, f"r{number}", state) for number, state in enumerate(states)] for states in (was, now)
    )
    before, after = Snapshot(tuple(going)), Snapshot(tuple(later))
    assert [run.number for run in ended_between(before, after)] == [0]
    assert ended_between(after, after) == []
    assert ended_between(Snapshot(), after) == [], "what was so before the screen came is not news"


async def test_the_terminal_is_told_in_words_that_it_can_show(
    make_app: MakeApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    app = make_app()
    async with app.run_test(size=SMALL) as pilot:
        await ready(pilot)
        written: list[str] = []
        monkeypatch.setattr(app._driver, "write", written.append)
        app.notify_terminal("#3 mine\x1b]2;x\x07 finished")
        assert written[-1] == "\x1b]9;finetui: #3 mine ]2;x  finished\x07"
        monkeypatch.setenv("NO_BELL", "1")
        app.notify_terminal("again")
        assert len(written) == 1


# ---- dashboard ---------------------------------------------------------------------------------------


async def test_the_cursor_starts_on_the_running_run_and_moves(make_app: MakeApp) -> None:
    app = make_app()
    async with app.run_test(size=SMALL) as pilot:
        await ready(pilot)
        assert cursor(app) == 3
        for key, number in (
            ("j", 2),
            ("down", 1),
            ("j", 1),
            ("k", 2),
            ("g", 5),
            ("up", 5),
            ("G", 1),
            ("ctrl+u", 3),
        ):
            await pilot.press(key)
            assert cursor(app) == number, key


async def test_the_run_that_was_asked_for_is_selected_and_marked(make_app: MakeApp) -> None:
    app = make_app([2, 1])
    async with app.run_test(size=LARGE) as pilot:
        await ready(pilot)
        assert cursor(app) == 2
        assert app.state.marked == [2, 1]
        assert "#2" in text_of(app, "#pane0").splitlines()[0]
        assert "#1" in text_of(app, "#pane0").splitlines()[0]


async def test_why_a_run_waits_is_said(make_app: MakeApp) -> None:
    app = make_app([4])
    async with app.run_test(size=SMALL) as pilot:
        await ready(pilot)
        assert "#4 waits: run #3 is running; 1 at a time" in text_of(app, "#table")


@pytest.mark.parametrize(
    ("text", "numbers"),
    [
        ("", {1, 2, 3, 4, 5}),
        ("lora", {2, 3, 4, 5}),
        ("state:run", {3}),
        ("state=run", set()),
        ("method=lora", {2, 4, 5}),
        ("method!=lora", {1, 3}),
        ("method=lora state:queued", {4}),
        ("heldout<1.3", {2}),
        ("lr>1e-4", {2, 3, 4, 5}),
        ("r=64", {4}),
        ("flags>0", {1}),
        ("#3", {3}),
        ("heldout<", {1, 2, 3, 4, 5}),
        ("heldout<x", set()),
        ("nothing-of-that-kind", set()),
    ],
)
async def test_what_passes_a_filter(served: Served, text: str, numbers: set[int]) -> None:
    with served.connect() as client:
        runs = runs_of(client.named("runs"))
    params = {"lr": {1: "2e-05", 2: "0.0002", 3: "0.0002", 4: "0.0002", 5: "0.0002"}, "r": {2: "16", 4: "64"}}
    assert {run.number for run in run_filter.arrange(runs, text, "#", True, params)} == numbers


async def test_what_there_is_nowhere_is_named_and_terms_are_completed(make_app: MakeApp) -> None:
    app = make_app()
    async with app.run_test(size=LARGE) as pilot:
        await ready(pilot)
        await pilot.press("slash")
        await until(pilot, lambda: app.focused is not None, "the prompt")
        await type_text(pilot, "sta")
        await until(pilot, lambda: app.focused._suggestion == "state:", "a completion")
        await pilot.press("tab")
        await type_text(pilot, "can")
        await until(pilot, lambda: app.focused._suggestion == "state:cancelled", "a state")
        await pilot.press("tab")
        assert app.focused.value == "state:cancelled"
        await type_text(pilot, "x")
        await until(
            pilot, lambda: "no state is cancelledx: queued, " in text_of(app, "#header"), "the sentence"
        )
        await pilot.press("escape")
        await until(pilot, lambda: app.focused is None, "the table")
        await pilot.press("slash")
        await until(pilot, lambda: app.focused is not None, "the prompt")
        await type_text(pilot, "lrr>1")
        await until(pilot, lambda: "no run has a key lrr" in text_of(app, "#header"), "the sentence")


@pytest.mark.parametrize(
    ("term", "why"),
    [("state:gone", "no state is gone: queued, starting, running, paused, interrupted, finished, failed, cancelled"),
     ("step>many", "step> needs a number (got many)")],
)  # fmt: skip
async def test_why_a_filter_finds_no_run_is_whole_on_a_narrow_screen(
    make_app: MakeApp, term: str, why: str
) -> None:
    app = make_app()
    async with app.run_test(size=SMALL) as pilot:
        await ready(pilot)
        await pilot.press("slash")
        await until(pilot, lambda: app.focused is not None, "the prompt")
        await type_text(pilot, term)
        await until(
            pilot, lambda: f"({why}): esc shows all" in " ".join(text_of(app, "#table").split()), "why"
        )


@pytest.mark.parametrize(
    ("text", "completed"),
    [
        ("", None),
        ("lora me", "lora method:"),
        ("method=q", "method=qlora"),
        ("tag:ni", "tag:night"),
        ("state:running", None),
        ("lr>1", None),
    ],
)
def test_a_filter_is_completed(text: str, completed: str | None) -> None:
    runs = [Run(1, "a", "queued", method="qlora", tags="night big"), Run(2, "b", "queued", method="lora")]
    assert run_filter.complete(text, runs) == completed


async def test_the_filter_works_while_it_is_typed(make_app: MakeApp) -> None:
    app = make_app()
    async with app.run_test(size=SMALL) as pilot:
        await ready(pilot)
        screen = app.screen
        assert isinstance(screen, Dashboard)
        await pilot.press("slash")
        await until(pilot, lambda: app.focused is not None, "the prompt")
        await type_text(pilot, "qlora")
        await until(pilot, lambda: {run.number for run in screen.runs()} == {3}, "one run")
        await pilot.press("enter")
        await until(pilot, lambda: app.focused is None, "the table")
        assert "filter: qlora" in text_of(app, "#header")
        await pilot.press("escape")
        assert len(screen.runs()) == 5
        await pilot.press("slash")
        await until(pilot, lambda: app.focused is not None, "the prompt")
        await type_text(pilot, "r=64")  # a key of the recipe: asked of the daemon
        await until(pilot, lambda: {run.number for run in screen.runs()} == {4}, "one run")
        await type_text(pilot, "xyz")
        await until(pilot, lambda: "No run matches" in text_of(app, "#table"), "the empty table")
        await pilot.press("escape")
        await until(pilot, lambda: len(screen.runs()) == 5, "all runs")


async def test_sort_goes_through_the_columns(make_app: MakeApp) -> None:
    app = make_app()
    async with app.run_test(size=SMALL) as pilot:
        await ready(pilot)
        screen = app.screen
        assert isinstance(screen, Dashboard)
        assert [run.number for run in screen.runs()] == [5, 4, 3, 2, 1]
        await pilot.press("s")
        assert [run.name for run in screen.runs()] == sorted(run.name for run in app.state.snapshot.runs)
        await pilot.press("s", "s", "s", "s")
        assert app.state.run_list.sort == "held-out"
        assert [run.number for run in screen.runs()][:3] == [2, 3, 1]
        await pilot.press("S")
        assert [run.number for run in screen.runs()][:3] == [1, 3, 2]
        assert {run.number for run in screen.runs()[3:]} == {4, 5}, "runs without a value stay last"


async def test_cancel_asks_and_reaches_the_daemon(make_app: MakeApp, served: Served) -> None:
    app = make_app()
    async with app.run_test(size=SMALL) as pilot:
        await ready(pilot)
        await pilot.press("x")
        assert "Cancel run #3" in status(app)
        await pilot.press("n")
        assert served.actions.asked == []
        await pilot.press("x", "y")
        await until(pilot, lambda: bool(served.actions.asked), "the action")
        assert served.actions.asked == [("cancel", {"run": 3})]
        await until(pilot, lambda: "is being cancelled" in status(app), "the answer")


async def test_a_run_that_waits_is_held_moved_and_started(make_app: MakeApp, served: Served) -> None:
    app = make_app([4])
    async with app.run_test(size=SMALL) as pilot:
        await ready(pilot)
        assert cursor(app) == 4
        for key, action, said in (
            ("h", "hold", "is held"),
            ("F", "move", "has another place in the queue"),
            ("N", "start_now", "starts as soon as there is a device for it"),
        ):
            served.actions.asked.clear()
            await pilot.press(key, *("y" if key == "N" else ""))
            await until(pilot, lambda: bool(served.actions.asked), action)
            assert served.actions.asked == [(action, {"run": 4})]
            await until(pilot, lambda said=said: f"run #4 {said}" in status(app), "the answer")


async def test_removing_a_run_asks_and_says_what_it_frees(make_app: MakeApp, served: Served) -> None:
    app = make_app([1])
    async with app.run_test(size=SMALL) as pilot:
        await ready(pilot)
        await pilot.press("D")
        assert "Remove run #1 docstrings-full (" in status(app)
        assert "iB)?" in status(app)
        await pilot.press("y")
        await until(pilot, lambda: bool(served.actions.asked), "the action")
        assert served.actions.asked == [("remove", {"run": 1})]
        await pilot.press("k")


async def test_a_question_that_is_covered_is_forgotten(make_app: MakeApp, served: Served) -> None:
    app = make_app()
    async with app.run_test(size=SMALL) as pilot:
        await ready(pilot)
        await pilot.press("x")
        assert "Cancel run #3" in status(app)
        app.say("saved mine-fix.yaml")  # what was begun before is done
        await pilot.press("y")
        await pilot.pause()
        assert served.actions.asked == []


async def test_every_metric_is_reached_on_a_small_screen(make_app: MakeApp) -> None:
    app = make_app()
    async with app.run_test(size=SMALL) as pilot:
        await ready(pilot)
        seen = set()
        for _ in range(4):
            await pilot.press("m")
            await pilot.pause(0.2)
            seen.add(app.state.view.metric)
        assert len(seen) > 2, seen


async def test_other_orders_reach_the_daemon(make_app: MakeApp, served: Served) -> None:
    app = make_app()
    async with app.run_test(size=SMALL) as pilot:
        await ready(pilot)
        await pilot.press("p")
        await until(pilot, lambda: len(served.actions.asked) == 1)
        await pilot.press("k", "K")
        await until(pilot, lambda: len(served.actions.asked) == 2)
        await pilot.press("k", "R")
        await until(pilot, lambda: len(served.actions.asked) == 3)
        assert served.actions.asked == [
            ("pause", {"run": 3}), ("priority", {"run": 4, "priority": 1}), ("requeue", {"run": 5}),
        ]  # fmt: skip


@pytest.mark.parametrize(
    ("run", "key", "said"),
    [
        (1, "x", "run #1 is finished; there is nothing to cancel; requeue runs its recipe again"),
        (3, "r", "run #3 is running; there is nothing to resume"),
        (1, "r", "run #1 is finished; use requeue to run its recipe again"),
        (1, "p", "run #1 is finished; there is nothing to pause; requeue runs its recipe again"),
        (4, "R", "run #4 is queued: only the recipe of an ended run can be queued again"),
        (3, "K", "run #3 is running; only a run that waits has a place in the queue"),
        (4, "r", "run #4 is already queued; a higher priority moves it up"),
        (3, "c", "mark two or more runs with space, then compare them"),
        (3, "f9", "f9 is no key of this screen: ? shows those that are"),
    ],
)
async def test_a_key_at_the_wrong_time_says_why(
    make_app: MakeApp, served: Served, run: int, key: str, said: str
) -> None:
    app = make_app([run])
    async with app.run_test(size=SMALL) as pilot:
        await ready(pilot)
        await pilot.press(key)
        assert status(app) == said
        assert said in text_of(app, "#footer")
        assert served.actions.asked == []


async def test_a_read_only_screen_orders_nothing(make_app: MakeApp, served: Served) -> None:
    app = make_app([3])
    app.readonly = True
    async with app.run_test(size=SMALL) as pilot:
        await ready(pilot)
        for binding in bindings_of("dashboard"):
            if binding.writes:
                await pilot.press(binding.keys[0])
                assert status(app).startswith("this screen is read-only"), binding.action
        assert served.actions.asked == []
        await pilot.press("space")
        assert app.state.marked == []


async def test_the_shell_gets_the_terminal_for_a_while(
    make_app: MakeApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    app, asked = make_app([3]), []
    monkeypatch.setattr(app, "action_suspend_process", lambda: asked.append("suspend"))
    async with app.run_test(size=SMALL) as pilot:
        await ready(pilot)
        await pilot.press("ctrl+z")
        assert asked == ["suspend"]


def test_every_key_that_reaches_the_daemon_is_marked_as_one_that_writes() -> None:
    for binding in BINDINGS:
        asked = {"earlier": "priority", "later": "priority", "front": "move"}
        if asked.get(binding.action, binding.action) in (*get_args(Action), "tag", "note", "clone"):
            assert binding.writes, binding.action


async def test_what_the_daemon_refuses_is_shown(make_app: MakeApp, served: Served) -> None:
    def refuse(name: str, body: dict[str, object]) -> dict[str, object]:
        raise StoreError("run #3 is saving: try again in a moment", "state")

    served.actions.answer = refuse
    app = make_app()
    async with app.run_test(size=SMALL) as pilot:
        await ready(pilot)
        await pilot.press("p")
        await until(pilot, lambda: "saving: try again" in status(app), "the reason")


async def test_panes_on_a_small_terminal(make_app: MakeApp) -> None:
    app = make_app([1])
    async with app.run_test(size=SMALL) as pilot:
        await ready(pilot)
        assert "#1" in text_of(app, "#pane0")
        await pilot.press("4")
        await ready(pilot)
        assert "NVIDIA H100" in text_of(app, "#pane3")
        await pilot.press("tab")
        await ready(pilot)
        flags = text_of(app, "#pane4")
        for said in (
            "⚑ forgetting critical  since step 280 · general, slice prose",
            "effect    +0.110 nats per token (95% interval +0.060 to +0.160)",
            "seen on   40 examples, at look 5",
            "tokens    31 lost (right under the base, wrong now), 12 gained",
            "forecast  +0.200 at step 400 (80% interval +0.150 to +0.250)",
            "→ Use the checkpoint before step 320. [prechelt1998]",
            "worst     1.50 → 3.50  def f1():",
            "… the rest: enter, then 4",
        ):
            assert said in flags
        await pilot.press("6")
        await ready(pilot)
        assert "step 400: training" in text_of(app, "#pane5")
        assert not app.screen.query_one("#pane0").display


async def test_the_base_model_stands_beside_the_result(make_app: MakeApp) -> None:
    app = make_app([1])
    async with app.run_test(size=SMALL) as pilot:
        await ready(pilot)
        await pilot.press("enter", "2")
        await ready(pilot)
        shown = text_of(app, "#section").splitlines()
        assert shown[0].strip() == "the base model beside step 400: held-out loss, paired by example"
        assert [line.split()[0] for line in shown[2:4]] == ["zero-shot", "few-shot"]
        assert "few-shot (4 examples)" in shown[3]
        assert shown[2].endswith("  40")


async def test_chart_keys(make_app: MakeApp) -> None:
    app = make_app([1])
    async with app.run_test(size=LARGE) as pilot:
        await ready(pilot)
        await pilot.press("y")
        assert app.state.view.log
        await pilot.press("plus", "left_square_bracket", "e", "u")
        view = app.state.view
        assert (view.zoom, view.end, view.smooth, view.glyphs) == (1, 0.75, 2, Glyphs.BLOCK)
        await pilot.press("m")
        await ready(pilot)
        assert app.state.view.metric == "train/lr"
        await pilot.press("0")
        assert (app.state.view.log, app.state.view.zoom) == (False, 0)


async def test_quit(make_app: MakeApp) -> None:
    app = make_app()
    async with app.run_test(size=SMALL) as pilot:
        await ready(pilot)
        await pilot.press("q")
        await pilot.pause()
        assert not app.is_running


async def test_escape_on_the_first_screen_does_not_leave(make_app: MakeApp) -> None:
    app = make_app()
    async with app.run_test(size=SMALL) as pilot:
        await ready(pilot)
        await pilot.press("escape", "ctrl+c")
        assert app.is_running
        assert "press q to leave" in status(app)


# ---- other screens -----------------------------------------------------------------------------------


async def test_open_a_run_and_look_at_everything(make_app: MakeApp) -> None:
    app = make_app([1])
    async with app.run_test(size=SMALL) as pilot:
        await ready(pilot)
        await pilot.press("enter")
        await ready(pilot)
        assert isinstance(app.screen, RunScreen)
        assert "heldout/loss" in text_of(app, "#keys")
        for key, expected in (
            ("2", "1.361"), ("3", "def area(r):"), ("4", "overfitting"), ("5", "no longer there"),
            ("6", "bundled:docstrings"), ("7", "step 400: training"),
        ):  # fmt: skip
            await pilot.press(key)
            await ready(pilot)
            if key == "2":
                await pilot.press("G")
                await pilot.press("k")
            assert expected in text_of(app, "#section") or key == "2"
        await pilot.press("z")
        assert status(app) == "the section log has the whole screen already; enter reads it whole"
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, ReaderScreen), "the log whole")
        assert "step 400: training" in text_of(app, "#text")
        await pilot.press("escape", "1", "z")
        await ready(pilot)
        assert not app.screen.query_one("#keys").display
        await pilot.press("z", "enter")
        await until(pilot, lambda: isinstance(app.screen, ReaderScreen), "the curves whole")
        assert "general/token_accuracy" in text_of(app, "#text")
        await pilot.press("escape")
        await ready(pilot)
        await pilot.press("g", "j")
        await ready(pilot)
        assert app.screen.key == "general/token_accuracy"
        await pilot.press("escape")
        assert isinstance(app.screen, Dashboard)


async def test_the_log_starts_at_its_end_and_scrolls(make_app: MakeApp) -> None:
    app = make_app([1])
    async with app.run_test(size=(80, 16)) as pilot:
        await ready(pilot)
        await pilot.press("enter", "7")
        await ready(pilot)
        assert text_of(app, "#section").splitlines()[-1].strip() == "step 400: training"
        await pilot.press("g")
        assert text_of(app, "#section").splitlines()[0].strip() == "step 0: training"
        await pilot.press("G")
        assert text_of(app, "#section").splitlines()[-1].strip() == "step 400: training"


async def test_mark_and_compare(make_app: MakeApp) -> None:
    app = make_app()
    async with app.run_test(size=LARGE) as pilot:
        await ready(pilot)
        await pilot.press("G", "space", "k", "space", "c")
        await ready(pilot)
        assert isinstance(app.screen, CompareScreen)
        assert app.screen.numbers == (1, 2)
        metrics = text_of(app, "#pane1")
        held_out = next(line for line in metrics.splitlines() if line.startswith("held-out loss"))
        assert "1.595" in held_out
        assert "1.215" in held_out
        assert "−0.381 [−0.39" in held_out
        recipes = text_of(app, "#pane2").splitlines()
        assert [line.split()[0] for line in recipes[1:] if line] == [
            "method.alpha", "method.name", "method.r", "train.lr",
        ]  # fmt: skip
        legend = text_of(app, "#pane0").splitlines()[0]
        assert "#1 1.595" in legend
        assert "#2 1.215" in legend


async def test_help_is_searchable_and_does_what_it_says(make_app: MakeApp) -> None:
    app = make_app()
    async with app.run_test(size=SMALL) as pilot:
        await ready(pilot)
        await pilot.press("question_mark")
        await until(pilot, lambda: isinstance(app.screen, HelpScreen) and app.focused is not None, "help")
        assert "Open the run under the cursor." in text_of(app, "#list")
        await type_text(pilot, "logarithmic")
        await pilot.pause()
        assert len(text_of(app, "#list").split("\n")[0].split()) > 3
        await pilot.press("enter")
        await until(pilot, lambda: app.state.view.log, "the log scale")
        assert isinstance(app.screen, Dashboard)


async def test_the_help_of_each_key_can_be_read_whole(make_app: MakeApp) -> None:
    app = make_app()
    async with app.run_test(size=SMALL) as pilot:
        await ready(pilot)
        await pilot.press("question_mark")
        await until(pilot, lambda: isinstance(app.screen, HelpScreen))
        for binding in bindings_of("dashboard"):
            if binding.action.startswith("pane("):
                continue
            shown = " ".join(text_of(app, "#list").split())
            at = shown.index("▌")
            assert all(word in shown[at:] for word in binding.help.split()), binding.help
            assert binding.help.split()[-1] in shown[at : at + 2 * len(binding.help) + 60]
            await pilot.press("down")


async def test_the_palette_does_what_it_says(make_app: MakeApp) -> None:
    app = make_app()
    async with app.run_test(size=SMALL) as pilot:
        await ready(pilot)
        await pilot.press("ctrl+p")
        await pilot.pause(0.2)
        await type_text(pilot, "braille")
        await pilot.pause(0.5)
        await pilot.press("enter")
        await until(pilot, lambda: app.state.view.glyphs is Glyphs.BLOCK, "blocks")


# ---- SQL ---------------------------------------------------------------------------------------------


async def open_sql(pilot: object, app: FinetuiApp, query: str) -> SqlScreen:
    await ready(pilot)
    await pilot.press("colon")  # type: ignore[attr-defined]
    await until(pilot, lambda: isinstance(app.screen, SqlScreen), "the screen")
    screen = app.screen
    assert isinstance(screen, SqlScreen)
    screen.query_one(TextArea).load_text(query)
    return screen


async def test_good_sql(make_app: MakeApp, served: Served) -> None:
    app = make_app()
    async with app.run_test(size=SMALL) as pilot:
        screen = await open_sql(pilot, app, "SELECT run, name FROM runs ORDER BY run")
        await pilot.press("enter")
        await until(pilot, lambda: screen.results.shown is not None, "the result")
        lines = text_of(app, "#results").splitlines()
        assert lines[0].split() == ["run", "name"]
        assert lines[1].split() == ["1", "1", "docstrings-full"]
        assert "5 rows in" in text_of(app, "#outcome")
        await until(pilot, lambda: bool(app.remembered.queries()), "the history")
    kept = json.loads((served.home.path / "screen.json").read_text())
    assert kept["queries"] == ["SELECT run, name FROM runs ORDER BY run"]


@pytest.mark.parametrize(
    ("query", "said"),
    [
        ("SELECT nme FROM runs", "did you mean"),
        ("SELEC 1", "syntax error"),
        ("DROP TABLE runs", "not allowed here"),
        ("SELECT 1; SELECT 2", "one statement at a time"),
        ("   ", "there is no query to run"),
    ],
)
async def test_bad_sql_is_answered_in_one_sentence(make_app: MakeApp, query: str, said: str) -> None:
    app = make_app()
    async with app.run_test(size=(160, 40)) as pilot:
        await open_sql(pilot, app, query)
        await pilot.press("f5")
        await until(pilot, lambda: said in text_of(app, "#outcome"), said)
        assert "Traceback" not in text_of(app, "#outcome")


async def test_a_hundred_thousand_rows(make_app: MakeApp) -> None:
    app = make_app()
    async with app.run_test(size=SMALL) as pilot:
        screen = await open_sql(pilot, app, "SELECT i, i * i AS square FROM range(200000) t(i)")
        await pilot.press("enter")
        await until(pilot, lambda: screen.results.shown is not None, "the result")
        assert screen.results.shown is not None
        assert screen.results.shown.rows == 100_000
        assert "only the first 100,000 of 200,000 rows" in text_of(app, "#outcome")
        await pilot.press("tab", "G")
        assert text_of(app, "#results").splitlines()[-1].split() == ["▌100000", "99999", "9999800001"]


async def test_a_query_can_be_stopped(make_app: MakeApp) -> None:
    app = make_app()
    async with app.run_test(size=SMALL) as pilot:
        screen = await open_sql(
            pilot,
            app,
            "SELECT count(*) FROM range(100000000) a, range(100000) b WHERE a.range % 7 = b.range % 5",
        )
        await pilot.press("enter")
        await until(pilot, lambda: screen.running is not None, "the query")
        await pilot.pause(0.5)
        await pilot.press("escape")
        await until(pilot, lambda: "cancelled" in text_of(app, "#outcome"), "the end")
        assert app.screen is screen


async def test_history_and_examples(make_app: MakeApp) -> None:
    app = make_app()
    async with app.run_test(size=SMALL) as pilot:
        screen = await open_sql(pilot, app, "SELECT 1 AS one")
        editor = screen.query_one(TextArea)
        await pilot.press("enter")
        await until(pilot, lambda: screen.results.shown is not None)
        editor.load_text("draft")
        await pilot.press("ctrl+up")
        assert editor.text == "SELECT 1 AS one"
        await pilot.press("ctrl+down")
        assert editor.text == "draft"
        await pilot.press("f2", "enter")
        assert editor.text == "FROM leaderboard"


async def test_every_example_query_runs(served: Served) -> None:
    from tui.screens.queries import EXAMPLES

    with served.connect() as client:
        for query in EXAMPLES:
            assert client.query(query).num_columns > 0, query


async def test_tables_with_their_comments(make_app: MakeApp) -> None:
    app = make_app()
    async with app.run_test(size=LARGE) as pilot:
        screen = await open_sql(pilot, app, "")
        await until(pilot, lambda: bool(screen.schema.lines), "the tables")
        text = text_of(app, "#tables")
        assert "attempts" in text
        assert "One row per process life of a run" in text
        await pilot.press("tab", "tab", "enter")
        assert screen.query_one(TextArea).text == "FROM attempts"


def test_a_key_has_one_meaning_on_a_screen() -> None:
    for screen in SCREENS:
        keys = [key for one in BINDINGS if screen in one.screens for key in one.keys]
        assert len(keys) == len(set(keys)), screen
