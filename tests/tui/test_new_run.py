"""A run begun on the screen: the form, the YAML beside it, what is foretold, and the queue."""

from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
from live import Line
from made_home import Served
from pilot import ready, status, text_of, type_text, until
from textual.widgets import TextArea

from engine.evals.cost import Cost
from engine.recipe import recipe_file
from tui.app import FinetuiApp
from tui.lines.recipe_draft import MISSING, Draft, from_nothing, typed
from tui.lines.recipe_fields import fields_of, given, known_keys, problem_of
from tui.screens import draft_check
from tui.screens.dashboard import Dashboard
from tui.screens.data import DataScreen
from tui.screens.fix import FixScreen
from tui.screens.new_run import NewRunScreen
from tui.widgets import forecast
from tui.widgets.forecast import Forecast
from tui.widgets.panel import Panel

MakeApp = Callable[..., FinetuiApp]
SMALL, LARGE = (80, 24), (200, 50)
FILE = """\
# what I know of it
name: mine
model: bundled:stdlib-2m
method: {name: lora, r: 8}  # small
data:
  train: rows.jsonl  # beside this file
  heldout: 4
train: {max_steps: 3}
evals: {general: null}
"""


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The working directory, with a recipe and its rows in a folder of their own."""
    monkeypatch.chdir(tmp_path)
    there = tmp_path / "there"
    there.mkdir()
    (there / "mine.yaml").write_text(FILE)
    rows = [{"prompt": f"What is {i} and {i * 7}?", "completion": f"It is {i * 8}."} for i in range(40)]
    (there / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return there


@pytest.fixture
def unchecked(monkeypatch: pytest.MonkeyPatch) -> None:
    """No process is started to check each change."""
    monkeypatch.setattr(draft_check, "PAUSE_S", 3600)


def complete(text: str = FILE) -> Draft:
    return Draft(text, Path("/x/mine.yaml"))


async def opened(pilot: Any, *keys: str) -> NewRunScreen:
    await ready(pilot)
    await pilot.press("A", *keys)
    await until(pilot, lambda: isinstance(pilot.app.screen, NewRunScreen), "the form")
    screen = pilot.app.screen
    assert isinstance(screen, NewRunScreen)
    return screen


async def opened_file(pilot: Any, path: Path | str) -> NewRunScreen:
    await ready(pilot)
    await pilot.press("A", "f")
    await pilot.pause()
    pilot.app.screen.query_one("Input").value = str(path)
    await pilot.press("enter")
    await until(pilot, lambda: isinstance(pilot.app.screen, NewRunScreen), "the form")
    screen = pilot.app.screen
    assert isinstance(screen, NewRunScreen)
    return screen


async def give(pilot: Any, key: str, value: str, how: str = "enter") -> None:
    """Put the cursor on a field, and type a value for it."""
    screen = pilot.app.screen
    screen.folded.clear()
    screen.cursor = key
    await pilot.press(how)
    await until(pilot, lambda: bool(screen.query("Input")), "the prompt")
    screen.query_one("Input").value = value
    await pilot.press("enter")
    await until(pilot, lambda: not screen.query("Input"), "the end of the prompt")


# ---- fields and texts ----------------------------------------------------------------------------


def keys_of(draft: Draft) -> set[str]:
    return {field.key for field in fields_of(draft)}


def test_only_what_the_method_and_the_task_use_is_asked_for() -> None:
    lora = keys_of(complete())
    assert {"method.r", "method.targets", "evals.generate", "flags.forgetting.warn"} <= lora
    assert (
        not {"method.tokens", "task.beta", "train.sharding", "flags.displacement", "data.replay.ratio"} & lora
    )
    prefix = keys_of(complete(FILE.replace("{name: lora, r: 8}", "prefix")))
    assert "method.tokens" in prefix
    assert "method.r" not in prefix
    classes = keys_of(complete(FILE + "task: classification\n"))
    assert "task.labels" in classes
    assert not {"evals.generate", "evals.drift", "flags.forgetting.do"} & classes
    assert {"task.beta", "flags.displacement"} <= keys_of(complete(FILE + "task: dpo\n"))
    assert "train.sharding" in keys_of(complete(FILE + "processes: 2\n"))
    assert "data.replay.ratio" in keys_of(complete().with_value("data.replay.source", "bundled:stdlib-prose"))


def test_defaults_are_those_of_the_method_and_the_task() -> None:
    def rate(text: str) -> Any:
        return next(field.default for field in fields_of(complete(text)) if field.key == "train.lr")

    assert rate(FILE) == 2e-4
    assert rate(FILE + "task: dpo\n") == pytest.approx(2e-5)
    assert rate(FILE.replace("{name: lora, r: 8}", "prompt")) == 1e-1


def test_every_choice_of_every_field_is_read_and_taken_back_again() -> None:
    """What the form offers is what the recipe's models know; the text is as before when the default is back."""
    draft = complete(FILE + "processes: 2\n")
    fields = fields_of(draft)
    kinds = ("method.name", "task.name")  # which have keys of their own
    choices = [(field, choice) for field in fields for choice in field.choices if field.key not in kinds]
    assert len(choices) > 50
    for field, choice in choices:
        changed = draft.with_value(field.key, choice)
        assert changed.problems == {} or choice == "fsdp", (field.key, choice, changed.problems)
        assert given(changed, field) == choice
        if given(draft, field) is MISSING:
            assert changed.without(field.key).text.split() == draft.text.split(), field.key


def test_what_a_person_wrote_into_a_file_stays() -> None:
    draft = complete().with_value("method.alpha", 16).with_value("train.lr", typed("1.0e-4"))
    assert "# what I know of it" in draft.text
    assert "method: {name: lora, r: 8, alpha: 16} # small" in draft.text
    assert "train: {max_steps: 3, lr: 1.0e-4}" in draft.text
    assert draft.without("method.alpha").without("train.lr").text.split() == FILE.split()
    assert "method: lora" in draft.without("method.alpha").without("method.r").text


def test_a_method_that_is_left_has_its_keys_again_when_it_is_back() -> None:
    aside: dict[tuple[str, str], dict[str, Any]] = {}
    full = complete().with_kind("method", "full", known_keys("method", "full"), aside)
    assert full.value("method.r") is not None
    assert full.problems == {}
    assert "method: full" in full.text
    back = full.with_kind("method", "lora", known_keys("method", "lora"), aside)
    assert back.value("method.r") == 8


def test_what_is_wrong_stands_at_its_field() -> None:
    draft = complete(FILE.replace("r: 8", "r: 0, rank: 2"))
    fields = fields_of(draft)
    said = {field.key: problem_of(draft, field, fields) for field in fields}
    assert "greater than or equal to 1" in said["method.r"]
    assert said["method.rank"].startswith("unknown key")
    nothing = from_nothing(Path("/x"))
    fields = fields_of(nothing)
    said = {field.key: problem_of(nothing, field, fields) for field in fields}
    assert said["model.path"] == said["data.train"] == "is required but missing; add it"
    assert not said["model.trust_remote_code"]
    swept = complete().with_sweep("method.r", [0, 4])
    fields = fields_of(swept)
    wrong = {field.key for field in fields if problem_of(swept, field, fields)}
    assert wrong == {"method.r", "sweep.method.r"}


def test_a_run_that_was_dumped_has_not_its_method_s_defaults_in_the_form() -> None:
    text = recipe_file.dump(complete().file.recipes[0])  # type: ignore[union-attr]
    assert "lr:" in text
    plain = complete(text).plain()
    assert "lr:" not in plain.text
    assert "warmup:" not in plain.text
    assert "max_steps: 3" in plain.text
    kept = complete(text.replace("lr: 0.0002", "lr: 0.001")).plain()
    assert "lr: 0.001" in kept.text


# ---- with keys -----------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [SMALL, LARGE])
async def test_a_recipe_from_nothing(make_app: MakeApp, folder: Path, size: tuple[int, int]) -> None:
    app = make_app()
    async with app.run_test(size=size) as pilot:
        await opened(pilot, "n")
        assert "2 wrong" in text_of(app, "#header")
        assert "is required but missing; add it" in text_of(app, "#pane0")
        await pilot.press("a")
        assert status(app) == "model: is required but missing; add it"
        await give(pilot, "model.path", "bundled:stdlib-2m")
        await give(pilot, "data.train", "bundled:docstrings")
        await give(pilot, "train.lr", "1e-3")
        await pilot.press("2")
        assert text_of(app, "#pane1").split() == [
            *("model:", "bundled:stdlib-2m", "method:", "lora", "data:", "train:", "bundled:docstrings"),
            *("train:", "lr:", "1e-3"),
        ]
        await pilot.press("1", "x", "2")
        assert "lr" not in text_of(app, "#pane1")
        await pilot.press("u")
        assert "lr: 1e-3" in text_of(app, "#pane1")
        await pilot.press("3")
        await until(pilot, lambda: "may start" in text_of(app, "#header"), "the check")
        shown = " ".join(text_of(app, "#pane2").split())
        assert "memory about" in shown
        assert "GB free" in shown
        assert "held out" in shown


@pytest.mark.usefixtures("unchecked")
async def test_choices_are_gone_through_and_fields_come_and_go(make_app: MakeApp, folder: Path) -> None:
    app = make_app()
    async with app.run_test(size=LARGE) as pilot:
        screen = await opened_file(pilot, folder / "mine.yaml")
        screen.cursor = "method.name"
        await pilot.press("enter")
        assert "method: qlora  # small" in screen.draft.text or "name: qlora" in screen.draft.text
        assert "quant" in text_of(app, "#pane0")
        await pilot.press("h", "h", "h")
        assert screen.draft.value("method.name") == "full"
        assert "dropout" not in text_of(app, "#pane0")
        await pilot.press("l", "l")
        assert screen.draft.value("method.r") == 8
        await pilot.press("slash")
        await type_text(pilot, "smoothing")
        await pilot.press("enter")
        assert "no field matches 'smoothing'" in text_of(app, "#pane0")
        await pilot.press("escape", "slash")
        await type_text(pilot, "warmup")
        await pilot.press("enter")
        assert screen.cursor == "train.warmup"
        await pilot.press("escape", "slash")
        await type_text(pilot, "lr")
        await pilot.press("enter")
        assert screen.cursor == "train.lr", "a name before a part of one"
        await pilot.press("escape", "slash")
        await type_text(pilot, "steps")
        await pilot.press("enter")
        found = [row.key for row in screen.rows() if row.field]
        assert found.index("train.max_steps") < found.index("train.epochs"), "a name before a help text"
        assert screen.cursor == "train.max_steps"
        await pilot.press("escape")
        screen.cursor = "train.warmup"
        await pilot.press("o")
        assert "warmup" not in text_of(app, "#pane0")
        assert "fields, 1 set" in text_of(app, "#pane0")


async def test_values_of_a_sweep_show_the_runs_that_it_makes(make_app: MakeApp, folder: Path) -> None:
    app = make_app()
    async with app.run_test(size=SMALL) as pilot:
        screen = await opened_file(pilot, folder / "mine.yaml")
        await give(pilot, "method.r", "4, 8, 16", "v")
        assert "3 runs" in text_of(app, "#header")
        assert "[4, 8, 16] in a sweep" in text_of(app, "#pane0")
        await pilot.press("3")
        assert "mine r=16" in text_of(app, "#pane2")
        await until(
            pilot, lambda: bool(screen.checked.forecast and screen.checked.forecast.is_whole), "the check"
        )
        assert screen.checked.forecast is not None
        assert screen.checked.forecast.check is not None
        names = [run["recipe"]["name"] for run in screen.checked.forecast.check["runs"]]
        assert names == ["mine r=4", "mine r=8", "mine r=16"]
        await pilot.press("G")
        assert all(name in text_of(app, "#pane2") for name in names)
        await pilot.press("enter")  # the form comes into sight first
        assert not screen.query("Input")
        await give(pilot, "sweep.runs", "2")
        assert "2 runs" in text_of(app, "#header")
        await give(pilot, "method.r", "{from: 9}", "v")
        assert "1 wrong" in text_of(app, "#header")
        await pilot.press("a")
        assert "give a list of values, or a range" in status(app)
        screen.cursor = "method.r"
        await pilot.press("1", "x")
        assert screen.draft.value("method.r") == 8
        assert "method.r" not in screen.draft.sweep


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize("size", [SMALL, LARGE])
async def test_the_form_follows_the_yaml(make_app: MakeApp, folder: Path, size: tuple[int, int]) -> None:
    app = make_app()
    async with app.run_test(size=size) as pilot:
        screen = await opened_file(pilot, folder / "mine.yaml")
        await pilot.press("e")
        await until(pilot, lambda: bool(screen.query(TextArea)), "the editor")
        editor = screen.query_one(TextArea)
        assert editor.text == FILE
        editor.text = FILE.replace("r: 8", "r: 32")
        await until(pilot, lambda: screen.draft.value("method.r") == 32, "the new value")
        editor.text = FILE.replace("r: 8", "r: [")
        await until(pilot, lambda: bool(screen.draft.problems), "what is wrong")
        await pilot.pause()
        assert "esc leaves the YAML  " in text_of(app, "#footer")
        assert "not valid YAML" in text_of(app, "#footer")
        await pilot.press("escape")
        await until(pilot, lambda: not screen.query(TextArea), "the end of the editor")
        await pilot.press("1")
        screen.cursor = "data.reasoning"
        await pilot.press("enter")
        assert "e edits the YAML, u takes it back" in status(app)
        assert "r: [" in screen.draft.text
        await pilot.press("u")
        assert screen.draft.text == FILE


@pytest.mark.usefixtures("unchecked")
async def test_the_recipe_is_queued_from_where_its_paths_start(
    make_app: MakeApp, served: Served, folder: Path
) -> None:
    served.actions.answer = lambda name, body: {"run": 4}
    app = make_app([2])
    async with app.run_test(size=SMALL) as pilot:
        screen = await opened_file(pilot, folder / "mine.yaml")
        await give(pilot, "method.r", "4")
        await pilot.press("a")
        assert status(app).startswith("Queue mine as a new run?")
        await pilot.press("n")
        assert not served.actions.asked
        await pilot.press("a", "y")
        await until(pilot, lambda: app.screen is not screen, "the dashboard")
        assert isinstance(app.screen, Dashboard)
        assert status(app) == "run #4 is queued"
        assert app.state.run_list.cursor == 4
        ((_, body),) = [one for one in served.actions.asked if one[0] == "submit"]
        assert body["recipe"]["method"]["r"] == 4
        assert body["recipe"]["data"]["train"] == str(folder / "rows.jsonl")
        assert "# what I know of it" in body["recipe_text"]
        await until(pilot, lambda: app.remembered.draft() is None, "the end of the draft")


async def test_what_cannot_run_is_told_and_not_queued(
    make_app: MakeApp, served: Served, folder: Path
) -> None:
    app = make_app()
    async with app.run_test(size=SMALL) as pilot:
        screen = await opened_file(pilot, folder / "mine.yaml")
        await give(pilot, "data.train", "gone.jsonl")
        await until(
            pilot, lambda: bool(screen.checked.forecast and screen.checked.forecast.refusal), "the refusal"
        )
        assert "refused" in text_of(app, "#header")
        await pilot.press("3")
        assert "gone.jsonl" in text_of(app, "#pane2").replace("\n", "").replace(" ", "")
        await pilot.press("a")
        assert status(app).startswith("not queued: ")
        assert not served.actions.asked


@pytest.mark.usefixtures("unchecked")
async def test_a_recipe_like_that_of_a_run_says_where_it_is_from(make_app: MakeApp, served: Served) -> None:
    served.actions.answer = lambda name, body: {"run": 9}
    app = make_app([4])
    async with app.run_test(size=LARGE) as pilot:
        await ready(pilot)
        await pilot.press("enter")
        screen = await opened(pilot, "r")
        assert "docstrings-lora-r64 from #4" in text_of(app, "#header")
        assert screen.draft.value("method.r") == 64
        await pilot.press("a", "y")
        await until(pilot, lambda: isinstance(app.screen, Dashboard), "the dashboard")
        ((_, body),) = [one for one in served.actions.asked if one[0] == "submit"]
        assert body["parent"] == 4


@pytest.mark.usefixtures("unchecked")
async def test_nothing_that_was_typed_is_lost(make_app: MakeApp, folder: Path) -> None:
    app = make_app()
    async with app.run_test(size=SMALL) as pilot:
        screen = await opened(pilot, "n")
        await pilot.press("escape")
        assert app.screen is not screen, "nothing has changed"
        screen = await opened(pilot, "n")
        await give(pilot, "name", "later")
        await pilot.press("escape")
        assert "this recipe is not queued" in status(app)
        await pilot.press("j")
        assert app.screen is screen
        await pilot.press("q")
        assert status(app).startswith("Quit?")
        await pilot.press("n", "escape", "k")
        await until(pilot, lambda: app.screen is not screen, "the dashboard")
        await until(pilot, lambda: app.remembered.draft() is not None, "the draft")
    again = make_app()
    async with again.run_test(size=SMALL) as pilot:
        await ready(pilot)
        await pilot.press("A")
        assert "k later, kept" in status(again)
        await pilot.press("k")
        await until(pilot, lambda: isinstance(again.screen, NewRunScreen), "the form")
        assert isinstance(again.screen, NewRunScreen)
        assert "name: later" in again.screen.draft.text
        await pilot.press("escape", "t")
        await until(pilot, lambda: again.remembered.draft() is None, "the end of the draft")


@pytest.mark.usefixtures("unchecked")
async def test_a_recipe_is_saved_and_a_file_is_replaced_only_after_a_question(
    make_app: MakeApp, folder: Path
) -> None:
    app = make_app()
    async with app.run_test(size=SMALL) as pilot:
        screen = await opened_file(pilot, folder / "mine.yaml")
        await give(pilot, "method.r", "4")
        await give(pilot, "method.r", str(folder / "other.yaml"), "w")
        assert (folder / "other.yaml").read_text() == FILE.replace("r: 8", "r: 4")
        assert (folder / "mine.yaml").read_text() == FILE
        await give(pilot, "method.r", str(folder / "mine.yaml"), "w")
        assert status(app).startswith("Replace ")
        await pilot.press("n")
        assert (folder / "mine.yaml").read_text() == FILE
        await give(pilot, "method.r", str(folder / "nowhere" / "mine.yaml"), "w")
        assert "cannot be written" in status(app)
        await pilot.press("escape")
        assert app.screen is not screen, "it was saved"


@pytest.mark.usefixtures("unchecked")
async def test_a_file_that_is_none_is_told(make_app: MakeApp, folder: Path) -> None:
    (folder / "command.yaml").write_text("command: [python, train.py]\n")
    app = make_app()
    async with app.run_test(size=LARGE) as pilot:
        for name, said in (
            ("gone.yaml", "there is no such recipe"),
            ("command.yaml", "a command, which has no form"),
        ):
            await ready(pilot)
            await pilot.press("A", "f")
            await pilot.pause()
            app.screen.query_one("Input").value = str(folder / name)
            await pilot.press("enter")
            await until(pilot, lambda said=said: said in status(app), said)
            assert not isinstance(app.screen, NewRunScreen)


@pytest.mark.usefixtures("unchecked")
async def test_the_data_of_a_draft_are_shown_with_what_is_learned(make_app: MakeApp, folder: Path) -> None:
    app = make_app()
    async with app.run_test(size=LARGE) as pilot:
        await opened_file(pilot, folder / "mine.yaml")
        await pilot.press("d")
        await until(pilot, lambda: isinstance(app.screen, DataScreen), "the data")
        screen = app.screen
        assert isinstance(screen, DataScreen)
        await until(pilot, lambda: bool(screen.report or screen.trouble), "the report")
        assert "rows.jsonl:40rowsread" in "".join(text_of(app, "#pane0").split())
        assert "What is" in text_of(app, "#pane1")
        lines = screen.query_one("#pane1", Panel)._lines
        styles = {style for line in lines for text, style in line if text.strip()}
        assert {"good", "dim"} <= styles, "what is learned, and what is not"


@pytest.mark.usefixtures("unchecked")
async def test_the_answer_to_a_flag_can_be_changed_before_it_is_queued(
    make_app: MakeApp, folder: Path
) -> None:
    app = make_app([1])
    async with app.run_test(size=LARGE) as pilot:
        await ready(pilot)
        await pilot.press("f")
        fix = app.screen
        assert isinstance(fix, FixScreen)
        await until(pilot, lambda: fix.fix is not None, "the fix")
        await pilot.press("e")
        await until(pilot, lambda: isinstance(app.screen, NewRunScreen), "the form")
        assert "docstrings-full-fix from #1" in text_of(app, "#header")
        assert "max_steps: 320" in text_of(app, "#pane1")


@pytest.mark.usefixtures("unchecked")
async def test_it_can_be_read_without_colour_and_in_ascii(
    make_app: MakeApp, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    app = make_app(unicode=False)
    async with app.run_test(size=SMALL) as pilot:
        await opened_file(pilot, folder / "mine.yaml")
        shown = [strip.text for strip in app.screen._compositor.render_strips()]
        assert all(line.isascii() for line in shown)
        assert any("v method" in line for line in shown)
        await pilot.press("Y", "r")
        await until(pilot, lambda: "copied the recipe" in status(app))
        assert app.clipboard == FILE


# ---- what is foretold ----------------------------------------------------------------------------


def shown(draft: Draft, known: Forecast, width: int = 200) -> list[str]:
    free = {
        "ram/total_gb": 16.0,
        "ram/used_gb": 6.0,
        "gpu0/memory_total_gb": 80.0,
        "gpu0/memory_used_gb": 61.0,
    }
    return ["".join(text for text, _ in line) for line in forecast.lines(draft, known, free, width)]


def estimate(**changes: Any) -> dict[str, Any]:
    return {
        "device": "cuda", "memory_bytes": 80 * 2**30, "fits": True, "remedies": [], "total_bytes": 2**30,
        "correction": {"factor": 1.0, "error": 0.1, "runs": 0}, **changes,
    }  # fmt: skip


def test_what_does_not_fit_is_said_with_what_would_help() -> None:
    remedy = {"change": "method=qlora", "total_bytes": 2**29, "fits": True}
    known = Forecast(estimate(fits=False, remedies=[remedy]))
    lines = shown(complete(), known)
    assert "memory   about 1 GiB, by formula; cuda has 80 GiB, 17.7 GiB free now" in lines
    assert "         it does not fit" in lines
    assert "         method=qlora: 512 MiB, fits" in lines
    assert forecast.verdict(complete(), known) == ("does not fit", "bad")
    lines = shown(complete(), Forecast(estimate(device="cpu", correction={"runs": 2})))
    assert "memory   about 1 GiB, corrected by 2 runs; cpu has 80 GiB, 9.3 GiB free now" in lines


def test_time_and_money_are_those_of_all_runs() -> None:
    cost = Cost(
        looks=11, certain=11, examples=4, tokens=9, least_tokens=9, share=0.25, budget=0.05, ratio=0.3, measured_by=7,
        savings={}, seconds=600.0,
    )  # fmt: skip
    looks = asdict(cost)
    run = {
        "looks": looks, "disk": None, "tokens": 9, "steps": 3, "step_tokens": 3, "train_examples": 36,
        "heldout_examples": 4, "warnings": ["few rows"], "cost": 0.5,
    }  # fmt: skip
    one = shown(complete(), Forecast(estimate(), {"runs": [run], "token_warnings": []}))
    assert "time     about 10m 00s of steps and looks, as fast as run #7; costs about 0.50" in one
    two = shown(complete(), Forecast(estimate(), {"runs": [run, run], "token_warnings": ["few rows"]}))
    assert (
        "time     about 10m 00s of steps and looks, as fast as run #7; 20m 00s for all 2 runs; costs about 1.00"
        in two
    )
    unknown = run | {"looks": looks | {"seconds": None}, "cost": None}
    some = shown(complete(), Forecast(estimate(), {"runs": [run, unknown], "token_warnings": []}))
    assert "time     not known before a run of the same model and method has ended here" in some


def test_a_recipe_is_read_from_stdin(finetui: Line, monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    monkeypatch.chdir(folder)
    monkeypatch.setattr("sys.stdin", io.StringIO(FILE))
    checked = finetui("check", "-", "method.r=4", "--json")
    assert checked.code == 0
    recipe = json.loads(checked.out)["runs"][0]["recipe"]
    assert recipe["method"]["r"] == 4
    assert recipe["data"]["train"] == str(folder / "rows.jsonl")
    monkeypatch.setattr("sys.stdin", io.StringIO(FILE.replace("r: 8", "rank: 8")))
    refused = finetui("estimate", "-")
    assert refused.code == 3
    assert "stdin.yaml, line 4, key method.rank: unknown key" in refused.err
    monkeypatch.setattr("sys.stdin", io.StringIO(FILE))
    assert json.loads(finetui("data", "-", "--json").out)["refusals"] == []
