"""Names, paths and reasons that are longer than a small screen is wide: nothing is only behind an ellipsis."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import made_home
import pytest
from made_home import NOW, STEPS, Served, begin, make_run, say
from pilot import ready, text_of

from finetui.files import read_json, write_json
from finetui.home import Home
from tui.app import FinetuiApp
from tui.screens.fix import lines_of

NAME = "support-lora-with-method-r-8-alpha-32-lr-0-0002-on-support-data-of-2026-seed-"
DATA = "/data/sets/some/very/long/path/to/a/data/set/that/goes/on/and/on/before/its/end/train-"
MEASURES = ("exact_match", "loss", "preference_accuracy", "rouge_l", "token_accuracy")
SHORT, SMALL = (80, 12), (80, 24)


@pytest.fixture(scope="module")
def long_named(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    home = Home(tmp_path_factory.mktemp("long") / "h")
    home.create()
    for number in (6, 7):
        run = make_run(home, number, f"{NAME}{number}")
        meta = read_json(run.meta)
        meta["recipe"]["data"]["train"] = f"{DATA}{number}.jsonl"
        write_json(run.meta, meta)
        log = begin(run, NOW - 400)
        log.write("plan", total_steps=STEPS, t=NOW - 400)
        values = {name: {"value": number / 10, "lo": 0.1, "hi": 0.9, "n": 20} for name in MEASURES}
        log.write("eval", step=10, suite="heldout", seconds=1.0, t=NOW, values=values)
        log.close()
        reason = "out of memory: lower train.max_length, or use method.name=qlora"
        say(run, "ended", state="failed", reason=reason, attempt=1, exit_code=4, t=NOW)
    with made_home.served(home) as running:
        yield running


def joined(text: str) -> str:
    return "".join(text.split())


@pytest.mark.parametrize("size", [SHORT, SMALL])
async def test_long_values_are_read_whole(long_named: Served, size: tuple[int, int]) -> None:
    app = FinetuiApp(long_named.home, [7, 6], connect=long_named.connect, unicode=True)
    async with app.run_test(size=size) as pilot:
        await ready(pilot)
        await pilot.press("enter", "6")
        await ready(pilot)
        assert "✗ failed" in text_of(app, "#header")
        assert "seed-7" in text_of(app, "#header")
        seen = ""
        for _ in range(8):
            seen += joined(text_of(app, "#section"))
            await pilot.press("pagedown")
        assert f"{DATA}7.jsonl" in seen
        await pilot.press("G")
        assert f"{NAME}7" in joined(text_of(app, "#section")) or f"{NAME}7" in seen
        await pilot.press("2")
        await ready(pilot)
        head = ""
        for _ in range(12):
            head += text_of(app, "#section").splitlines()[1]
            await pilot.press("right")
        for name in ("exact match ", "loss ", "preference accuracy ", "rouge l ", " accuracy "):
            assert name in head

        await pilot.press("escape", "c", "3")
        await ready(pilot)
        names, values = text_of(app, "#pane2").splitlines()[:2]
        assert "seed-7" in names
        assert "seed-6" in names
        assert values.split()[0] == "data.train"
        assert values.split()[1].endswith("train-7.jsonl")
        assert values.split()[2].endswith("train-6.jsonl")


def test_a_long_line_of_a_new_recipe_is_folded() -> None:
    change: dict[str, Any] = {
        "key": "data.train",
        "old": f"{DATA}1",
        "new": f"{DATA}2",
        "why": "w",
        "source": "",
    }
    change |= {"flag": "leak", "level": "warn"}
    fix = {"changes": [change], "advice": [], "name": f"{NAME}8", "recipe": f"data: {DATA}2\n"}
    lines = ["".join(text for text, _ in line) for line in lines_of(fix, 40)]
    assert all(len(line) <= 40 for line in lines)
    whole = joined("".join(lines))
    for text in (f"{DATA}1→{DATA}2forwarnleak", f"Therecipeof{NAME}8", f"data:{DATA}2"):
        assert text in whole
