"""The examples by their change: as the screen shows them, and as the command prints them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from typing import Any

import looked_home
import made_home
import pytest
from live import Line
from made_home import Served
from pilot import ready, status, text_of, type_text, until

from finetui.errors import ExitCode
from finetui.home import Home
from tui.app import FinetuiApp
from tui.lines import token_changes, word_differences
from tui.screens.dashboard import Dashboard
from tui.screens.examples import ExamplesScreen
from tui.widgets import example_page
from tui.widgets.panel import Panel

SMALL, LARGE = (80, 24), (200, 50)


@pytest.fixture(scope="module")
def looked(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    home = Home(tmp_path_factory.mktemp("looked") / "h")
    looked_home.fill(home)
    with made_home.served(home) as running:
        yield running


MakeLooked = Callable[..., FinetuiApp]


@pytest.fixture
def make(looked: Served) -> MakeLooked:
    def make(select: list[int], *, unicode: bool = True) -> FinetuiApp:
        (looked.home.path / "screen.json").unlink(missing_ok=True)
        return FinetuiApp(looked.home, select, connect=looked.connect, unicode=unicode)

    return make


def listed(app: FinetuiApp) -> list[tuple[str, str]]:
    """Change and text of each line of the list."""
    lines = text_of(app, "#pane0").splitlines()[1:]
    return [(line.lstrip("▌ ").split()[0], line.split()[-1]) for line in lines if line.strip()]


async def press(pilot: Any, *keys: str) -> None:
    for key in keys:
        await pilot.press(key)
        await ready(pilot)


async def test_a_flag_leads_to_its_suite_and_slice_worst_first(make: MakeLooked) -> None:
    app = make([1])
    async with app.run_test(size=SMALL) as pilot:
        await ready(pilot)
        await press(pilot, "enter", "4")
        assert "X shows the examples" in text_of(app, "#section")
        await press(pilot, "X")
        assert listed(app) == [("+0.600", "p2?"), ("+0.200", "p1?"), ("+0.000", "p0?")]
        scope, summary = text_of(app, "#scope").splitlines()
        assert scope.split("   ") == [
            " general, slice prose",
            "step 0 (base model) → step 20",
            *scope.split("   ")[2:],
        ]
        assert "⚑ forgetting warn" in scope
        assert summary == " 3 examples: 2 worse, 0 better, mean +0.267 nats per token; worst first"
        await press(pilot, "o")
        assert listed(app)[0] == ("+0.000", "p0?")
        await press(pilot, "S")
        assert listed(app)[0] == ("−0.500", "c0?")
        assert len(listed(app)) == 6
        await press(pilot, "S", "o")
        assert [change for change, _ in listed(app)] == ["+0.000", "+0.000", "−0.500"]
        await press(pilot, "escape", "escape")
        assert isinstance(app.screen, Dashboard)


async def test_looks_are_moved_and_a_part_that_was_scored_is_told(make: MakeLooked) -> None:
    app = make([1])
    async with app.run_test(size=SMALL) as pilot:
        await ready(pilot)
        await press(pilot, "X", "S", "left_square_bracket")  # prose → all: the flag's slice was the last one
        assert "step 0 (base model) → step 10" in text_of(app, "#scope")
        assert listed(app) == [("+0.300", "p2?"), ("−0.250", "c0?")]
        assert "2 of 6 examples: 1 worse, 1 better" in text_of(app, "#scope")
        await press(pilot, "left_square_bracket")
        assert status(app) == "there is no earlier look to go to: they are at 0, 10, 20"
        await press(pilot, "right_square_bracket", "right_curly_bracket")
        assert "step 10 → step 20" in text_of(app, "#scope")
        await press(pilot, "right_curly_bracket")
        assert "there is no later look" in status(app)
        await press(pilot, "left_curly_bracket")
        assert "step 0 (base model) → step 20" in text_of(app, "#scope")


async def test_an_example_is_read_whole_with_its_answers_at_both_sizes(make: MakeLooked) -> None:
    app = make([2])
    async with app.run_test(size=SMALL) as pilot:
        await ready(pilot)
        await press(pilot, "X")
        assert listed(app) == [("−0.200", "h1?"), ("−2.000", "h0?")]
        await press(pilot, "j", "enter")
        assert not app.screen.query_one("#pane0").display
        head = text_of(app, "#pane1").splitlines()
        assert head[0] == "−2.000  3.000 → 1.000 nats per token"
        assert head[1] == "10 tokens, 4 → 6 of them guessed right · id h0"
        seen = set(text_of(app, "#pane1").splitlines())
        for _ in range(30):
            await press(pilot, "j")
            seen |= set(text_of(app, "#pane1").splitlines())
        assert "Prompt" in seen
        assert "Ask h0?" in seen
        assert any("and here it ends." in line for line in seen), "the end of a long text can be reached"
        assert "  It returns the new name of run 2." in seen
        await press(pilot, "p")
        assert text_of(app, "#pane1").startswith("−0.200")
        await press(pilot, "escape")
        assert app.screen.query_one("#pane0").display
        await pilot.resize_terminal(*LARGE)
        await press(pilot, "G")
        assert app.screen.query_one("#pane0").display
        shown = text_of(app, "#pane1")
        assert "and here it ends." in " ".join(shown.split())
        assert "step 0\n  It returns the old name.\nstep 20\n  It returns the new name of run 2." in shown


async def test_two_runs_are_compared_where_one_is_marked(make: MakeLooked) -> None:
    app = make([1])
    async with app.run_test(size=LARGE) as pilot:
        await ready(pilot)
        await press(pilot, "U", "X", "b")
        assert "mark another run with space" in status(app)
        await press(pilot, "escape", "g", "space", "G", "X", "s", "b")
        assert cursor_run(app) == 1
        assert "#2 step 20 → #1 step 20" in text_of(app, "#scope")
        assert "held-out" in text_of(app, "#scope")
        assert listed(app)[0] == ("+1.000", "h0?")
        shown = text_of(app, "#pane1")
        assert (
            "#2 step 20\n  It returns the new name of run 2.\n#1 step 20\n  It returns the new name of run 1."
            in shown
        )
        legend = shown.splitlines()[4].split()
        assert legend == ["●", "#1", "2", "■", "#2", "1"], "both runs have a curve"
        await press(pilot, "b")
        assert "step 0 (base model) → step 20" in text_of(app, "#scope")


def cursor_run(app: FinetuiApp) -> int:
    screen = app.screen
    assert isinstance(screen, ExamplesScreen)
    return screen.number


async def test_words_choose_examples_and_copies_have_the_text(make: MakeLooked, looked: Served) -> None:
    app = make([2])
    async with app.run_test(size=SMALL) as pilot:
        await ready(pilot)
        await press(pilot, "X", "slash")
        await until(pilot, lambda: bool(app.screen.query("Prompt")), "the prompt")
        await type_text(pilot, "BEGINS")
        await press(pilot, "enter")
        await until(pilot, lambda: listed(app) == [("−2.000", "h0?")], "the example")
        assert '1 of 2 examples with "BEGINS"' in text_of(app, "#scope")
        await pilot.press("Y")
        assert status(app) == "copy:   n number   s sentence   p path   e example   t text   v view"
        await pilot.press("t")
        await until(pilot, lambda: "copied the example's text" in status(app))
        copied = (looked.home.path / "copied.txt").read_text()
        assert copied == f"Ask h0?{looked_home.LONG}"
        await press(pilot, "slash")
        await until(pilot, lambda: bool(app.screen.query("Prompt")), "the prompt")
        await type_text(pilot, "x")
        await press(pilot, "enter")
        await until(pilot, lambda: not listed(app), "nothing")
        assert text_of(app, "#scope").splitlines()[1] == ' no example with "x"'


async def test_without_colour_and_unicode_signs_say_it(
    make: MakeLooked, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    app = make([2], unicode=False)
    async with app.run_test(size=LARGE) as pilot:
        await ready(pilot)
        await press(pilot, "X", "G")
        shown = text_of(app, "#pane1")
        assert "It returns the [-old-]{+new+} name" not in shown
        assert "  It returns the [-old-] name." in shown
        assert "  It returns the {+new+} name{+ of run 2+}." in shown
        strips = [app.screen.query_one("#pane0").render_line(y).text for y in range(4)]  # type: ignore[attr-defined]
        assert all(strip.isascii() for strip in strips)
        assert "-2.000" in "".join(strips)


TOKENS = {
    "step": 20,
    "tokens": [
        {"text": "The", "before": 1.0, "after": 2.5}, {"text": " target", "before": 1.0, "after": 1.3},
        {"text": " of", "before": 2.0, "after": 1.0}, {"text": " h0", "before": 1.0, "after": 1.1},
    ],
}  # fmt: skip


@pytest.mark.parametrize("color", [True, False])
async def test_tokens_are_coloured_by_their_change_or_have_signs(
    make: MakeLooked, monkeypatch: pytest.MonkeyPatch, color: bool
) -> None:
    if not color:
        monkeypatch.setenv("NO_COLOR", "1")
    app = make([2])
    async with app.run_test(size=LARGE) as pilot:
        await ready(pilot)
        await press(pilot, "X", "G", "t")
        await until(
            pilot,
            lambda: "cannot be scored" in status(app),
            "what the process says: this home has no weights",
        )
        screen = app.screen
        assert isinstance(screen, ExamplesScreen)
        screen._scored(("heldout", "h0"), TOKENS)
        await ready(pilot)
        shown = text_of(app, "#pane1")
        assert "Target: each token under the base model and at step 20" in shown
        text = "The target of h0" if color else "The[++] target[+] of[-] h0"
        line = next(line for line in screen.query_one("#pane1", Panel)._lines if line[0][0].startswith("The"))
        assert "".join(part for part, _ in line).rstrip() == text
        assert [style for part, style in line if part.strip()] == ["bad", "warn", "good", "text"]
        await press(pilot, "escape", "k")
        assert "Target: what is scored" in text_of(app, "#pane1")


def test_a_line_break_that_changed_is_seen_and_the_legend_says_what_signs_mean() -> None:
    token = {"text": "\n", "before": 0.0, "after": 2.0}
    assert token_changes.spans([token], marks=False) == [("⏎\n", "bad")]
    assert "[-] better by 0.25 or more" in "".join(
        line[0][0] for line in token_changes.legend(200, marks=True)
    )


async def test_a_run_without_two_looks_says_so(make_app: Callable[..., FinetuiApp]) -> None:
    app = make_app([4])
    async with app.run_test(size=SMALL) as pilot:
        await ready(pilot)
        await press(pilot, "X")
        assert "run #4 has scored no examples yet" in text_of(app, "#pane0")
        for key in ("s", "S", "o", "n", "left_square_bracket", "enter", "escape", "slash", "escape"):
            await press(pilot, key)
        assert isinstance(app.screen, ExamplesScreen)


async def test_of_several_flagged_suites_one_is_chosen(make_app: Callable[..., FinetuiApp]) -> None:
    app = make_app([1])
    async with app.run_test(size=LARGE) as pilot:
        await ready(pilot)
        await press(pilot, "X")
        assert status(app) == "examples of:   1 general, slice prose: forgetting   2 heldout: overfitting"
        await press(pilot, "2")
        assert "⚑ overfitting warn" in text_of(app, "#scope")
        await pilot.press("s")
        await ready(pilot)
        assert text_of(app, "#scope").startswith(" general")


def test_words_that_differ_are_marked() -> None:
    old, new = word_differences.pieces("a b c", "a x c")
    assert example_page.marked(old, "bad", "[-", "-]", marks=False) == [
        ("a ", "text"),
        ("b", "bad"),
        (" c", "text"),
    ]
    assert example_page.marked(new, "good", "{+", "+}", marks=False) == [
        ("a ", "text"),
        ("x", "good"),
        (" c", "text"),
    ]
    assert example_page.marked(new, "good", "{+", "+}", marks=True)[1] == ("{+x+}", "good")
    rows = [{"step": 0, "text": "a"}, {"step": 10, "text": "b"}]
    assert example_page.answer_at(rows, 9) == rows[0]
    assert example_page.answer_at(rows[1:], 9) is None


# ---- the command --------------------------------------------------------------------------------


@pytest.fixture
def finetui(looked: Served, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Line:
    monkeypatch.setenv("FINETUI_HOME", str(looked.home.path))
    looked.actions.answer = lambda name, body: {}
    return Line(monkeypatch, capsys)


def test_the_command_lists_examples_by_their_change(finetui: Line) -> None:
    ended = finetui("examples", 1, "--suite", "general", "-n", 2)
    assert (ended.code, ended.err) == (ExitCode.OK, "")
    title, summary, _, head, *rows = ended.out.splitlines()
    assert title == "general: step 0 (base model) → step 20"
    assert summary == "6 examples: 2 worse, 1 better, mean +0.050 nats per token; worst first"
    assert head.split() == ["change", "before", "after", "tokens", "slice", "example", "text"]
    assert [row.split()[:6] for row in rows] == [
        ["+0.600", "2.000", "2.600", "10", "prose", "p2"],
        ["+0.200", "2.000", "2.200", "10", "prose", "p1"],
    ]
    found = json.loads(finetui("examples", 1, "--before", 2, "--best", "--suite", "general", "--json").out)
    assert found["compared"]["before"] == 2
    assert found["examples"][0]["example"] == "c0"
    part = json.loads(
        finetui("examples", 1, "--suite", "general", "--to", 10, "--slice", "prose", "--json").out
    )
    assert [one["change"] for one in part["examples"]] == [pytest.approx(0.3)]


def test_the_command_shows_one_example_whole(finetui: Line) -> None:
    shown = finetui("examples", 2, "--example", "h0").out
    for said in ("example h0: −2.000 nats per token", "0: 3.000, 10: 2.000, 20: 1.000", looked_home.LONG,
                 "answer of #2 at step 20:\n  It returns the new name"):  # fmt: skip
        assert said in shown
    one = json.loads(finetui("examples", 2, "--example", "h0", "--json").out)["example"]
    assert (one["prompt"], one["before"], one["answers"][0]["step"]) == ("Ask h0?", 3.0, 0)


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        ((9,), "there is no run #9"),
        ((1, "--suite", "seen"), "run #1 has no suite seen to compare; it has heldout, general"),
        ((1, "--slice", "prose"), "suite heldout of run #1 has no slice prose; it has no slices"),
        ((1, "--from", 7), "suite heldout of run #1 was not scored at step 7; it was at 0, 10, 20"),
        ((1, "--from", 20), "step 20 is not before step 20"),
        ((1, "--suite", "general", "--example", "c0", "--tokens"), "tokens cannot be scored"),
        ((1, "--example", "x"), "suite heldout has no example x"),
    ],
)
def test_what_cannot_be_compared_is_said(finetui: Line, words: tuple[str | int, ...], sentence: str) -> None:
    ended = finetui("examples", *words)
    assert ended.code == ExitCode.REFUSED
    assert sentence in ended.err
    assert ended.out == ""
