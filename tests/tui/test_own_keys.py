"""Keys of one's own, from `[keys]` of config.toml."""

from __future__ import annotations

import ast
import json
import re
import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from live import Line
from made_home import Served
from pilot import ready, status, text_of, type_text, until

from engine.queue import config
from finetui.home import Home
from tui import bindings, keymap
from tui.app import FinetuiApp
from tui.bindings import bindings_of
from tui.cli import doctor
from tui.key_names import key_name, parse
from tui.screens.dashboard import Dashboard
from tui.screens.help import HelpScreen
from tui.screens.run import RunScreen
from tui.screens.sql import SqlScreen
from tui.widgets.editor import Editor
from tui.widgets.prompt import Prompt

MakeApp = Callable[..., FinetuiApp]
SMALL = (80, 24)


@pytest.fixture(autouse=True)
def _own_keys_end_with_the_test() -> Iterator[None]:
    yield
    bindings.use({})


@pytest.fixture
def configured(served: Served) -> Iterator[Callable[[str], None]]:
    yield lambda text: served.home.config.write_text(text) and None
    served.home.config.unlink(missing_ok=True)


def read(text: str) -> tuple[dict[tuple[str, str], tuple[str, ...]], list[str]]:
    return keymap.read(tomllib.loads(text))


@pytest.mark.parametrize(
    ("written", "key"),
    [
        ("x", "x"), ("X", "X"), ("shift+x", "X"), ("?", "question_mark"), ("|", "vertical_line"), ("+", "plus"),
        ("esc", "escape"), ("F5", "f5"), ("pgdn", "pagedown"), ("↓", "down"), (" ", "space"), ("slash", "slash"),
        ("Ctrl+X", "ctrl+x"), ("shift+ctrl+up", "ctrl+shift+up"), ("ctrl+i", "tab"), ("ctrl+enter", "ctrl+j"),
        ("hyper+x", None), ("f99", None), ("", None), ("cmd", None),
    ],
)  # fmt: skip
def test_a_key_can_be_written_as_people_do(written: str, key: str | None) -> None:
    assert parse(written) == key


def test_every_key_of_the_table_is_read_as_it_is_shown() -> None:
    for binding in bindings.BINDINGS:
        for key in binding.keys:
            assert parse(key_name(key)) == key
            assert parse(key) == key


def test_an_action_has_its_key_wherever_it_is_or_on_one_screen() -> None:
    keys, problems = read('cancel = "ctrl+x"\nrun.cancel = ["f7", "x"]\n"run.search" = "f8"\npane2 = "!"')
    assert problems == []
    assert keys["dashboard", "cancel"] == ("ctrl+x",)
    assert keys["run", "cancel"] == ("f7", "x")
    assert keys["run", "search"] == ("f8",)
    assert {screen for screen, action in keys if action == "pane(2)"} == set(bindings.PANES_ON)


def test_two_actions_can_change_their_keys() -> None:
    keys, problems = read('cancel = "p"\npause = "x"\nquit = ["Q", "q"]')
    assert problems == []
    bindings.use(keys)
    assert (bindings.key_of("cancel", "run"), bindings.key_of("pause", "dashboard")) == ("p", "x")
    assert {one.keys for one in bindings_of("dashboard") if one.action == "quit"} == {("Q", "q"), ("ctrl+q",)}


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ('cansel = "x"', "key keys.cansel: there is no action cansel; did you mean `cancel`?"),
        ('rum.cancel = "x"', "key keys.rum.cancel: there is no screen rum; did you mean `run`?"),
        ('sql.cancel = "f7"', "key keys.sql.cancel: there is no action cancel on the screen sql"),
        ('cancel = "f99"', "key keys.cancel: there is no key 'f99': write x, X, ?, f5"),
        ("cancel = 3", "key keys.cancel: a key or a list of keys is needed, as text (got 3)"),
        ("cancel = []", "key keys.cancel: a key or a list of keys is needed"),
        ('cancel = "p"', "key keys.cancel: on the screen dashboard p is also pause; choose another key"),
        ('read = "f7"\ncancel = "f7"', "key keys.cancel: on the screen dashboard f7 is also read"),
        ('cancel = "esc"', "key keys.cancel: esc leads back; choose another key"),
        ('back = "backspace"', "key keys.back: esc has to lead back as well"),
        ('cancel = "ctrl+q"', "key keys.cancel: ctrl+q quits from everywhere; choose another key"),
        ('cancel = "ctrl+p"', "key keys.cancel: ctrl+p opens the palette"),
        (
            'sql.execute = "e"',
            "key keys.sql.execute: on the screen sql e is needed for text; add a key such as f6",
        ),
        ('line.take = "t"', "key keys.line.take: on the screen line t is needed for text"),
        ('complete = "l"', "key keys.complete: on the screen line l is needed for text"),
        ('yes = "esc"', "key keys.yes: esc leads back"),
        ('help.down = ["J", "left"]', "key keys.help.down: on the screen help J ← is needed for text"),
    ],
)
def test_what_cannot_be_is_said_and_the_default_stays(text: str, sentence: str) -> None:
    keys, problems = read(f'metric = "f9"\n{text}')
    assert len(problems) == 1
    assert problems[0].startswith(sentence)
    changed = {action for _, action in keys}
    assert changed == ({"metric", "read"} if "read" in text else {"metric"}), "the rest is in force"


def test_no_screen_loses_a_key_or_has_one_twice_by_any_table() -> None:
    keys, _ = read(
        'down = "n"\nup = "n"\nopen = "enter"\nmark = "x"\ncancel = "space"\nquit = "x"\nback = ["escape", "x"]'
    )
    bindings.use(keys)
    for room in keymap.ROOMS:
        held = [key for binding in bindings_of(room) for key in binding.keys]
        assert len(held) == len(set(held)), room
        assert {"escape", "ctrl+q"} <= set(held)


# A letter or a key with a name, before a word: `Z marks them again`, `f2 has it`.
_NAMES_A_KEY = re.compile(r"(?<![\w'\"`#=<>./{}-])(?:[b-zB-HJ-Z]|f\d+|ctrl\+\w)(?= [a-z])")
_MENUS_AND_AXES = {  # what a question offers has its keys from the question
    "y axis: ", "x axis: ", " is gone; r takes that of the run", " q copies it", "s are",
    " is needed for text; add a key such as f6 or ctrl+x",
}  # fmt: skip


def test_no_sentence_of_the_screen_has_a_key_written_into_it() -> None:
    """It would be wrong for whoever has changed the key: `key_of` has the one in force."""
    written = set()
    root = Path(bindings.__file__).parent
    files = [path for path in root.rglob("*.py") if path.name != "bindings.py" and "cli" not in path.parts]
    for path in files:
        for node in ast.walk(ast.parse(path.read_text())):
            match node:
                case ast.Expr(value=ast.Constant()):
                    node.value.value = ""  # a docstring
                case ast.Constant(value=str(text)) if _NAMES_A_KEY.search(text):
                    written.add(text)
    assert written <= _MENUS_AND_AXES


async def test_all_that_names_a_key_names_the_own_one(
    make_app: MakeApp, configured: Callable[[str], None]
) -> None:
    configured(
        '[keys]\nmark = "f6"\nopen = "W"\nhelp = ["H", "f9"]\nunmark = "f7"\nquit = "Q"\npane3 = "V"\n'
        'mark_all = "f8"\nback = ["escape", "backspace"]'
    )
    app = make_app()
    async with app.run_test(size=SMALL) as pilot:
        await ready(pilot)
        footer = text_of(app, "#footer")
        assert footer.startswith(" W open  f6 mark  ")
        assert "H help" in footer
        assert " 2 held-out ─ V general " in text_of(app, "#tabs")
        await pilot.press("space")
        assert app.state.marked == [], "the default is free"
        await pilot.press("f8")
        assert status(app).endswith("f7 unmarks them")
        await pilot.press("f7", "c")
        assert status(app) == "mark two or more runs with f6, then compare them"
        await pilot.press("V")
        assert app.screen.query_one("#pane2").display
        await pilot.press("ctrl+c")
        assert status(app) == "press Q to leave; runs go on"
        await pilot.press("W")
        assert isinstance(app.screen, RunScreen)
        await pilot.press("backspace")
        assert isinstance(app.screen, Dashboard)
        await pilot.press("H")
        assert isinstance(app.screen, HelpScreen)
        await type_text(pilot, "f6")
        assert text_of(app, "#list").split()[:3] == ["▌", "f6", "mark"]
        await pilot.press("enter")
        await until(pilot, lambda: len(app.state.marked) == 1, "the mark")
        await pilot.press("colon")
        assert isinstance(app.screen, SqlScreen)
        await pilot.press("f9")
        assert isinstance(app.screen, HelpScreen), "also while a query is typed"
        await pilot.press("escape", "escape", "Q")
    assert app.return_code == 0


async def test_a_line_of_text_has_keys_of_its_own(
    make_app: MakeApp, configured: Callable[[str], None]
) -> None:
    configured('[keys]\nline.take = "ctrl+o"\nline.complete = ["f6", "right"]')
    app = make_app()
    async with app.run_test(size=SMALL) as pilot:
        await ready(pilot)
        await pilot.press("slash")
        await until(pilot, lambda: bool(app.screen.query(Prompt)), "the prompt")
        line = app.screen.query_one(Prompt).input
        await type_text(pilot, "stat")
        await until(pilot, lambda: line._suggestion == "state:", "what completes it")
        await pilot.press("tab")
        assert line.value == "stat", "the default is free"
        await pilot.press("f6")
        assert line.value == "state:"
        await type_text(pilot, "running")
        await pilot.press("enter")
        assert app.screen.query(Prompt), "the default is free"
        await pilot.press("ctrl+o")
        await until(pilot, lambda: not app.screen.query(Prompt), "the end of the prompt")
        assert app.state.run_list.filter == "state:running"


async def test_questions_lines_and_the_editor_go_by_own_keys(
    make_app: MakeApp, configured: Callable[[str], None]
) -> None:
    configured('[keys]\nyes = ["f6", "n"]\nline.complete = "f7"\neditor.complete = "f8"\nnew_line = "f9"')
    app = make_app()
    done: list[str] = []
    async with app.run_test(size=SMALL) as pilot:
        await ready(pilot)
        for key, outcome in (("y", []), ("enter", []), ("f6", ["f6"]), ("n", ["f6", "n"])):
            app.confirm("Do it?", lambda key=key: done.append(key))  # type: ignore[misc]
            assert status(app) == "Do it?   f6 yes   esc no"
            await pilot.press(key)
            assert done == outcome
        await pilot.press("slash")
        await until(pilot, lambda: app.focused is not None, "the prompt")
        line: Any = app.focused
        await type_text(pilot, "sta")
        await until(pilot, lambda: line._suggestion == "state:", "a completion")
        await pilot.press("f7")
        assert line.value == "state:"
        await pilot.press("escape", "colon")
        await until(pilot, lambda: isinstance(app.focused, Editor), "the editor")
        editor: Any = app.focused
        await until(pilot, lambda: bool(editor.names.items), "the names")
        await type_text(pilot, "SEL")
        await until(pilot, lambda: editor.completion.found is not None, "the list")
        await pilot.press("f8", "f9")
        assert editor.text.split() == ["SELECT"]
        assert editor.text.endswith("\n")


async def test_ctrl_q_leaves_also_where_a_question_is_open(make_app: MakeApp) -> None:
    app = make_app()
    async with app.run_test(size=SMALL) as pilot:
        await ready(pilot)
        app.confirm("Do it?", lambda: None)
        await pilot.press("ctrl+q")
    assert app.return_code == 0
    assert app._exit


async def test_what_is_wrong_is_said_when_the_screen_opens(
    make_app: MakeApp, configured: Callable[[str], None]
) -> None:
    configured('[keys]\ncancel = "esc"')
    app = make_app()
    async with app.run_test(size=SMALL) as pilot:
        await ready(pilot)
        assert status(app) == "config.toml, key keys.cancel: esc leads back; choose another key"
        assert text_of(app, "#footer").strip() == status(app)
        await pilot.press("j")
        assert status(app) == ""
    configured('theme = "drak"\n[keys]\ncancel = "esc"')
    app = make_app()
    async with app.run_test(size=SMALL):
        assert status(app) == "2 entries of config.toml cannot be used: finetui keys says why"


def test_the_command_lists_keys_and_says_what_is_wrong(
    finetui: Line, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    home = Home(tmp_path_factory.mktemp("keys"))
    monkeypatch.setenv("FINETUI_HOME", str(home.path))
    home.config.write_text('theme = "drak"\n[keys]\ncancel = "ctrl+x"\npause = "ctrl+x"\n')
    assert config.read(home.config).keys["cancel"] == "ctrl+x", "a daemon starts with it"
    said = finetui("keys", "run", "--json")
    rows = {row["action"]: row for row in json.loads(said.out)}
    assert rows["cancel"] == {
        "screen": "run", "action": "cancel", "keys": "ctrl+x", "default": "x",
        "does": "Cancel the run (asks first); it saves a checkpoint.",
    }  # fmt: skip
    assert rows["pause"]["keys"] == "p"
    assert said.err.count("problem: ") == 2
    assert "config.toml, key theme: there is no theme 'drak'; one of dark, colour-blind, light" in said.err
    assert "key keys.pause: on the screen dashboard ctrl+x is also cancel" in said.err
    found = doctor.config_check()
    assert found.verdict == "note"
    assert "keys.pause" in found.finding
