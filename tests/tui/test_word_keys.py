"""Keys that ask for a line of text: tags, notes, and another recipe."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from made_home import Served
from pilot import ready, status, text_of, type_text, until

from tui import commands
from tui.app import FinetuiApp
from tui.screens.run import RunScreen

MakeApp = Callable[..., FinetuiApp]
SMALL, LARGE = (80, 24), (200, 50)


@asynccontextmanager
async def at_run(make_app: MakeApp, number: int, size: tuple[int, int] = SMALL) -> AsyncIterator[Any]:
    """The dashboard with the cursor on a run."""
    async with make_app([number]).run_test(size=size) as pilot:
        await ready(pilot)
        yield pilot


@pytest.mark.parametrize("size", [SMALL, LARGE])
async def test_tags_are_changed_in_a_line_that_has_those_there_are(
    make_app: MakeApp, served: Served, size: tuple[int, int]
) -> None:
    served.actions.answer = lambda name, body: {"tags": ["night", "big"]}
    async with at_run(make_app, 2, size) as pilot:
        app = pilot.app
        await pilot.press("t")
        await type_text(pilot, "night big")
        await pilot.press("enter")
        await until(pilot, lambda: bool(status(app)))
        assert ("tag", {"run": 2, "add": ["night", "big"], "remove": []}) in served.actions.asked
        assert status(app) == "run #2 has the tags night big"
        await until(pilot, lambda: not app.screen.query("Prompt"), "the line is closed")


async def test_a_note_is_written_on_the_runs_own_screen_too(make_app: MakeApp, served: Served) -> None:
    async with at_run(make_app, 2, SMALL) as pilot:
        app = pilot.app
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, RunScreen))
        # The letters are text, not keys: q does not leave, n does not ask again.
        await pilot.press("n")
        await type_text(pilot, "quite nice")
        await pilot.press("enter")
        await until(pilot, lambda: bool(status(app)))
        assert ("note", {"run": 2, "text": "quite nice"}) in served.actions.asked
        assert status(app) == "run #2 has a new note"
        assert isinstance(app.screen, RunScreen)


async def test_escape_and_an_empty_line_do_nothing(make_app: MakeApp, served: Served) -> None:
    async with at_run(make_app, 2, SMALL) as pilot:
        app = pilot.app
        for keys in (("n", *"lost", "escape"), ("n", "enter"), ("C", "enter"), ("t", *"lost", "escape")):
            await pilot.press(*keys)
            await until(pilot, lambda: status(app) == "nothing done", str(keys))
            await until(pilot, lambda: not app.screen.query("Prompt"))
            app.say("")
        assert served.actions.asked == []
        assert "help" in text_of(app, "#footer")


async def test_a_filter_after_a_note_is_a_filter(make_app: MakeApp, served: Served) -> None:
    async with at_run(make_app, 2, SMALL) as pilot:
        app = pilot.app
        await pilot.press("n", "x", "enter")
        await until(pilot, lambda: not app.screen.query("Prompt"))
        await pilot.press("slash", *"qlora", "enter")
        assert app.state.run_list.filter == "qlora"
        assert [body for name, body in served.actions.asked if name == "note"] == [{"run": 2, "text": "x"}]


@pytest.mark.parametrize(
    ("key", "command", "number", "said"),
    [
        ("E", "edit", 4, "#4 has another recipe: train.lr (Z undoes it)"),
        ("C", "clone", 2, "queued #6 x, made from run #2 (Z undoes it)"),
    ],
)
async def test_another_recipe_is_the_commands_work(
    make_app: MakeApp,
    served: Served,
    monkeypatch: pytest.MonkeyPatch,
    key: str,
    command: str,
    number: int,
    said: str,
) -> None:
    asked: list[tuple[str, ...]] = []

    def run(home: object, *words: str) -> tuple[str, list[str]]:
        asked.append(words)
        sentence = said.removesuffix(" (Z undoes it)")
        return "6\n" if command == "clone" else "", ["note: only 10 rows", sentence, "4 examples"]

    monkeypatch.setattr(commands, "run", run)
    async with at_run(make_app, number, LARGE) as pilot:
        app = pilot.app
        await pilot.press(key)
        await type_text(pilot, 'name="a b"')
        await pilot.press("enter")
        await until(pilot, lambda: status(app) == said)
        assert asked == [(command, str(number), "name=a b")]
        served.actions.asked.clear()
        await pilot.press("Z")
        await until(pilot, lambda: status(app).startswith(f"undone, {command} of #{number}: "))
        ((order, body),) = served.actions.asked
        assert (order, body["run"]) == (("edit", 4) if command == "edit" else ("cancel", 6))
        assert command == "clone" or body["recipe"]["method"]["r"] == 64


async def test_why_a_recipe_is_refused_is_said(make_app: MakeApp, served: Served) -> None:
    """The command itself, which meets a folder that is not there and a key that is none."""
    async with at_run(make_app, 2, LARGE) as pilot:
        app = pilot.app
        await pilot.press("E")
        assert (
            status(app) == "run #2 has begun with its recipe; finetui clone 2 key=value makes a new run of it"
        )
        await pilot.press("C")
        await type_text(pilot, "train.lrr=1")
        await pilot.press("enter")
        await until(pilot, lambda: "lrr" in status(app))
        assert "train.lr" in status(app)
        await pilot.press("C", "quotation_mark", "enter")
        await until(pilot, lambda: "quotation" in status(app))
