"""Comparing two to eight runs: all of them reachable on a small terminal, against any of them, whole, and exported."""

from __future__ import annotations

import csv
import io
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import made_home
import pytest
from made_home import NOW, Served
from pilot import ready, status, text_of, type_text, until

from engine.runs.home import RunDir
from finetui.files import read_json, write_json
from finetui.home import Home
from finetui.log import LogWriter
from tui.app import FinetuiApp
from tui.lines.text import line_width
from tui.rows import Run
from tui.screens.compare import CompareScreen
from tui.screens.reader import ReaderScreen
from tui.state import ChartView
from tui.widgets import comparable, comparison
from tui.widgets.panel import Panel
from tui.widgets.sides import Sides

SMALL, LARGE = (80, 24), (200, 50)
OTHER_DATA, OTHER_TASK = 7, 8  # runs whose held-out losses are not those of the others
LAST = 20


def _write(home: Home, number: int, *, task: str = "sft", own_examples: bool = False) -> RunDir:
    """A run whose losses all follow from its number."""
    run = made_home.make_run(home, number, f"run{number}")
    if task != "sft":
        meta = read_json(run.meta)
        write_json(run.meta, {**meta, "recipe": {**meta["recipe"], "task": task}})
    log = LogWriter(run.attempt(1).events, "worker", number, 1)
    started = NOW - 1000
    made_home.say(run, "running", state="running", attempt=1, pid=1, t=started)
    log.write("plan", total_steps=LAST, t=started)
    ids = [f"{'own' if own_examples else 'e'}{at}" for at in range(20)]
    texts = [{"id": id, "prompt": f"question {id}", "target": f"answer\n{id}"} for id in ids]
    log.write("examples", suite="heldout", rows=texts, t=started)
    for step in range(0, LAST + 1, 10):
        # The later a run, the worse; of run 2 the example e3 by more than all others.
        nll = [10 + number + (30 if number == 2 and at == 3 else 0) + at / 10 - step / 10 for at in range(20)]
        loss = sum(nll) / 200
        log.write("eval", step=step, suite="heldout", seconds=1.0, t=started + 60 * step, values={
            "loss": {"value": loss, "lo": loss - 0.1, "hi": loss + 0.1, "n": 20},
            "f1": {"value": 0.5, "n": 20},
        }, examples={"id": ids, "nll": nll, "tokens": [10] * 20, "right": [4] * 20})  # fmt: skip
        words = f"the area is {'almost ' if number == 2 else ''}{step} times r"
        log.write("sample", step=step, index=0, prompt="def area(r):", text=words, t=started)
        log.write("sample", step=step, index=1, prompt="a second prompt", text="yes", t=started)
    for step in range(1, LAST + 1):
        spike = 100.0 if (number, step) == (1, 10) else 3.0 - step / 10
        tokens = {} if number == 3 else {"train/tokens": 1000.0 * step, "train/epoch": step / 10}
        log.write("metrics", step=step, t=started + 60 * step, values={"train/loss": spike, **tokens})
    log.close()
    return run


@pytest.fixture(scope="module")
def eight(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    home = Home(tmp_path_factory.mktemp("eight") / "h")
    home.create()
    for number in range(1, 9):
        _write(home, number, task="dpo" if number == OTHER_TASK else "sft", own_examples=number == OTHER_DATA)
    with made_home.served(home) as running:
        yield running


@pytest.fixture
def compare(eight: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., FinetuiApp]:
    monkeypatch.delenv("TMUX", raising=False)
    monkeypatch.chdir(tmp_path)
    return lambda *numbers, **options: FinetuiApp(
        eight.home, list(numbers), connect=eight.connect, unicode=options.get("unicode", True)
    )


async def press(pilot: Any, *keys: str) -> None:
    for key in keys:
        await pilot.press(key)
        await ready(pilot)


def row(text: str, start: str) -> str:
    return next(line for line in text.splitlines() if line.strip().startswith(start))


# ---- which runs, against which


@pytest.mark.parametrize("pane", ["2", "3", "4", "5"])
async def test_all_of_eight_runs_come_into_view_on_a_small_terminal(compare: Any, pane: str) -> None:
    app = compare(*range(1, 9))
    async with app.run_test(size=SMALL) as pilot:
        await ready(pilot)
        await press(pilot, "c", pane)
        panel, seen = f"#pane{int(pane) - 1}", set()
        for _ in range(8):
            head = text_of(app, panel).splitlines()[0]
            assert "#1" in head, "the reference stays"
            seen |= {number for number in range(1, 9) if f"#{number}" in head}
            await press(pilot, "l")
        assert seen == set(range(1, 9))
        await press(pilot, *"hhhhhhh")
        assert "#2" in text_of(app, panel).splitlines()[0]


async def test_what_is_out_of_view_is_counted_and_a_pinned_run_stays(compare: Any) -> None:
    app = compare(*range(1, 9))
    async with app.run_test(size=SMALL) as pilot:
        await ready(pilot)
        await press(pilot, "c", "2")
        assert text_of(app, "#pane1").startswith("5 »")
        await press(pilot, "l", "space", "right", "right", "right", "right")
        head = text_of(app, "#pane1").splitlines()[0]
        assert "#3" in head and "pinned" in head  # noqa: PT018
        assert "#6" in head or "#7" in head
        assert head.startswith("« ")
        await press(pilot, *"hhhhhhhh", "l", "space")
        assert "moves again" in status(app)


async def test_differences_and_intervals_follow_the_reference(compare: Any) -> None:
    app = compare(1, 3, 4)
    async with app.run_test(size=LARGE) as pilot:
        await ready(pilot)
        await press(pilot, "c")
        assert row(text_of(app, "#pane1"), "held-out loss").count("+") == 6
        assert "+0.200 [+0.200, +0.200]" in text_of(app, "#pane1")
        assert "+0.300 [+0.300, +0.300]" in text_of(app, "#pane1")
        await press(pilot, "l", "r")
        assert isinstance(app.screen, CompareScreen)
        assert app.screen.sides.order == (4, 1, 3)
        await until(pilot, lambda: "−0.300 [−0.300, −0.300]" in text_of(app, "#pane1"), "against #4")
        assert "−0.100 [−0.100, −0.100]" in text_of(app, "#pane1")
        assert "differences from #4" in text_of(app, "#pane1")
        assert "against #4" in text_of(app, "#header")


async def test_on_a_small_terminal_intervals_have_a_row_of_their_own(compare: Any) -> None:
    app = compare(1, 3, 4)
    async with app.run_test(size=SMALL) as pilot:
        await ready(pilot)
        await press(pilot, "c", "2")
        metrics = text_of(app, "#pane1")
        assert "[+0.200, +0.200]" in row(metrics, "95% interval")
        assert "[+0.300, +0.300]" in row(metrics, "95% interval")


async def test_only_what_differs(compare: Any) -> None:
    app = compare(1, 3)
    async with app.run_test(size=SMALL) as pilot:
        await ready(pilot)
        await press(pilot, "c", "2")
        assert "heldout/f1" in text_of(app, "#pane1")
        await press(pilot, "d")
        metrics = text_of(app, "#pane1")
        assert "heldout/f1" not in metrics
        assert "training loss" not in metrics
        assert "held-out loss" in metrics
        assert "train/tokens" in metrics, "#3 has none"
        assert "2 metrics that do not differ are left out" in metrics
        await press(pilot, "d")
        assert "heldout/f1" in text_of(app, "#pane1")


async def test_what_is_not_comparable_is_said(compare: Any) -> None:
    app = compare(1, 2, OTHER_DATA, OTHER_TASK)
    async with app.run_test(size=SMALL) as pilot:
        await ready(pilot)
        await press(pilot, "c")
        note = " ".join(text_of(app, "#note").split())
        assert note == (
            f"Not comparable with #1: #{OTHER_DATA}: no held-out example in common; #{OTHER_TASK}: dpo (nats per "
            "pair), not sft"
        )
        await press(pilot, "2", "enter")
        assert "Not comparable with #1" in text_of(app, "#text")
    app = compare(1, 2, 3)
    async with app.run_test(size=SMALL) as pilot:
        await ready(pilot)
        await press(pilot, "c")
        assert not app.screen.query_one("#note").display


@pytest.mark.parametrize("count", [2, 3, 8])
def test_recipes_stand_side_by_side_in_any_width(count: int) -> None:
    runs = [Run(number, f"a run with a long name {number}", "finished") for number in range(1, count + 1)]
    sides = Sides.of(tuple(run.number for run in runs))
    rows = [
        {"key": key, "run": run.number, "value": f"{key} of {run.number}"}
        for key in ("method.double_quant.of_what", "train.lr")
        for run in runs[1:]  # the reference has no such key
    ]
    for width in range(1, 200):
        lines = comparison.recipes(rows, runs, sides, width)
        assert len(lines) == 3
        if width >= 36:
            assert max(map(line_width, lines)) <= width
            assert lines[1][1][0].strip() == "–", f"what the reference has, in {width} columns"
            assert lines[1][2][0].strip(" …"), f"what the other has, in {width} columns"


def test_runs_that_share_a_part_of_their_examples_are_named_together() -> None:
    runs = [Run(number, f"run{number}", "finished", task="sft") for number in (1, 2, 3, 4)]
    shared = [
        {"run": number, "suite": "heldout", "n": n, "n_a": 40, "shared": both, "alike": alike}
        for number, n, both, alike in ((2, 30, 30, 30), (3, 30, 30, 30), (4, 40, 40, 0))
    ]
    assert comparable.sentence(runs, 1, shared) == (
        "Not comparable with #1: #4: another tokenizer reads the held-out examples. "
        "Comparable in part with #1: #2, #3: 30 of their 30 and its 40 held-out examples in common "
        "(paired differences are of these)"
    )
    assert comparable.sentence(runs, 1, []) == ""


# ---- samples and examples


def styles_of(app: FinetuiApp, panel: str, word: str) -> set[str]:
    lines = app.screen.query_one(panel, Panel)._lines
    return {style for line in lines for text, style in line if word in text.split()}


@pytest.mark.parametrize("size", [SMALL, LARGE])
async def test_samples_of_one_prompt_stand_side_by_side(compare: Any, size: tuple[int, int]) -> None:
    app = compare(1, 2)
    async with app.run_test(size=size) as pilot:
        await ready(pilot)
        await press(pilot, "c", "4")
        samples = text_of(app, "#pane3")
        assert "prompt 1/2 · last" in samples
        assert "the area is 20 times r" in samples
        assert styles_of(app, "#pane3", "almost") == {"differs"}
        assert styles_of(app, "#pane3", "area") == {"text"}
        await press(pilot, "s", "s")
        assert "up to step 10" in text_of(app, "#pane3")
        assert "the area is 10 times r" in text_of(app, "#pane3")
        await press(pilot, "S", "S", "n")
        assert "prompt 2/2 · last" in text_of(app, "#pane3")
        assert "yes" in text_of(app, "#pane3")
        await press(pilot, "p", "enter")
        assert isinstance(app.screen, ReaderScreen)
        whole = text_of(app, "#text")
        assert "#2 run2, step 20" in whole
        assert "the area is almost 20 times r" in whole


@pytest.mark.parametrize("size", [(80, 12), SMALL, LARGE])
async def test_samples_are_searched_through_all_prompts_and_runs(compare: Any, size: tuple[int, int]) -> None:
    app = compare(*range(1, 9))
    async with app.run_test(size=size) as pilot:
        await ready(pilot)
        await press(pilot, "c", "full_stop")
        assert status(app) == "/ searches here"

        async def search(words: str) -> None:
            await pilot.press("slash")
            await until(pilot, lambda: app.focused is not None, "the question")
            await type_text(pilot, words)
            await pilot.press("enter")
            await until(pilot, lambda: not app.screen.query("Prompt"))

        await search("YES")
        assert "prompt 2/2" in text_of(app, "#pane3")
        assert status(app).startswith("1 of 1 prompts with 'YES': written by #1, #2, ")
        assert "match" in {
            style for line in app.screen.query_one("#pane3", Panel)._lines for _, style in line
        }
        await search("almost 20")
        assert "prompt 1/2" in text_of(app, "#pane3")
        assert status(app) == "1 of 1 prompts with 'almost 20': written by #2"
        await search("e")
        assert status(app).startswith("1 of 2 prompts with 'e'")
        await press(pilot, "full_stop")
        assert "prompt 2/2" in text_of(app, "#pane3")
        await press(pilot, "comma")
        assert "prompt 1/2" in text_of(app, "#pane3")
        await search("no such")
        assert status(app) == "no sample here has 'no such'"
        await press(pilot, "escape")
        assert isinstance(app.screen, CompareScreen), "the search ends first"
        await press(pilot, "escape")
        assert not isinstance(app.screen, CompareScreen)


@pytest.mark.parametrize("size", [SMALL, LARGE])
async def test_the_examples_on_which_runs_disagree_most(compare: Any, size: tuple[int, int]) -> None:
    app = compare(1, 2, 3)
    async with app.run_test(size=size) as pilot:
        await ready(pilot)
        await press(pilot, "c", "5")
        lines = text_of(app, "#pane4").splitlines()
        # nll of 10 + number + 30 + 0.3 − 2 over ten tokens, of the others without the 30
        assert lines[1].startswith("▌held-out question e3")
        assert lines[1].split()[-5:] == ["0.930", "4.030", "+3.100", "1.130", "+0.200"]
        await press(pilot, "j", "k", "enter")
        whole = text_of(app, "#text")
        assert "held-out · 10 tokens · apart by 3.100 nats per token" in whole
        assert "#2 run2: 4.030  +3.100" in whole
        assert "question e3" in whole
        await press(pilot, "escape", "f", "f")
        assert "no general example was scored by several runs" in text_of(app, "#pane4")


# ---- the chart


async def test_the_x_axis_counts_steps_tokens_epochs_or_time(compare: Any) -> None:
    app = compare(1, 3)
    async with app.run_test(size=SMALL) as pilot:
        await ready(pilot)
        await press(pilot, "c")
        assert text_of(app, "#pane0").splitlines()[-1].split()[-1] == "20"
        await press(pilot, "a")
        chart = text_of(app, "#pane0").splitlines()
        assert chart[-1].split()[-1] == "20k"
        assert chart[-2].rstrip().endswith("tokens · #3 logged no tokens")
        assert "#3" not in chart[1]
        await press(pilot, "a")
        assert text_of(app, "#pane0").splitlines()[-1].split()[-1] == "2.0"
        await press(pilot, "a")
        chart = text_of(app, "#pane0").splitlines()
        assert chart[-1].split()[-1] == "20"
        assert chart[-2].rstrip().endswith("minutes")
        assert "#3" in chart[1]


async def test_the_crosshair_says_the_value_of_every_curve(compare: Any) -> None:
    app = compare(*range(1, 9))
    async with app.run_test(size=SMALL) as pilot:
        await ready(pilot)
        await press(pilot, "c", "v")
        shown = text_of(app, "#pane0")
        assert "10 steps" in shown
        # The mean of ten tokens each of 10 + number + at / 10 − 1 nats
        for number in (1, 3, 4, 5, 6):
            assert f"#{number} {(10 + number + 0.95 - 1) / 10:.4g} [" in shown
        for number in range(1, 9):
            assert f"#{number} " in shown
        await press(pilot, *["right_curly_bracket"] * 5)
        assert "20 steps" in text_of(app, "#pane0")
        await press(pilot, *["less_than_sign"] * 30)
        assert "10 steps" in text_of(app, "#pane0")
        await press(pilot, "v")
        assert "steps" not in text_of(app, "#pane0")


async def test_an_outlier_is_left_out_of_the_range_and_counted(compare: Any) -> None:
    app = compare(1, 2)
    async with app.run_test(size=SMALL) as pilot:
        await ready(pilot)
        await press(pilot, "c", "e", "e")  # unsmoothed
        for _ in range(12):
            if app.screen.key == "train/loss":
                break
            await press(pilot, "m")
        chart = text_of(app, "#pane0").splitlines()
        assert max(float(line.split("┤")[0]) for line in chart if "┤" in line) >= 80
        await press(pilot, "O")
        chart = text_of(app, "#pane0").splitlines()
        assert max(float(line.split("┤")[0]) for line in chart if "┤" in line) <= 4
        assert "1 point outside" in chart[-2]
        await press(pilot, "0", "O", "O")
        assert "outside" not in text_of(app, "#pane0")


async def test_reset_takes_back_what_the_chart_keys_did(compare: Any) -> None:
    app = compare(1, 2)
    async with app.run_test(size=SMALL) as pilot:
        await ready(pilot)
        await press(pilot, "c", "a", "O", "v", "0")
        assert app.state.view == ChartView()


# ---- copied and saved


async def test_every_pane_is_copied_as_markdown_and_csv(compare: Any) -> None:
    app = compare(1, 2)
    async with app.run_test(size=SMALL) as pilot:
        await ready(pilot)
        await press(pilot, "c")
        for pane, first in (
            ("1", {"run": "#1", "step": "0", "heldout/loss": "1.195"}),
            ("2", {"metric": "heldout/loss", "#2 best step": "20"}),
            ("4", {"prompt": "def area(r):", "run": "#1", "step": "20", "text": "the area is 20 times r"}),
            ("5", {"example": "e3", "target": "answer\ne3", "tokens": "10"}),
        ):
            await press(pilot, pane)
            await pilot.press("Y", "c")
            await until(pilot, lambda: "as CSV" in status(app), "the copy")
            row = next(csv.DictReader(io.StringIO(app.clipboard)))
            assert {name: row[name] for name in first} == first
            await pilot.press("Y", "m")
            await until(pilot, lambda: "as Markdown" in status(app), "the copy")
            table = app.clipboard.splitlines()[2:]
            assert {line.count(" | ") for line in table} == {len(row) - 1}
        await pilot.press("Y", "t")
        await until(pilot, lambda: "chart of heldout/loss" in status(app), "the copy")
        assert "● #2" in app.clipboard or "■ #2" in app.clipboard


async def test_a_table_is_saved_and_nothing_is_overwritten(compare: Any, tmp_path: Path) -> None:
    app = compare(1, 2)
    async with app.run_test(size=SMALL) as pilot:
        await ready(pilot)
        await press(pilot, "c", "2")
        for said in ("saved", "there already"):
            await pilot.press("w", "c")
            await until(pilot, lambda: app.focused is not None, "the question")
            await pilot.press("enter")
            await until(pilot, lambda said=said: said in status(app), said)
        rows = list(csv.DictReader((tmp_path / "metrics-1-2.csv").open()))
        assert float(rows[0]["#2 − #1"]) == pytest.approx(0.25)
        await pilot.press("w", "m")
        await until(pilot, lambda: app.focused is not None, "the question")
        await type_text(pilot, "/no/such")
        await pilot.press("enter")
        await until(pilot, lambda: "cannot be written" in status(app), "the refusal")


async def test_in_ascii_every_pane_is_ascii(compare: Any) -> None:
    app = compare(1, 2, OTHER_DATA, unicode=False)
    async with app.run_test(size=SMALL) as pilot:
        await ready(pilot)
        await press(pilot, "c", "v", "a")
        for pane in "12345":
            await press(pilot, pane)
            for strip in app.screen._compositor.render_strips():
                text = "".join(segment.text for segment in strip)
                assert text.isascii(), (pane, text)
