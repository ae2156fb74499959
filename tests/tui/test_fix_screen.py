"""From the flags of a run to a new recipe, with keys."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path

import pytest
from pilot import ready, status, text_of, until

from engine.recipe import recipe_file
from tui.app import FinetuiApp
from tui.screens.fix import FixScreen, lines_of

SMALL = (80, 24)


async def test_what_would_change_is_shown_and_saved_after_a_question(
    make_app: Callable[..., FinetuiApp], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    app = make_app([1])
    async with app.run_test(size=SMALL) as pilot:
        await ready(pilot)
        await pilot.press("f")
        screen = app.screen
        assert isinstance(screen, FixScreen)
        await until(pilot, lambda: screen.fix is not None or bool(screen.trouble), "the fix")
        shown = text_of(app, "#fix")
        assert "train.max_steps  – → 320  for critical forgetting" in shown
        assert "Use the checkpoint before step 320. [prechelt1998]" in shown
        assert "By hand, for warn overfitting" in shown
        await pilot.press("w")
        assert status(app).startswith("Save the recipe of docstrings-full-fix?")
        await pilot.press("n")
        assert not list(tmp_path.iterdir())
        await pilot.press("w", "y")
        await until(pilot, lambda: app.screen is not screen, "the end of saving")
        path = tmp_path / "docstrings-full-fix.yaml"
        assert status(app) == f"saved {path}"
        assert recipe_file.read(path).recipes[0].train.max_steps == 320


async def test_a_run_without_flags_has_nothing_to_fix(make_app: Callable[..., FinetuiApp]) -> None:
    app = make_app([2])
    async with app.run_test(size=SMALL) as pilot:
        await ready(pilot)
        await pilot.press("f")
        assert status(app) == "run #2 has no flag that warns: nothing to fix"
        assert not isinstance(app.screen, FixScreen)


async def test_why_there_is_no_fix_is_said(make_app: Callable[..., FinetuiApp]) -> None:
    app = make_app([1])
    async with app.run_test(size=SMALL) as pilot:
        await ready(pilot)
        app.push_screen(FixScreen(99, "gone"))
        await asyncio.sleep(0)
        await until(
            pilot, lambda: isinstance(app.screen, FixScreen) and bool(app.screen.trouble), "the reason"
        )
        assert "there is no run #99; `finetui ls` lists them" in text_of(app, "#fix")
        await pilot.press("a")
        assert status(app).startswith("there is no run #99")


def test_a_flag_that_no_key_answers_shows_only_what_to_do() -> None:
    advice = [{"flag": "endless", "level": "warn", "text": "Look at the loss mask.", "source": ""}]
    lines = lines_of({"changes": [], "advice": advice, "name": "x", "recipe": "model: m\n"}, 40)
    assert ["".join(text for text, _ in line) for line in lines] == [
        "", "By hand, for warn endless", "  → Look at the loss mask.",
    ]  # fmt: skip
