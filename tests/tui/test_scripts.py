"""Scripts whose characters are no column wide, or two: what a live pane leaves on the terminal."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import made_home
import pytest
from made_home import Served
from pilot import ready, text_of, until
from rich.cells import get_character_cell_size
from terminal import Terminal
from textual._compositor import CompositorUpdate
from textual.app import App

from engine.runs.home import RunDir
from finetui.home import Home
from tui.app import FinetuiApp

SIZE = (80, 24)
SCRIPTS = {
    "Devanagari": "चरण की हानि",  # marks that stand above, below and beside their letter
    "Thai": "ขั้นที่ค่าที่สูญเสีย",  # marks that Unicode gives no combining class
    "Arabic": "خُطْوَةُ التَّدْرِيبِ",
    "CJK": "第一步的損失",
    "emoji": "❤️ step",  # two columns for Rich, one for this terminal and for tmux
}


def spacing(character: str) -> int:
    """Columns in a terminal that gives a mark beside its letter a column of its own, as many do."""
    return 1 if unicodedata.category(character) == "Mc" else get_character_cell_size(character)


@pytest.fixture
def live(tmp_path: Path) -> Iterator[tuple[Served, RunDir]]:
    """A home of its own with one running run."""
    home = Home(tmp_path / "h")
    home.create()
    run = made_home.make_run(home, 1, "live")
    made_home.train(run, 20, floor=1.0).close()
    with made_home.served(home) as served:
        yield served, run


@pytest.mark.parametrize("width", [get_character_cell_size, spacing], ids=["marks above", "marks beside"])
async def test_a_number_that_changes_behind_any_script_leaves_no_digit(
    live: tuple[Served, RunDir], monkeypatch: pytest.MonkeyPatch, width: Callable[[str], int]
) -> None:
    served, run = live
    terminal = Terminal(*SIZE, width)
    app = FinetuiApp(served.home, connect=served.connect, unicode=True)

    def display(self: App[None], screen: Any, renderable: Any) -> None:
        if isinstance(renderable, CompositorUpdate):
            terminal.feed(renderable.render_segments(self.console))

    monkeypatch.setattr(App, "_display", display)
    async with app.run_test(size=SIZE) as pilot:
        await ready(pilot)
        await pilot.press("6")
        run.attempt(1).stdout.write_text(f"{'x' * 100}\n" * len(SCRIPTS))  # to the last column
        await until(pilot, lambda: text_of(app, "#pane5").count("x…") == len(SCRIPTS), "the long lines")
        for at, number in enumerate(("10", "9", "137", "138", "8")):
            lines = [f"{text} {number}" for text in SCRIPTS.values()]
            run.attempt(1).stdout.write_text("".join(f"{line}\n" for line in lines) + "\n" * at)
            await until(pilot, lambda lines=lines: lines[-1] in text_of(app, "#pane5"), number)  # type: ignore[misc]
            await pilot.pause(0.1)
            shown = [line.strip() for line in terminal.lines()]
            for line in lines:
                assert line in shown, (number, line)
