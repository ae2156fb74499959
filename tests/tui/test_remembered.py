"""What is kept from one session to the next."""

from __future__ import annotations

import json
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from made_home import Served
from pilot import ready, status, until

from finetui.home import Home
from tui.app import FinetuiApp
from tui.lines.theme import Glyphs
from tui.remembered import Remembered
from tui.screens.dashboard import Dashboard
from tui.screens.run import RunScreen
from tui.screens.sql import SqlScreen
from tui.state import ChartView

MakeApp = Callable[..., FinetuiApp]
SMALL = (80, 24)


@pytest.mark.parametrize(
    "text", ["", "{", "[1, 2]", '{"sort": "x", "smooth": 9, "glyphs": 1, "queries": 3, "log": "y"}']
)
def test_what_cannot_be_read_is_as_if_nothing_were_kept(tmp_path: Path, text: str) -> None:
    (tmp_path / "screen.json").write_text(text)
    remembered = Remembered(Home(tmp_path))
    assert remembered.view(ascii_only=False) == ChartView()
    assert remembered.view(ascii_only=True).glyphs is Glyphs.ASCII
    assert remembered.order() == ("#", True)
    assert remembered.queries() == []


def test_threads_that_keep_at_once_lose_nothing_and_leave_nothing_behind(tmp_path: Path) -> None:
    remembered = Remembered(Home(tmp_path))
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: remembered.keep(**{f"key{number}": number}), range(40)))
    assert remembered.read() == {f"key{number}": number for number in range(40)}
    assert [path.name for path in tmp_path.iterdir()] == ["screen.json"]


def test_a_home_that_cannot_be_written_is_no_error(tmp_path: Path) -> None:
    Remembered(Home(tmp_path / "gone")).keep(log=True)
    assert not (tmp_path / "gone").exists()


async def test_curves_order_and_queries_are_there_again(make_app: MakeApp, served: Served) -> None:
    app = make_app()
    async with app.run_test(size=SMALL) as pilot:
        await ready(pilot)
        await pilot.press("y", "e", "u", "s", "s", "S", "colon")
        await until(
            pilot, lambda: isinstance(app.screen, SqlScreen) and bool(app.screen.schema.lines), "tables"
        )
        await pilot.press("enter")  # the first example
        await until(pilot, lambda: "queries" in app.remembered.read(), "the history")
        await pilot.press("ctrl+q")
        await pilot.pause()
        assert not app.is_running
    assert json.loads((served.home.path / "screen.json").read_text())["sort"] == ["method", True]
    again = make_app()
    assert again.state.view == ChartView(log=True, smooth=2, glyphs=Glyphs.BLOCK)
    async with again.run_test(size=SMALL) as pilot:
        await ready(pilot)
        assert (again.state.run_list.sort, again.state.run_list.down) == ("method", True)
        await pilot.press("colon")
        await until(pilot, lambda: isinstance(again.screen, SqlScreen), "the screen")
        assert isinstance(again.screen, SqlScreen)
        assert again.screen.history == ["FROM leaderboard"]


async def test_a_session_goes_on_where_the_last_one_was_left(make_app: MakeApp, served: Served) -> None:
    app = make_app()
    async with app.run_test(size=SMALL) as pilot:
        await ready(pilot)
        await pilot.press("5", "g", "z", "enter", "4", "q")
        await pilot.pause()
    again = make_app()
    async with again.run_test(size=SMALL) as pilot:
        await until(pilot, lambda: isinstance(again.screen, RunScreen), "the run")
        assert isinstance(again.screen, RunScreen)
        assert (again.screen.number, again.screen.section) == (5, 3)
        assert status(again) == "here you were; esc goes to the runs"
        await pilot.press("escape")
        await ready(pilot)
        assert again.screen.query_one("#pane4").display, "the pane that was shown"
        assert again.screen.query_one("#table").display, "a session begins with the runs"
        await pilot.press("z", "0")
        assert again.screen.query_one("#table").display, "all of it again"
        await pilot.press("q")
    assert json.loads((served.home.path / "screen.json").read_text())["place"] is None


@pytest.mark.parametrize(
    "place",
    [7, {"screen": "run", "run": 99, "section": 0}, {"screen": "compare", "runs": [1, 99]}, {"screen": "x"}],
)
async def test_a_place_that_is_gone_is_the_first_screen(
    make_app: MakeApp, served: Served, place: object
) -> None:
    Remembered(served.home).keep(place=place, panes={"pane": 99})
    app = make_app()
    async with app.run_test(size=SMALL) as pilot:
        await ready(pilot)
        assert isinstance(app.screen, Dashboard)
