"""Columns that the user chooses: keys of recipes and metrics, sorted by, and remembered."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from made_home import Served
from pilot import ready, status, text_of, type_text, until

from tui.app import FinetuiApp
from tui.rows import Run
from tui.widgets import run_table

MakeApp = Callable[..., FinetuiApp]


async def choose(pilot: Any, app: FinetuiApp, text: str) -> None:
    await pilot.press("vertical_line")
    await until(pilot, lambda: app.focused is not None, "the prompt")
    await type_text(pilot, text)
    await pilot.press("enter")
    await until(pilot, lambda: app.focused is None, "the table")


@pytest.mark.parametrize("size", [(80, 24), (200, 50)])
async def test_parameters_and_metrics_are_columns_that_runs_are_sorted_by(
    make_app: MakeApp, served: Served, size: tuple[int, int]
) -> None:
    app = make_app([3])
    async with app.run_test(size=size) as pilot:
        await ready(pilot)
        await choose(pilot, app, "train.lr heldout/loss")
        await ready(pilot)
        head, *rows = text_of(app, "#table").splitlines()
        assert head.split().index("lr") < head.split().index("heldout/loss")
        of_full = next(row for row in rows if "full" in row and "#1 " in row)
        assert "2e-05" in of_full
        while app.state.run_list.sort != "train.lr":
            await pilot.press("s")
        numbers = [run.number for run in app.state.run_list.runs(app.state.snapshot)]
        assert numbers[0] == 1  # the smallest rate; of equal ones the latest first
        assert numbers[1:] == sorted(numbers[1:], reverse=True)
        app.remembered.keep_session(app.state, False, None, {})
    again = make_app([3])
    assert again.state.run_list.columns == ("train.lr", "heldout/loss")
    assert again.state.run_list.sort == "train.lr"


async def test_what_no_run_has_is_named(make_app: MakeApp) -> None:
    app = make_app([3])
    async with app.run_test(size=(120, 40)) as pilot:
        await ready(pilot)
        await choose(pilot, app, "train.lrr")
        await until(pilot, lambda: "no run has train.lrr" in text_of(app, "#header"), "the sentence")
        await choose(pilot, app, "a'b")
        assert status(app) == "a'b is no key of a recipe or metric"
        assert app.state.run_list.columns == ("train.lrr",)


def test_names_of_runs_keep_their_room_beside_many_columns() -> None:
    values = {f"heldout/metric_{number}": {1: "0.123456789012"} for number in range(2)}
    view = run_table.TableView([Run(1, "a name", "queued")], 0, 0, {}, values=values)
    head, row = ("".join(text for text, _ in line) for line in run_table.lines(view, 80, 5))
    assert "a name" in row
    assert row.count("0.1235") == 2
    assert len(head) == 80
    assert "model" not in head
