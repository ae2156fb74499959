"""What a run is worth at factors below 1, as the screen shows it while it comes."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from pilot import ready, text_of, until

from tui.app import FinetuiApp
from tui.lines import front
from tui.screens.fix import lines_of
from tui.screens.scale import ScaleScreen, chart_of

LARGE = (120, 50)


def a_point(factor: float, half: str = "choose") -> dict[str, Any]:
    def part(value: float) -> dict[str, Any]:
        return {"value": value, "lo": value - 0.01, "hi": value + 0.01, "n": 40}

    change, price = -0.7 * factor * (2 - factor), 0.1 * factor**2
    return {
        "half": half, "factor": factor, "heldout": 3 + change, "change": part(change), "general": part(price),
        "slices": {"text": part(price), "chat": part(2 * price)}, "price": 2 * price,
    }  # fmt: skip


def a_front(**changes: Any) -> dict[str, Any]:
    points = [a_point(step / 10) for step in range(11)] + [a_point(t, "confirm") for t in (0.0, 0.7, 1.0)]
    rows = {"heldout": {"choose": 40, "confirm": 41}, "general": {"choose": 20, "confirm": 20}}
    return {
        "run": 1, "step": 400, "unit": "nats per token", "margin": 0.1, "rows": rows, "points": points, "factor": 0.7,
        "why": "w", "best": 1.0, "within": True, "kept": 0.91, "helps": True, "message": "at 0.7 it is so", **changes,
    }  # fmt: skip


async def test_the_key_of_the_fix_screen_begins_after_a_question_and_why_it_cannot_be_is_said(
    make_app: Callable[..., FinetuiApp],
) -> None:
    app = make_app([1])
    async with app.run_test(size=LARGE) as pilot:
        await ready(pilot)
        await pilot.press("f", "s")
        assert app.state.status.shown
        assert app.state.status.shown[0].startswith("Score run #1 at factors from 0 to 1?")
        await pilot.press("y")
        await until(pilot, lambda: isinstance(app.screen, ScaleScreen) and app.screen.failed, "the answer")
        assert "the weights of run #1 are gone from" in text_of(app, "#table")  # this home has none
        await pilot.press("w")
        assert app.state.status.shown[0].startswith("the weights of run #1 are gone")

        screen = app.screen
        assert isinstance(screen, ScaleScreen)
        screen.failed = False
        for entry in ({"say": "scoring"}, *({"point": point} for point in a_front()["points"][:3])):
            screen._show(entry)
        assert "scoring" in text_of(app, "#table")
        screen._show({"done": a_front()})
        await pilot.pause()
        table = text_of(app, "#table")
        assert "at 0.7 it is so" in table
        assert "→     0.7  2.363  −0.637 ±0.010  +0.049 ±0.010" in table
        assert "held-out" in text_of(app, "#chart")
        await pilot.press("w")
        assert app.state.status.shown[0].startswith("Write run #1 at factor 0.7 to a folder in")
        await pilot.press("n", "escape")
        assert not isinstance(app.screen, ScaleScreen)


def test_the_chart_has_both_losses_with_their_intervals_and_the_chosen_factor() -> None:
    series, marks = chart_of(a_front()["points"], a_front())
    assert [one.label for one in series] == ["held-out", "general"]
    assert series[1].y[-1] == 0.1
    assert series[1].high[-1] == 0.11
    assert len(series[0].x) == 11
    assert [mark.x for mark in marks] == [0.7]
    assert chart_of([], None) == ((), ())


def test_a_front_is_told_in_words_and_rows() -> None:
    found = a_front()
    assert front.sentence(a_point(0.5)) == "factor 0.5: held-out −0.525, general text +0.025"
    assert front.row_counts(found, "confirm") == "41 held-out and 20 general rows"
    rows = front.rows(found, "confirm")
    assert [row[""] for row in rows] == ["", "→", ""]
    assert list(rows[0]) == ["", "factor", "loss", "held-out", "general", "text", "chat"]


def test_what_needs_no_new_run_stands_first_unless_it_is_not_worth_it() -> None:
    advice = {
        "flag": "forgetting", "level": "warn", "text": "Scale it.", "source": "", "command": "finetui fix --scale 7",
        "foretold": "it helped 2 of 2 similar runs",
    }  # fmt: skip
    assert shown({**advice, "worth": True}) == [
        "s  finetui fix --scale 7  for warn forgetting",
        "  Scale it.",
        "  it helped 2 of 2 similar runs",
        "",
    ]
    assert shown({**advice, "worth": False})[1] == "By hand, for warn forgetting"


def shown(advice: dict[str, Any]) -> list[str]:
    fix = {"changes": [], "advice": [advice], "name": "x", "recipe": ""}
    return ["".join(text for text, _ in line) for line in lines_of(fix, 60)]
