"""How the screens look: pictures at the two sizes that matter, without colour, without Unicode, empty."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import pytest
from made_home import Served
from pilot import ready, text_of, until
from textual.widgets import TextArea

from tui.app import FinetuiApp
from tui.screens.sql import SqlScreen
from tui.widgets.panel import Panel

MakeApp = Callable[..., FinetuiApp]
SHORT, SMALL, LARGE = (80, 12), (80, 24), (200, 50)


def pressing(*keys: str) -> Callable[[Any], Awaitable[None]]:
    async def press(pilot: Any) -> None:
        await ready(pilot)
        for key in keys:
            await pilot.press(key)
            await ready(pilot)
        await pilot.pause()

    return press


@pytest.mark.parametrize(
    ("size", "keys"),
    [
        (SMALL, ()),
        (LARGE, ()),
        (SMALL, ("5",)),
        (SMALL, ("x",)),
        (SMALL, ("enter",)),
        (SMALL, ("enter", "2")),
        (SMALL, ("c", "2")),
        (LARGE, ("c",)),
        (SMALL, ("question_mark",)),
        (SHORT, ()),
        (SHORT, ("enter",)),
    ],
    ids=[
        "small",
        "large",
        "flags",
        "confirm",
        "run",
        "evals",
        "metrics",
        "compare",
        "help",
        "short",
        "short-run",
    ],
)
def test_picture(snap_compare: Any, make_app: MakeApp, size: tuple[int, int], keys: tuple[str, ...]) -> None:
    select = [3, 1] if keys == ("x",) else [1, 2, 3]
    assert snap_compare(make_app(select), terminal_size=size, run_before=pressing(*keys))


def test_picture_of_sql(snap_compare: Any, make_app: MakeApp) -> None:
    async def ask(pilot: Any) -> None:
        await ready(pilot)
        await pilot.press("colon")
        await until(
            pilot, lambda: isinstance(pilot.app.screen, SqlScreen) and bool(pilot.app.screen.schema.lines)
        )
        screen = pilot.app.screen
        screen.query_one(TextArea).load_text("FROM leaderboard")
        await pilot.press("enter")
        await until(pilot, lambda: screen.results.shown is not None)
        screen.outcome = [("3 rows in 4 ms", "good")]  # the time differs from run to run
        screen.update_panels()
        await pilot.pause()

    assert snap_compare(make_app(), terminal_size=(120, 35), run_before=ask)


def test_picture_of_an_empty_home(snap_compare: Any, empty: Served) -> None:
    app = FinetuiApp(empty.home, connect=empty.connect, unicode=True)
    app.home_name = "~/finetui"
    assert snap_compare(app, terminal_size=SMALL, run_before=ready)


async def test_without_unicode_everything_is_ascii(make_app: MakeApp) -> None:
    app = make_app([1, 2], unicode=False)
    for size in (SMALL, LARGE):
        app = make_app([1, 2], unicode=False)
        async with app.run_test(size=size) as pilot:
            await ready(pilot)
            for keys in (
                (),
                ("5",),
                ("c",),
                ("2",),
                ("escape", "enter"),
                ("4",),
                ("escape", "question_mark"),
            ):
                await pilot.press(*keys)
                await pilot.pause(0.1)
                for strip in app.screen._compositor.render_strips():
                    text = "".join(segment.text for segment in strip)
                    assert text.isascii(), (keys, text)


async def test_without_colour_there_is_no_colour_but_the_cursor_is_seen(
    make_app: MakeApp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    app = make_app([1, 2])
    async with app.run_test(size=LARGE) as pilot:
        await ready(pilot)
        lines = app.screen._compositor.render_strips()
        used = [segment.style for strip in lines for segment in strip if segment.style]
        colours = {str(colour.name) for style in used for colour in (style.color, style.bgcolor) if colour}
        assert colours <= {"default"}
        cursor = next(line for line in text_of(app, "#table").splitlines() if "docstrings-full" in line)
        assert cursor.startswith("▌")


async def test_a_resize_changes_the_layout_and_back(make_app: MakeApp) -> None:
    app = make_app([1])
    async with app.run_test(size=LARGE) as pilot:
        await ready(pilot)
        assert app.screen.query_one("#pane5").display
        await pilot.resize_terminal(*SMALL)
        await ready(pilot)
        assert not app.screen.query_one("#pane5").display
        assert app.screen.query_one("#tabs").display
        await pilot.resize_terminal(*LARGE)
        await ready(pilot)
        assert app.screen.query_one("#pane5").display
        assert "step 400: training" in text_of(app, "#pane5")


@pytest.mark.parametrize("size", [(20, 6), (40, 10), (300, 90)])
async def test_odd_sizes_do_not_break_anything(make_app: MakeApp, size: tuple[int, int]) -> None:
    app = make_app([1, 2])
    async with app.run_test(size=size) as pilot:
        await ready(pilot)
        for key in ("2", "5", "c", "2", "escape", "enter", "2", "escape", "question_mark", "escape"):
            await pilot.press(key)
        assert app.screen.query(Panel)
