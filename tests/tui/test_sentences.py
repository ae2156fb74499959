"""What is said in place of the keys: whole, and true of what is seen."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from pilot import ready, status, text_of, type_text, until

from tui.actions import OF_CHARTS
from tui.app import FinetuiApp
from tui.bindings import bindings_of
from tui.rows import Run
from tui.widgets import run_table
from tui.widgets.run_table import TableView

MakeApp = Callable[..., FinetuiApp]
SMALL = (80, 24)
LONG = (
    "run #1 has begun with its recipe; " + "finetui clone 1 key=value makes a new run of it; " * 3 + "the end"
)


def shown(app: FinetuiApp) -> str:
    return " ".join(text_of(app, "#footer").split())


async def test_a_long_sentence_is_whole_on_every_screen_and_gives_its_lines_back(make_app: MakeApp) -> None:
    app = make_app()
    async with app.run_test(size=SMALL) as pilot:
        await ready(pilot)
        for keys in ("", "enter", "escape d", "escape colon"):
            await pilot.press(*keys.split())
            app.say(LONG)
            await pilot.pause()
            assert shown(app) == LONG, keys
            app.confirm(LONG, lambda: None)
            await pilot.pause()
            assert shown(app).endswith("the end y yes n no"), keys
            await pilot.press("n")
            app.say("")
            await pilot.pause()
            assert app.screen.query_one("#footer").size.height == 1, keys


@pytest.mark.parametrize("height", [12, 24])
async def test_a_sentence_of_many_lines_is_whole_and_a_question_keeps_its_answers(
    make_app: MakeApp, height: int
) -> None:
    """The keys that a section of the recipe has are more than four lines of 80 columns."""
    keys = "key train.foo: unknown key; known keys: " + ", ".join(f"some_key_{at}" for at in range(26))
    app = make_app()
    async with app.run_test(size=(80, height)) as pilot:
        await ready(pilot)
        app.say(keys)
        await pilot.pause()
        assert shown(app) == keys
        app.confirm(LONG * 8, lambda: None)
        await pilot.pause()
        assert shown(app).startswith("run #1 has begun")
        assert shown(app).endswith("y yes n no")
        assert app.screen.query_one("#footer").size.height == height // 2


async def test_a_run_key_says_that_the_filter_hides_all_runs(make_app: MakeApp) -> None:
    app = make_app()
    async with app.run_test(size=SMALL) as pilot:
        await ready(pilot)
        await pilot.press("slash")
        await type_text(pilot, "zzzz")
        await pilot.press("enter")
        for binding in bindings_of("dashboard"):
            if binding.unless(app.screen.context()) and binding.action != "compare":  # type: ignore[attr-defined]
                await pilot.press(binding.keys[0])
                assert status(app) == "no run matches the filter: esc shows all", binding.action
        await pilot.press("escape", "i")
        assert not status(app).startswith("no run")


@pytest.mark.parametrize("opened", ["", "enter"], ids=["dashboard", "run"])
async def test_a_key_of_charts_says_where_they_are_when_none_is_in_view(
    make_app: MakeApp, opened: str
) -> None:
    app = make_app()
    async with app.run_test(size=SMALL) as pilot:
        await ready(pilot)
        await pilot.press(*opened.split(), "4")
        view = app.state.view
        for binding in bindings_of("run" if opened else "dashboard"):
            if binding.action in OF_CHARTS:
                await pilot.press(binding.keys[0])
                assert "no chart" in status(app), binding.action
                assert app.state.view == view
        await pilot.press("1", "plus")
        assert app.state.view != view


def test_runs_whose_names_differ_in_the_middle_do_not_look_alike() -> None:
    names = [f"support-sweep r={rank} alpha=32 dropout=0.05" for rank in (4, 16, 64)]
    view = TableView([Run(at, name, "queued") for at, name in enumerate(names)], 0, 0, {})
    rows = ["".join(text for text, _ in line) for line in run_table.lines(view, 80, 10)[1:]]
    assert all(f"r={rank} " in row for rank, row in zip((4, 16, 64), rows, strict=True)), rows


async def test_the_footer_has_keys_of_charts_only_where_a_chart_is_in_view(make_app: MakeApp) -> None:
    app = make_app([1])
    async with app.run_test(size=SMALL) as pilot:
        await ready(pilot)
        for keys in ("", "enter"):
            await pilot.press(*keys.split())
            await until(pilot, lambda: " m metric " in text_of(app, "#footer"), f"a chart after {keys!r}")
            await pilot.press("6")
            assert " m metric " not in text_of(app, "#footer"), keys
            await pilot.press("1")


async def test_the_footer_of_a_read_only_screen_has_no_key_that_changes_runs(make_app: MakeApp) -> None:
    app = make_app([2], readonly=True)
    async with app.run_test(size=(200, 50)) as pilot:
        await ready(pilot)
        for keys in ("", "enter"):
            await pilot.press(*keys.split())
            assert not {"cancel", "pause"} & set(shown(app).split()), keys
            assert "help" in shown(app)


@pytest.mark.parametrize("width", [80, 200])
@pytest.mark.parametrize("down", [False, True])
def test_the_column_that_sorts_has_an_arrow(width: int, down: bool) -> None:
    for column in run_table.columns(width):
        view = TableView([Run(1, "a name", "queued")], 0, 0, {}, column.name, down)
        heading = "".join(text for text, _ in run_table.lines(view, width, 3)[0])
        assert ("▾" if down else "▴") in heading, column.name


async def test_sections_have_their_titles_without_unicode_too(make_app: MakeApp) -> None:
    def titled(app: FinetuiApp) -> set[str | None]:
        return {
            panel.id for panel in app.screen.query(".framed") if panel.display and panel.styles.border_top[0]
        }

    sections = []
    for unicode in (True, False):
        app = make_app(unicode=unicode)
        async with app.run_test(size=SMALL) as pilot:
            await ready(pilot)
            first = titled(app)
            await pilot.press("colon")
            await pilot.pause()
            sections.append((first, titled(app)))
    assert sections[0] == sections[1]
    assert "results" in sections[0][1]
