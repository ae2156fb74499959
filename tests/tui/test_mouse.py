"""The app under the mouse: presses choose what they hit, the wheel scrolls what is under the pointer."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import made_home
from pilot import ready, text_of, until
from textual import events
from textual.widgets import Input, TextArea

from finetui.home import Home
from tui.app import FinetuiApp
from tui.screens.compare import CompareScreen
from tui.screens.dashboard import Dashboard
from tui.screens.data import DataScreen
from tui.screens.help import HelpScreen
from tui.screens.run import RunScreen
from tui.screens.sql import SqlScreen
from tui.widgets.panel import Panel

MakeApp = Callable[..., FinetuiApp]
SMALL, LARGE = (80, 24), (200, 50)


def place_of(app: FinetuiApp, panel: str, text: str) -> tuple[int, int]:
    """Where a text stands in a panel, from the panel's corner on."""
    widget = app.screen.query_one(panel, Panel)
    lines = widget.text().splitlines()
    row = next(at for at, line in enumerate(lines) if text in line)
    corner = widget.content_region.offset - widget.region.offset
    return corner.x + lines[row].index(text), corner.y + row


async def click(pilot: Any, panel: str, text: str) -> None:
    await pilot.click(panel, offset=place_of(pilot.app, panel, text))
    await ready(pilot)


async def turn_wheel(pilot: Any, panel: str, kind: type[events.MouseEvent]) -> None:
    await pilot._post_mouse_events([kind], panel, offset=(5, 3))
    await pilot.pause()


def shown_panes(app: FinetuiApp) -> list[int]:
    return [at for at in range(6) if app.screen.query_one(f"#pane{at}").display]


async def test_a_press_selects_a_run_and_the_wheel_moves_the_cursor(make_app: MakeApp) -> None:
    app = make_app()
    async with app.run_test(size=SMALL) as pilot:
        await ready(pilot)
        run_list = app.state.run_list
        await click(pilot, "#table", "docstrings-full")
        assert run_list.cursor == 1
        await click(pilot, "#table", "broken")
        assert run_list.cursor == 5
        await click(pilot, "#table", "held-out")
        assert run_list.cursor == 5, "the header is no run"
        await click(pilot, "#table", "#5 failed")
        assert run_list.cursor == 5, "nor is the sentence below the runs"
        await turn_wheel(pilot, "#table", events.MouseScrollDown)
        assert run_list.cursor == 2
        await turn_wheel(pilot, "#table", events.MouseScrollUp)
        assert run_list.cursor == 5


async def test_the_sentence_below_the_runs_is_no_run_that_is_out_of_view(tmp_path: Path) -> None:
    home = Home(tmp_path / "h")
    home.create()
    for number in range(1, 13):
        made_home.make_run(home, number, f"run-{number}")
    with made_home.served(home) as served:
        app = FinetuiApp(home, connect=served.connect, unicode=True)
        async with app.run_test(size=SMALL) as pilot:
            await ready(pilot)
            assert app.state.run_list.cursor == 12
            await click(pilot, "#table", "#12 queued")
            assert app.state.run_list.cursor == 12
            await click(pilot, "#table", "run-9")
            assert app.state.run_list.cursor == 9


async def test_a_press_on_a_tab_shows_its_pane(make_app: MakeApp) -> None:
    app = make_app([1])
    async with app.run_test(size=SMALL) as pilot:
        await ready(pilot)
        for name, pane in (("flags", 4), ("hardware", 3), ("2 held-out", 1)):
            await click(pilot, "#tabs", name)
            assert shown_panes(app) == [pane]
        await pilot.click("#tabs", offset=(79, 0))  # the rule behind the names
        assert shown_panes(app) == [1]
        await click(pilot, "#pane1", "#1")
        assert shown_panes(app) == [1]


async def test_a_press_on_a_pane_shows_it_alone_and_again_all(make_app: MakeApp) -> None:
    app = make_app([1])
    async with app.run_test(size=LARGE) as pilot:
        await ready(pilot)
        assert shown_panes(app) == [0, 1, 2, 3, 4, 5]
        await click(pilot, "#pane5", "step 400: training")
        assert shown_panes(app) == [5]
        cursor = app.state.run_list.cursor
        await turn_wheel(pilot, "#pane5", events.MouseScrollDown)
        assert app.state.run_list.cursor == cursor, "the wheel moves the runs only above them"
        await click(pilot, "#pane5", "step 400: training")
        assert shown_panes(app) == [0, 1, 2, 3, 4, 5]


async def test_a_press_while_the_filter_is_typed_leaves_it_the_keys(make_app: MakeApp) -> None:
    app = make_app()
    async with app.run_test(size=SMALL) as pilot:
        await ready(pilot)
        await pilot.press("slash")
        await until(pilot, lambda: isinstance(app.focused, Input), "the prompt")
        await pilot.press("l", "o")
        await click(pilot, "#table", "docstrings-qlora")
        assert app.state.run_list.cursor == 3
        await pilot.press("r", "a")
        assert app.state.run_list.filter == "lora"
        await pilot.press("escape")
        assert isinstance(app.screen, Dashboard)
        assert app.state.run_list.filter == ""


async def test_sections_and_curves_of_a_run(make_app: MakeApp) -> None:
    app = make_app([1])
    async with app.run_test(size=SMALL) as pilot:
        await ready(pilot)
        await pilot.press("enter")
        await ready(pilot)
        screen = app.screen
        assert isinstance(screen, RunScreen)
        await click(pilot, "#keys", "train/lr")
        assert screen.key == "train/lr"
        await click(pilot, "#keys", "heldout/loss")
        assert screen.key == "heldout/loss"
        await click(pilot, "#tabs", "log")
        end = text_of(app, "#section")
        assert "step 400: training" in end
        await turn_wheel(pilot, "#section", events.MouseScrollUp)
        assert text_of(app, "#section") != end
        await turn_wheel(pilot, "#section", events.MouseScrollDown)
        assert text_of(app, "#section") == end


async def test_the_wheel_scrolls_the_pane_under_it_in_a_comparison(make_app: MakeApp) -> None:
    app = make_app([1, 2])
    async with app.run_test(size=(120, 31)) as pilot:
        await ready(pilot)
        await pilot.press("c")
        await ready(pilot)
        screen = app.screen
        assert isinstance(screen, CompareScreen)
        before = text_of(app, "#pane1").splitlines()
        await turn_wheel(pilot, "#pane1", events.MouseScrollDown)
        after = text_of(app, "#pane1").splitlines()
        assert screen.scrolled[0].first == screen.scrolled[2].first == 0
        assert screen.scrolled[1].first > 0
        assert after[0] == before[0], "the names of the runs stay"
        assert after[1] == before[1 + screen.scrolled[1].first]
        await click(pilot, "#pane2", "method.name")
        assert screen.pane == 2


async def test_the_wheel_scrolls_the_pane_under_it_on_the_data_screen(make_app: MakeApp) -> None:
    app = make_app([2])
    async with app.run_test(size=(120, 31)) as pilot:
        await ready(pilot)
        await pilot.press("d")
        screen = app.screen
        assert isinstance(screen, DataScreen)
        await until(pilot, lambda: screen.report is not None, "the report")
        assert screen.pane == 0
        before = text_of(app, "#pane1").splitlines()
        await turn_wheel(pilot, "#pane1", events.MouseScrollDown)
        assert text_of(app, "#pane1").splitlines()[0] == before[3]
        assert screen.pane == 0
        await pilot.click("#pane1", offset=(5, 3))
        assert screen.pane == 1


async def test_a_press_in_the_help_chooses_and_enter_does_it(make_app: MakeApp) -> None:
    app = make_app()
    async with app.run_test(size=SMALL) as pilot:
        await ready(pilot)
        await pilot.press("question_mark")
        await until(pilot, lambda: isinstance(app.screen, HelpScreen) and app.focused is not None, "help")
        await click(pilot, "#list", "Sort by the next column")
        assert text_of(app, "#list").splitlines()[4].startswith("▌ s")
        await pilot.press("enter")
        await until(pilot, lambda: app.state.run_list.sort == "name", "the order")


async def test_presses_and_wheel_on_results_tables_and_editor(make_app: MakeApp) -> None:
    app = make_app()
    async with app.run_test(size=LARGE) as pilot:
        await ready(pilot)
        await pilot.press("colon")
        await until(
            pilot, lambda: isinstance(app.screen, SqlScreen) and bool(app.screen.schema.lines), "tables"
        )
        screen = app.screen
        assert isinstance(screen, SqlScreen)
        screen.query_one(TextArea).load_text("SELECT i FROM range(100) t(i)")
        await pilot.press("enter")
        await until(pilot, lambda: screen.results.shown is not None, "the result")
        x, y = place_of(app, "#results", "7  6")
        await pilot.click("#results", offset=(x, y))
        assert (screen.active, screen.results.cursor) == ("results", 6)
        await turn_wheel(pilot, "#results", events.MouseScrollDown)
        assert screen.results.cursor == 9
        await pilot.click("#tables", offset=(5, 3))
        assert (screen.active, screen.table_cursor) == ("tables", 2)
        await pilot.press("enter")
        assert screen.schema.lines[2].name in screen.query_one(TextArea).text
        await pilot.click("#results", offset=(x, y))
        await pilot.click("#editor", offset=(5, 2))
        await pilot.pause()
        assert screen.active == "editor"
        assert app.focused is screen.query_one(TextArea)
