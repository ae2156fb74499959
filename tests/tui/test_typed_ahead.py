"""Keys that come in one burst: what follows a key that opens a line is text for it, and no key for runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from made_home import Served
from pilot import ready, status, text_of, until
from textual import events
from textual.widgets import Input

from tui.app import FinetuiApp
from tui.screens.help import HelpScreen
from tui.screens.sql import SqlScreen

MakeApp = Callable[..., FinetuiApp]
SMALL = (80, 24)


def burst(app: FinetuiApp, text: str) -> None:
    """As a terminal sends what was typed while the screen was busy: with no pause in it."""
    for char in text:
        named = {"\n": ("enter", "\r")}.get(char, (char if char.isalnum() else None, char))
        app.post_message(events.Key(*named) if named[0] else _named(char))


def _named(char: str) -> events.Key:
    return events.Key({"/": "slash", ":": "colon", "?": "question_mark", " ": "space"}[char], char)


def typed(app: FinetuiApp) -> str | None:
    return app.focused.value if isinstance(app.focused, Input) else None


@pytest.mark.parametrize(
    ("keys", "text"), [("/", "drop hxNr"), ("?", "undo"), ("t", "pxrhNight"), ("n", "np"), ("C", "rxh")]
)
async def test_letters_behind_a_key_that_opens_a_line_are_its_text(
    make_app: MakeApp, served: Served, keys: str, text: str
) -> None:
    app = make_app([2])
    async with app.run_test(size=SMALL) as pilot:
        await ready(pilot)
        burst(app, keys + text)
        await until(pilot, lambda: typed(app) is not None and str(typed(app)).endswith(text), "the text")
        assert served.actions.asked == []
        assert status(app) == ""


async def test_a_whole_filter_is_one_burst_and_keys_mean_runs_again(make_app: MakeApp) -> None:
    app = make_app()
    async with app.run_test(size=SMALL) as pilot:
        await ready(pilot)
        burst(app, "/sweep\n")
        await until(
            pilot, lambda: "filter: sweep" in text_of(app, "#header") and app.focused is None, "the filter"
        )
        await until(pilot, lambda: not app.screen.query("Prompt"), "the line is closed")
        await pilot.press("question_mark")
        await until(pilot, lambda: isinstance(app.screen, HelpScreen), "the next key's screen")


async def test_a_query_is_typed_and_pasted_before_its_screen_is_there(make_app: MakeApp) -> None:
    app = make_app()
    async with app.run_test(size=SMALL) as pilot:
        await ready(pilot)
        burst(app, ":SELECT ")
        app.post_message(events.Paste("42 AS\x1b[2J answer"))
        await until(pilot, lambda: isinstance(app.screen, SqlScreen), "the screen")
        screen: Any = app.screen
        await until(pilot, lambda: "answer" in screen.editor.text, "the query")
        assert screen.editor.text.startswith("SELECT 42 AS")
        assert "\x1b" not in screen.editor.text


async def test_the_yaml_takes_what_is_typed_behind_its_key(make_app: MakeApp) -> None:
    app = make_app()
    async with app.run_test(size=SMALL) as pilot:
        await ready(pilot)
        await pilot.press("A", "n")
        await until(pilot, lambda: type(app.screen).__name__ == "NewRunScreen", "the form")
        screen: Any = app.screen
        burst(app, "exav")
        await until(pilot, lambda: screen.editor is not None and "xav" in screen.editor.text, "the YAML")
