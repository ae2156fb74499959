"""What does not fit is reached: panes with the screen to themselves, lines scrolled sideways, searches."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from made_home import Served
from pilot import ready, status, text_of, type_text, until

from tui.app import FinetuiApp
from tui.lines.text import from_column, marked, places
from tui.screens.run import RunScreen
from tui.widgets.panel import Panel

MakeApp = Callable[..., FinetuiApp]


async def log_of(pilot: Any, app: FinetuiApp) -> None:
    await ready(pilot)
    await pilot.press("enter")
    await until(pilot, lambda: isinstance(app.screen, RunScreen))
    await pilot.press("7")
    await ready(pilot)


async def search(pilot: Any, words: str) -> None:
    await pilot.press("slash")
    await type_text(pilot, words)
    await pilot.press("enter")
    await until(pilot, lambda: not pilot.app.screen.query("Prompt"))


@pytest.fixture
def long_log(served: Served) -> None:
    """The log of run 3: two hundred lines, two of them with a word, one much longer than the screen."""
    (path,) = served.home.runs.glob("000003-*")
    lines = [f"line {number}" for number in range(200)]
    lines[20], lines[150] = "a Needle here", "and a needle there"
    lines[60] = "x" * 150 + "END"
    for attempt in sorted((path / "attempts").iterdir()):
        (attempt / "stdout.log").write_text("\n".join(lines) + "\n")


@pytest.mark.usefixtures("long_log")
async def test_a_log_is_searched(make_app: MakeApp) -> None:
    app = make_app([3])
    async with app.run_test(size=(80, 24)) as pilot:
        await log_of(pilot, app)
        await pilot.press("full_stop")
        assert status(app) == "/ searches here"
        await search(pilot, "needle")
        assert text_of(app, "#section").splitlines()[0].strip() == "a Needle here"
        await pilot.press("full_stop")
        assert text_of(app, "#section").splitlines()[0].strip() == "and a needle there"
        assert status(app) == "2 of 2 lines have 'needle'"
        await pilot.press("full_stop")  # behind the last one comes the first
        assert text_of(app, "#section").splitlines()[0].strip() == "a Needle here"
        await pilot.press("comma")
        assert text_of(app, "#section").splitlines()[0].strip() == "and a needle there"
        await search(pilot, "q")
        assert status(app) == "nothing here has 'q'"
        await pilot.press("escape")  # ends the search, and does not leave
        assert isinstance(app.screen, RunScreen)
        assert app.screen.search == ""
        await pilot.press("slash", "escape")
        await until(pilot, lambda: not app.screen.query("Prompt"))
        assert app.screen.search == ""


TRACEBACK = """Traceback (most recent call last):
  File "train.py", line 3, in <module>
    raise ValueError("a bad row")
ValueError: a bad row"""


@pytest.mark.parametrize("size", [(80, 12), (80, 24), (200, 50)])
async def test_a_log_is_filtered_by_level(served: Served, make_app: MakeApp, size: tuple[int, int]) -> None:
    (path,) = served.home.runs.glob("000002-*/attempts/1/stdout.log")
    before = path.read_text()
    path.write_text(f"{before}WARNING:root:a bad row is skipped\n{TRACEBACK}\n12:00:00  step        3/4\n")
    app = make_app([2])
    try:
        async with app.run_test(size=size) as pilot:
            await ready(pilot)
            await pilot.press("6")
            await ready(pilot)
            assert "step        3/4" in text_of(app, "#pane5")
            await pilot.press("L")
            assert status(app) == "logs: warnings and errors"
            if size[0] == 200:
                assert app.screen.query_one("#pane5").border_title == "Log · warnings and errors"
            else:
                assert "6 log: warnings" in text_of(app, "#tabs")
            await pilot.press("z")
            await ready(pilot)
            assert text_of(app, "#pane5").split() == f"WARNING:root:a bad row is skipped {TRACEBACK}".split()
            await pilot.press("escape", "enter", "7", "L")
            await ready(pilot)
            head, *lines = text_of(app, "#section").rstrip().splitlines()
            assert head == f" errors: 4 of the last {len(before.splitlines()) + 6} lines; L shows others"
            assert [line[1:] for line in lines] == TRACEBACK.splitlines()
            await search(pilot, "bad row")
            await pilot.press("full_stop")
            assert status(app) == "2 of 2 lines have 'bad row'", "of those that are shown"
            await pilot.press("L")
            await ready(pilot)
            assert status(app) == "logs: all"
            await pilot.press("full_stop", "full_stop")
            assert status(app).endswith("of 3 lines have 'bad row'")
        path.write_text(before)
        app = make_app([2])
        async with app.run_test(size=size) as pilot:
            await ready(pilot)
            await pilot.press("6", "L", "L", "z")
            await ready(pilot)
            assert "finetui logs 2 --level error" in " ".join(text_of(app, "#pane5").split())
    finally:
        path.write_text(before)


@pytest.mark.parametrize("size", [(80, 12), (80, 24)])
async def test_samples_are_searched(make_app: MakeApp, size: tuple[int, int]) -> None:
    app = make_app([1])
    async with app.run_test(size=size) as pilot:
        await ready(pilot)
        await pilot.press("enter", "3")
        await ready(pilot)
        await search(pilot, "return 80")
        assert status(app) == "1 of 1 lines have 'return 80'"
        assert "return 80 * r" in text_of(app, "#section")
        await search(pilot, "return 2")
        await pilot.press("full_stop")
        assert status(app) == "2 of 3 lines have 'return 2'"
        await pilot.press("comma")
        assert status(app) == "1 of 3 lines have 'return 2'"
        lines = app.screen.query_one("#section", Panel)._lines
        assert {text for line in lines for text, style in line if style == "match"} == {"return 2"}


def test_words_are_found_across_the_end_of_a_wrapped_line() -> None:
    lines = [[("  step 4  ", ""), ("the area of a", "")], [("          circle is", "")], [("  circle", "")]]
    assert places(lines, "A circle", wrapped=True) == [0]
    assert places(lines, "a circle", wrapped=False) == []
    assert places(lines, "circle", wrapped=True) == [1, 2]


@pytest.mark.usefixtures("long_log")
async def test_a_long_line_is_scrolled_sideways(make_app: MakeApp) -> None:
    app = make_app([3])
    async with app.run_test(size=(80, 24)) as pilot:
        await log_of(pilot, app)
        await search(pilot, "xxxx")
        assert "END" not in text_of(app, "#section")
        await pilot.press(*["right"] * 20)
        assert text_of(app, "#section").splitlines()[0].endswith("xEND")
        await pilot.press(*["left"] * 20)
        assert text_of(app, "#section").splitlines()[1].strip() == "line 61"
        await pilot.press("1", "right")
        assert status(app) == "the section curves shows its lines whole"


@pytest.mark.usefixtures("long_log")
@pytest.mark.parametrize("size", [(80, 24), (120, 40)])
async def test_a_pane_has_the_screen_to_itself(make_app: MakeApp, size: tuple[int, int]) -> None:
    app = make_app([3])
    async with app.run_test(size=size) as pilot:
        await ready(pilot)
        await pilot.press("6", "z")
        await ready(pilot)
        log = app.screen.query_one("#pane5")
        assert not app.screen.query_one("#table").display
        assert log.content_size.height >= size[1] - 5
        assert text_of(app, "#pane5").rstrip().endswith("line 199")
        await pilot.press("g")
        await ready(pilot)
        assert text_of(app, "#pane5").split("\n")[0].rstrip() == "line 0"
        assert "END" not in text_of(app, "#pane5")
        await pilot.press(*["j"] * 50)
        assert "END" in text_of(app, "#pane5")  # wrapped, not cut
        await pilot.press("3")
        await ready(pilot)
        assert app.screen.query_one("#pane2").display
        await pilot.press("escape")
        await ready(pilot)
        assert app.screen.query_one("#table").display


async def test_half_of_a_split_terminal_keeps_its_bottom_line_and_its_questions(make_app: MakeApp) -> None:
    app = make_app([3])
    async with app.run_test(size=(80, 12)) as pilot:
        await ready(pilot)
        footer = app.screen.query_one("#footer")
        assert footer.region.y == 11
        assert "? help" in text_of(app, "#footer")
        assert "#3" in text_of(app, "#table")
        await pilot.press("x")
        assert "Cancel run #3" in text_of(app, "#footer")
        await pilot.press("n", "t")
        await until(pilot, lambda: bool(app.screen.query("Prompt")))
        assert app.screen.query_one("Prompt").region.y == 11


async def test_the_footer_has_the_keys_that_mean_something_for_the_run(make_app: MakeApp) -> None:
    app = make_app([3])
    async with app.run_test(size=(200, 50)) as pilot:
        await ready(pilot)
        assert "cancel" in text_of(app, "#footer")
        assert "compare" not in text_of(app, "#footer")
        await pilot.press("M")
        assert "compare" in text_of(app, "#footer") or status(app)
        assert set(app.state.marked) == {run.number for run in app.state.snapshot.runs}
        await pilot.press("escape")
        assert app.state.marked == []


@pytest.mark.parametrize(
    ("start", "text"), [(0, "ab你好c"), (1, "b你好c"), (3, " 好c"), (4, "好c"), (7, ""), (99, "")]
)
def test_what_is_right_of_a_column(start: int, text: str) -> None:
    assert "".join(part for part, _ in from_column([("ab", "x"), ("你好c", "y")], start)) == text


def test_places_that_have_the_words_are_marked() -> None:
    assert marked([("a Need need", "x")], "need") == [
        ("a ", "x"),
        ("Need", "match"),
        (" ", "x"),
        ("need", "match"),
    ]
    assert marked([("abc", "x")], "") == [("abc", "x")]
