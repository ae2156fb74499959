"""A chart saved from the screen is the chart that is seen: curves, legend, axes, zoom, smoothing, crosshair."""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from pilot import ready, status, text_of, type_text, until
from test_sql_screen import open_sql

from tui.app import FinetuiApp
from tui.widgets.picture import BOTTOM, HEIGHT, LEFT, RIGHT, WIDTH

MakeApp = Callable[..., FinetuiApp]
SMALL, LARGE = (80, 24), (200, 50)
SVG = "{http://www.w3.org/2000/svg}"


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)


async def press(pilot: Any, *keys: str) -> None:
    for key in keys:
        await pilot.press(key)
        await ready(pilot)


async def save(pilot: Any, *keys: str, name: str = "") -> None:
    """Press the keys that ask for a file; `name`: instead of the one that is offered."""
    await pilot.press(*keys)
    await until(pilot, lambda: pilot.app.focused is not None, "the question")
    await type_text(pilot, name)
    await pilot.press("enter")
    await until(pilot, lambda: bool(status(pilot.app)), "what came of it")


def texts(path: Path) -> list[str]:
    return [one.text or "" for one in ET.parse(path).getroot().iter(f"{SVG}text")]


def corners(path: Path) -> list[list[tuple[float, ...]]]:
    lines = ET.parse(path).getroot().iter(f"{SVG}polyline")
    return [
        [tuple(map(float, point.split(","))) for point in line.get("points", "").split()] for line in lines
    ]


async def test_what_is_saved_is_what_is_seen(make_app: MakeApp, tmp_path: Path) -> None:
    app = make_app([1, 2])
    async with app.run_test(size=SMALL) as pilot:
        await ready(pilot)
        await press(pilot, "y", "plus", "left_square_bracket", "O")
        await save(pilot, "w")
        assert status(app) == "the chart is in train-loss-1-2.svg"
        legend, *_, ticks = text_of(app, "#pane0").splitlines()
        said = texts(tmp_path / "train-loss-1-2.svg")
        assert said[0] == "train/loss · log y · smoothed 0.6"
        values = dict(re.findall(r"(#\d) (\S+)", legend))
        assert f"#1 docstrings-full  {values['#1']}" in said
        assert f"#2 docstrings-lora  {values['#2']}" in said
        assert ticks.split()[0] == "100"
        assert {"100", "300"} <= set(said), "the window that was zoomed to"
        assert "400" not in said
        drawn = corners(tmp_path / "train-loss-1-2.svg")
        assert max(map(len, drawn)) > 90, "the steps in view"
        for x, y in (point for line in drawn for point in line if len(line) > 2):
            assert LEFT <= x <= WIDTH - RIGHT
            assert 0 <= y <= HEIGHT - BOTTOM

        await press(pilot, "0", "v", "a", "a")  # whole, linear, with a crosshair, over epochs
        await save(pilot, "w", name="again.txt")
        rows = (tmp_path / "again.txt").read_text().splitlines()
        assert rows[0] == "train/loss · smoothed 0.6"
        crossed = text_of(app, "#pane0").splitlines()[0].split()
        assert rows[1].split()[:4] == crossed[:4]
        await save(pilot, "w", name="again.svg")
        said = texts(tmp_path / "again.svg")
        assert said[0] == f"train/loss · smoothed 0.6 · at {crossed[0]} epochs"
        assert f"#1 docstrings-full  {crossed[4]}" in said
        assert "epochs" in said


async def test_of_several_charts_one_is_chosen(make_app: MakeApp, tmp_path: Path) -> None:
    app = make_app([1])
    async with app.run_test(size=LARGE) as pilot:
        await ready(pilot)
        await pilot.press("w")
        assert status(app) == "save the chart:   1 train/loss   2 heldout/loss   3 general/loss"
        await save(pilot, "3")
        assert texts(tmp_path / "general-loss-1.svg")[0] == "general/loss"
        await save(pilot, "w", "2", name="loss.jpg")
        assert status(app) == "loss.jpg: end the name in .svg, .png or .txt"
        await press(pilot, "4", "w")
        assert status(app) == "there is no chart in hardware: 1, 2 and 3 show one"
        await press(pilot, "4")
        await save(pilot, "w", "3")
        assert status(app).startswith("Replace general-loss-1.svg?")


async def test_of_one_run_and_of_several(make_app: MakeApp, tmp_path: Path) -> None:
    image = pytest.importorskip("PIL.Image")
    app = make_app([4, 1])
    async with app.run_test(size=SMALL) as pilot:
        await ready(pilot)
        await press(pilot, "enter", "w")
        assert status(app) == "there is no curve to save: not started yet"
        await press(pilot, "2", "w")
        assert status(app) == "the section evals has no chart: 1 shows the curves"
        await press(pilot, "escape", "c")
        await save(pilot, "w", "p", name="both.png")
        with image.open(tmp_path / "both.png") as picture:
            colours = {colour for _, colour in picture.convert("RGB").getcolors(1 << 24)}
        assert (0xD5, 0x5E, 0x00) in colours, "#1 has the second colour here"
        await save(pilot, "w", "t")
        assert (tmp_path / "heldout-loss-4-1.txt").read_text().startswith("heldout/loss\n■ #1 1.595")


async def test_the_chart_of_a_query_and_its_rows(make_app: MakeApp, tmp_path: Path) -> None:
    app = make_app()
    async with app.run_test(size=SMALL) as pilot:
        await open_sql(pilot, "SELECT run, step, value FROM metrics WHERE key = 'train/loss' AND run < 3")
        await pilot.press("tab", "c")
        await save(pilot, "w", name="two.svg")
        said = texts(tmp_path / "two.svg")
        assert said[0] == "Chart of all columns over step"
        assert [text.split()[0] for text in said[-2:]] == ["#1", "#2"]
        await save(pilot, "w", name="two.csv")
        await until(pilot, lambda: "400 rows written" in status(app), "the rows")
        await pilot.press("c")
        await save(pilot, "w", name="three.svg")
        assert "end the name in .csv" in status(app), "rows are no picture"
