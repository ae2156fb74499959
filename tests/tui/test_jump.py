"""Letters on all that can be gone to."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from pilot import ready, status, until
from textual.content import Content
from textual.widgets import Static

from tui.app import FinetuiApp
from tui.screens.base import BaseScreen
from tui.screens.compare import CompareScreen
from tui.screens.help import HelpScreen
from tui.screens.jump import JumpScreen
from tui.screens.new_run import NewRunScreen
from tui.screens.run import RunScreen
from tui.screens.sql import SqlScreen

MakeApp = Callable[..., FinetuiApp]
SIZES = [(80, 12), (80, 24), (200, 50)]


def letters(app: FinetuiApp) -> dict[str, str]:
    """By what each leads to: its letter, where it stands on the screen."""
    screen = app.screen
    assert isinstance(screen, JumpScreen)
    width, height = app.size
    shown, rest = {}, ""
    for widget in screen.query(Static):
        text = widget.render()
        assert isinstance(text, Content)
        assert widget.region.x >= 0
        assert widget.region.right <= width
        assert widget.region.bottom <= height
        shown[text.plain] = widget.region.offset
        rest += text.plain if widget.has_class("rest") else ""
    for letter, place in screen.places.items():
        if place.at is None:
            assert f" {letter} {place.name} " in rest
        else:
            assert shown[letter] == place.at
    return {place.name: letter for letter, place in screen.places.items()}


async def jump(app: FinetuiApp, pilot: object, name: str, key: str = "semicolon") -> None:
    await pilot.press(key)  # type: ignore[attr-defined]
    await pilot.press(letters(app)[name])  # type: ignore[attr-defined]
    await pilot.pause()  # type: ignore[attr-defined]


@pytest.mark.parametrize("size", SIZES)
async def test_a_letter_goes_to_panes_rows_sections_and_fields(
    make_app: MakeApp, size: tuple[int, int]
) -> None:
    app = make_app()
    async with app.run_test(size=size) as pilot:
        await ready(pilot)
        dashboard = app.screen
        await jump(app, pilot, "flags")
        assert dashboard.query_one("#pane4").display
        assert not dashboard.query_one("#pane0").display
        await pilot.press("k")
        await jump(app, pilot, "#3")
        assert app.state.run_list.cursor == 3

        await pilot.press("enter")
        await ready(pilot)
        run = app.screen
        assert isinstance(run, RunScreen)
        await pilot.press("g")
        await jump(app, pilot, "heldout/loss")
        assert run.key == "heldout/loss"
        await jump(app, pilot, "log")
        assert run._chosen() == "log"

        await pilot.press("escape", "space", "space", "c")
        await ready(pilot)
        compare = app.screen
        assert isinstance(compare, CompareScreen)
        await jump(app, pilot, "examples")
        assert compare.query_one("#pane4").display
        await pilot.press("escape", "A", "n")
        await until(pilot, lambda: isinstance(app.screen, NewRunScreen), "the form")
        form = app.screen
        assert isinstance(form, NewRunScreen)
        await jump(app, pilot, "check")
        assert form.pane == 2
        await jump(app, pilot, "flags")  # a section out of sight
        assert form.cursor == "[flags]"
        assert form.query_one("#pane0").display


async def test_escape_another_key_and_a_click_leave(make_app: MakeApp) -> None:
    app = make_app()
    async with app.run_test(size=(80, 24)) as pilot:
        await ready(pilot)
        for leave in ("escape", "9"):
            await pilot.press("semicolon")
            assert isinstance(app.screen, JumpScreen)
            await pilot.press(leave)
            await pilot.pause()
            assert isinstance(app.screen, BaseScreen)
        assert status(app) == "no letter 9 was here"
        await pilot.press("semicolon")
        await pilot.click(offset=(2, 2))
        assert isinstance(app.screen, BaseScreen)
        await pilot.press("semicolon")
        await pilot.resize_terminal(100, 30)
        await until(pilot, lambda: isinstance(app.screen, BaseScreen), "the screen below")


async def test_where_letters_are_typed_a_second_key_jumps(make_app: MakeApp) -> None:
    app = make_app()
    async with app.run_test(size=(80, 24)) as pilot:
        await ready(pilot)
        await pilot.press("colon")
        await until(pilot, lambda: isinstance(app.screen, SqlScreen), "SQL")
        sql = app.screen
        assert isinstance(sql, SqlScreen)
        await jump(app, pilot, "tables", "ctrl+g")
        assert sql.active == "tables"
        await jump(app, pilot, "editor")
        assert sql.active == "editor"
        assert app.focused is sql.editor
        await pilot.press("escape", "question_mark")
        help_screen = app.screen
        assert isinstance(help_screen, HelpScreen)
        await jump(app, pilot, "compare", "ctrl+g")
        assert help_screen.matches()[help_screen.cursor].action == "compare"
        await pilot.press("x")
        assert help_screen.words == "x", "what is typed is searched for again"
