"""The screen with a run's data, over a real report."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil
import pytest
from made_home import Served, make_run
from pilot import ready, text_of, until
from textual.app import App

from engine.bundled import catalogue
from tui.app import FinetuiApp
from tui.reports import Reporting
from tui.screens.data import DataScreen
from tui.widgets import data_page

MakeApp = Callable[..., FinetuiApp]
SMALL, LARGE = (80, 24), (200, 50)
PATIENCE = 120  # tries of half a second: the report is made in a process of its own


async def opened(pilot: Any, *keys: str) -> DataScreen:
    await ready(pilot)
    await pilot.press(*keys, "d")
    screen = pilot.app.screen
    assert isinstance(screen, DataScreen)
    for _ in range(PATIENCE):
        if screen.report or screen.trouble:
            break
        await pilot.pause(0.5)
    await pilot.pause()
    return screen


def data_files(path: Path) -> list[str]:
    """A recipe on forty rows, one of them bad, ten of which are held out as well."""
    rows: list[dict[str, str]] = [
        {"prompt": f"What is {i} squared, in words {i * 7}?", "completion": f"It is {i * i}, I think.\nYes."}
        for i in range(40)
    ]
    heldout = [*rows[:10], *({"prompt": f"Tree {i * 31}?", "completion": f"Oak {i}"} for i in range(5))]
    for name, lines in {"train": [*rows, {"prompt": "and?"}], "held": heldout}.items():
        (path / f"{name}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    (path / "r.yaml").write_text(
        "model: bundled:stdlib-2m\nmethod: lora\ndata: {train: train.jsonl, heldout: held.jsonl}\n"
        "evals: {general: null}\n"
    )
    return [str(path / "r.yaml")]


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    return Reporting(*data_files(tmp_path_factory.mktemp("data"))).result()


async def test_the_key_shows_the_data_of_the_run_under_the_cursor(make_app: MakeApp) -> None:
    app = make_app([2])
    async with app.run_test(size=SMALL) as pilot:
        screen = await opened(pilot)
        assert "data of #2 docstrings-lora   may start" in text_of(app, "#header")
        rows = len(catalogue.load("docstrings"))
        assert f"bundled:docstrings: {rows:,} rows read, 0 skipped" in text_of(app, "#pane0")
        assert screen.report is not None
        await pilot.press("n")  # on a small terminal the first one comes into view
        assert text_of(app, "#pane1").startswith("1 of 24: row 1,")
        await pilot.press("n")
        assert text_of(app, "#pane1").startswith("2 of 24: row ")
        await pilot.press("p", "p")
        assert text_of(app, "#pane1").startswith("24 of 24: row ")
        await pilot.press("escape")
        assert not isinstance(app.screen, DataScreen)


async def test_a_run_whose_data_are_gone_is_told_in_a_sentence(
    make_app: MakeApp, tmp_path: Path, served: Served
) -> None:
    run = make_run(served.home, 90, "gone")
    body = json.loads(run.meta.read_text())
    body["recipe"]["data"]["train"] = str(tmp_path / "gone.jsonl")
    run.meta.write_text(json.dumps(body))
    try:
        app = make_app()
        async with app.run_test(size=SMALL) as pilot:
            await ready(pilot)
            app.push_screen(DataScreen("#90 gone", "--run", str(run.path)))
            await until(pilot, lambda: isinstance(app.screen, DataScreen) and bool(app.screen.trouble))
            told = "".join(text_of(app, "#pane0").split())  # a long path is broken anywhere
            assert "gone.jsonl:thereisnosuchfile" in told
    finally:
        run.meta.unlink()
        run.journal.unlink()
        run.path.rmdir()


async def test_leaving_stops_the_report(
    make_app: MakeApp, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FINETUI_POOL", str(tmp_path / "none"))  # a fork of it would be done too soon
    app = make_app()
    async with app.run_test(size=SMALL) as pilot:
        await ready(pilot)
        screen = DataScreen("r", *data_files(tmp_path))
        app.push_screen(screen)
        await until(pilot, lambda: screen._reporting is not None)
        assert "reading, tokenising" in text_of(app, "#pane0")
        assert screen._reporting is not None
        pid = screen._reporting._child.process.pid
        assert psutil.pid_exists(pid)
        await pilot.press("escape")
        await until(pilot, lambda: not psutil.pid_exists(pid))


class Shown(DataScreen):
    """With a report that is there already."""

    def __init__(self, report: dict[str, Any]) -> None:
        super().__init__("r")
        self.made = report

    def begin(self) -> None:
        self.report = self.made


@pytest.mark.parametrize("size", [SMALL, LARGE, (30, 8)])
async def test_the_page_at_any_size(make_app: MakeApp, report: dict[str, Any], size: tuple[int, int]) -> None:
    app = make_app(unicode=False)
    async with app.run_test(size=size) as pilot:
        await ready(pilot)
        app.push_screen(Shown(report))
        await pilot.pause(0.1)
        for key in ("G", "ctrl+u", "g", "tab", "j", "n", "n", "G", "tab"):
            await pilot.press(key)
            for strip in app.screen._compositor.render_strips():
                assert "".join(segment.text for segment in strip).isascii()
        if size == LARGE:
            text = " ".join(text_of(app, "#pane0").split())
            assert "41 rows read, 1 skipped line 41: has the columns `prompt`" in text
            assert "10 rows of held.jsonl are also in train.jsonl and are not scored" in text


async def test_what_is_learned_is_green_and_marked_where_there_is_no_colour(
    make_app: MakeApp, report: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    for no_color in (False, True):
        if no_color:
            monkeypatch.setenv("NO_COLOR", "1")
        app: App[None] = make_app()
        async with app.run_test(size=LARGE) as pilot:
            await ready(pilot)
            app.push_screen(Shown(report))
            await pilot.pause(0.1)
            text = text_of(app, "#pane1")  # type: ignore[arg-type]
            assert ("«It is 0, I think." in text) == no_color
            assert ("Yes.<|end|>»" in text) == no_color


def test_an_example_is_wrapped_at_words_and_keeps_its_lines_and_its_mask() -> None:
    lines = data_page.example(
        [("one two\n", False), ("three fourteen", True), ("x" * 12, False)], 10, marks=False
    )
    assert ["".join(text for text, _ in line) for line in lines] == [
        "one two",
        "three ",
        "fourteenxx",
        "xxxxxxxxxx",
    ]
    assert lines[2] == [("fourteen", "good"), ("xx", "dim")]
    assert lines[1] == [("three ", "good")]


def test_refusals_come_first_and_are_counted(report: dict[str, Any]) -> None:
    finding = {"code": "x", "message": "no answer ends", "source": "", "rows": []}
    refused = {**report, "refusals": [finding]}
    assert data_page.facts(refused, 60)[0] == [("refused    ", "bad"), ("no answer ends", "bad")]
    assert data_page.summary(refused)[0] == ("   1 refused", "bad")
    assert data_page.summary({**report, "warnings": []}) == [("   may start", "good")]
