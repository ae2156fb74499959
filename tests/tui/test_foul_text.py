"""No text of others makes the terminal do anything: every command and every screen on a home that is full of them."""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import made_home
import pytest
import typer.main
from foul_home import SHOWN_FOUL, dirt, fill, spoil
from made_home import Served
from pilot import ready, until
from textual.events import Paste

from engine.basics.safe_text import one_line
from finetui.errors import ExitCode, StoreError
from finetui.home import Home
from tui import cli
from tui.app import FinetuiApp
from tui.cli import exporting, guarded, output
from tui.cli.commands import app
from tui.cli.data import STYLES
from tui.screens.data import DataScreen
from tui.screens.fix import FixScreen
from tui.screens.sql import SqlScreen
from tui.widgets.panel import Panel

NAMES = set(typer.main.get_command(app).commands)  # type: ignore[attr-defined]
# Made of the parts of the others, and dear to start: a process with torch, three runs, a daemon.
ALONE = {"export", "doctor", "demo", "check", "daemon", "mcp", "snapshot", "store"}
RECIPE = """\
name: "mine\\e]2;x\\a\\nFORGED"
model: bundled:stdlib-2m
method: lora
data: {train: rows.jsonl, heldout: 8}
evals: {general: null}
train: {max_steps: 4, max_length: 48}
"""
COMMANDS = [
    "ls",
    "keys run",
    "show 1",
    "show 2",
    "show 2 --json",
    "logs 1",
    "examples 1",
    "examples 1 --json",
    "examples 1 --suite FOUL",
    "watch 2 --once",
    "watch 1 --once",
    "top --once",
    "top --json",
    "plot 1 2",
    "plot 1 2 --json",
    "completion bash",
    "compare 1 2",
    "compare 1 2 --json",
    "fix 1 --dry-run",
    "fix 2",
    "cancel 1",
    "pause 1",
    "resume 1",
    "requeue 1",
    "priority 1 2",
    "hold 1",
    "release 1",
    "start 1",
    "move 1 --before 2",
    "tag 1 --add x",
    "group x 1",
    "note 1 FOUL",
    "name 1 FOUL",
    "wait 1",
    "sweep 1",
    "pull nowhere",
    "import FOUL",
    "export-store FOUL",
    "export-curves 1 --tensorboard FOUL",
    "skill",
    "rm 1 --yes",
    "restore 1",
    "clean 1",
    "clone 1 FOUL=1",
    "edit 1 FOUL=1",
    "run my.yaml --follow",
    "run my.yaml FOUL=1",
    "estimate my.yaml",
    "data my.yaml seed=FOUL",
    "ls --state FOUL",
    "sql --csv FROM-flags",
    "sql SELECT-FOUL",
    "sql --json SELECT-FOUL",
    "sql --csv SELECT-FOUL",
    'sql SELECT-"FOUL"-FROM-runs',
]
# Their answers are errors here, and as foul as the rest.
CODES = dict.fromkeys(
    [
        "cancel",
        "pause",
        "resume",
        "requeue",
        "priority",
        "hold",
        "release",
        "start",
        "move",
        "tag",
        "note",
        "name",
        "rm",
        "group",
        "restore",
    ],
    ExitCode.REFUSED,
)
REFUSED = {
    "fix 2", "clone 1 FOUL=1", "edit 1 FOUL=1", "examples 1 --suite FOUL",
    "run my.yaml FOUL=1", "run my.yaml --follow", "data my.yaml seed=FOUL", "ls --state FOUL",
    'sql SELECT-"FOUL"-FROM-runs', "pull nowhere", "import FOUL", "export-store FOUL",
}  # fmt: skip


class Tty(io.StringIO):
    """A terminal, as far as a program can tell."""

    def isatty(self) -> bool:
        return True


PROCESS = {"pid": 7, "gpu": "gpu0", "run": 2, "user": "ada", "command": "python a.py", "gpu_gb": 1.0}
MACHINE = {
    "gpus": {"gpu0": spoil({"label": "a GPU", "runs": [2], "lost": None, "unknown": "why"})},
    "processes": [spoil(PROCESS | {"cpu_percent": 1.0, "ram_gb": 1.0})],
}


@pytest.fixture(scope="module")
def foul(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    home = Home(tmp_path_factory.mktemp("foul") / "h")
    fill(home)
    with made_home.served(home) as running:
        yield running


def on_terminal(words: list[str], patch: pytest.MonkeyPatch) -> tuple[int, str]:
    """Exit code, and all that the terminal was given."""
    terminal = Tty()
    patch.setattr("sys.stdout", terminal)
    patch.setattr("sys.stderr", terminal)
    patch.setattr("sys.argv", ["finetui", *words])
    with pytest.raises(SystemExit) as ended:
        cli.command()
    return int(ended.value.code or 0), terminal.getvalue()


@pytest.mark.parametrize("line", COMMANDS)
def test_no_command_passes_on_what_a_terminal_obeys(
    line: str, foul: Served, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def answer(name: str, body: dict[str, Any]) -> dict[str, Any]:
        if name in ("drain", "submit"):
            return {"run": 2}
        if name == "machine":
            return MACHINE
        raise StoreError(f"why {SHOWN_FOUL}", "queue")

    rows = [{"prompt": f"{i}{SHOWN_FOUL}", "completion": f"It is {i * i}.{SHOWN_FOUL}"} for i in range(40)]
    (tmp_path / "rows.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    (tmp_path / "my.yaml").write_text(RECIPE)
    foul.actions.answer = answer
    monkeypatch.setenv("FINETUI_HOME", str(foul.home.path))
    monkeypatch.setenv("COLUMNS", "2000")  # a table that is too wide breaks its cells
    monkeypatch.chdir(tmp_path)
    words = [word.replace("FOUL", SHOWN_FOUL) if word != "SELECT-FOUL" else word for word in line.split()]
    select = f"SELECT 'cell{SHOWN_FOUL}' AS \"column{SHOWN_FOUL}\""
    words = [select if word == "SELECT-FOUL" else word for word in words]
    words = [" ".join(word.split("-")) if word.startswith(("SELECT-", "FROM-")) else word for word in words]
    code, written = on_terminal(words, monkeypatch)
    assert "Traceback" not in written
    assert len(written) > 20, "it has said something"
    found = dirt(written)
    if code == ExitCode.USAGE:  # Typer repeats the user's own word in its own colours
        found = [one for one in found if one != "foreign colour"]
    assert found == []
    if words[0] != "logs" and "--csv" not in words:  # whose lines are those of the text
        assert "\nFORGED" not in written
    assert code == CODES.get(words[0], ExitCode.OK) or line in REFUSED


def test_every_command_is_tried() -> None:
    assert {line.split()[0] for line in COMMANDS} | ALONE == NAMES


def test_what_a_library_prints_is_made_safe_and_keeps_its_colours(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Tty()
    monkeypatch.setattr("sys.stdout", terminal)
    monkeypatch.setattr("sys.stderr", io.StringIO())
    guarded.guard_streams()
    guarded.guard_streams()  # once is enough
    sys.stdout.write(f"\x1b[1mbold\x1b[0m 10%\r20%\t{SHOWN_FOUL}\n")
    assert terminal.getvalue().startswith(
        "\x1b[1mbold\x1b[0m 10%\r20%\t< ]2;x \x1b[31m 1mabc  \rFORGED\nFORGED>\n"
    )
    assert not isinstance(sys.stderr, guarded.Guarded), "a file gets what is written to it"


WALKS = {
    (80, 24): [
        (*"123456", "m", "m", "x", "y", "p", "r"),
        ("enter", "j", "j", *"234567", "G", "escape"),
        ("X", "enter", "n", "G", "s", "escape", "escape"),
    ],
    (200, 50): [("m", "m"), ("c", "m", "m", "escape"), ("question_mark", "escape"), ("ctrl+p", "escape")],
}


@pytest.mark.parametrize("size", WALKS)
async def test_no_screen_shows_what_a_terminal_obeys(size: tuple[int, int], foul: Served) -> None:
    foul.actions.answer = lambda name, body: MACHINE if name == "machine" else _refuse(name, body)
    app = FinetuiApp(foul.home, [1, 2], connect=foul.connect, unicode=True)
    async with app.run_test(size=size) as pilot:
        await ready(pilot)
        clean(app)
        for keys in WALKS[size]:
            for key in keys:
                await pilot.press(key)
                await ready(pilot)
                clean(app)
        if size == (80, 24):
            return
        await _ask(app, pilot, f"SELECT 'cell{SHOWN_FOUL}' AS \"column{SHOWN_FOUL}\"")
        await _ask(app, pilot, f'SELECT "nowhere{SHOWN_FOUL}" FROM runs')
        for screen in (Fixed(2, f"name{SHOWN_FOUL}"), Reported(f"name{SHOWN_FOUL}")):
            app.push_screen(screen)
            await pilot.pause(0.1)
            assert "FORGED" in "".join(panel.text() for panel in screen.query(Panel))
            clean(app)


class Fixed(FixScreen):
    """With a fix that is there already."""

    def on_mount(self) -> None:
        one = {"flag": "overfitting", "level": "warn", "source": "s"}
        change = {**one, "key": "train.lr", "old": "1", "new": "2", "why": "because"}
        fix = {"name": "n", "changes": [change], "advice": [{**one, "text": "do"}], "recipe": "seed: 1\n"}
        self.show_fix(spoil(fix))


class Reported(DataScreen):
    """With a report that could not be made."""

    def begin(self) -> None:
        self.trouble = f"why {SHOWN_FOUL}"


def test_the_page_about_foul_data(monkeypatch: pytest.MonkeyPatch) -> None:
    terminal = Tty()
    monkeypatch.setattr("sys.stdout", terminal)
    lines = [f"  warning    {SHOWN_FOUL}", f"             \x1b[32m«{SHOWN_FOUL}»"]
    output.out_coloured("\n".join(map(one_line, lines)), STYLES)
    assert dirt(terminal.getvalue()) == []
    assert "\nFORGED" not in terminal.getvalue()
    assert terminal.getvalue().count("FORGED") == 4


def _refuse(name: str, body: dict[str, Any]) -> dict[str, Any]:
    raise StoreError(f"why {SHOWN_FOUL}", "queue")


async def _ask(app: FinetuiApp, pilot: Any, query: str) -> None:
    await pilot.press("colon")
    await until(pilot, lambda: isinstance(app.screen, SqlScreen))
    screen = app.screen
    assert isinstance(screen, SqlScreen)
    app.post_message(Paste(query))
    await until(pilot, lambda: "SELECT" in screen.query_one("#editor").text)  # type: ignore[attr-defined]
    clean(app)
    screen._fill(query)
    screen.do_execute()
    await until(pilot, lambda: screen.running is None)
    screen._fill("SELECT 1")
    await pilot.pause()
    clean(app)
    await pilot.press("escape")


def clean(app: FinetuiApp) -> None:
    """Every segment that is written, titles and prompts included."""
    strips = app.screen._compositor.render_strips()
    written = "\n".join("".join(segment.text for segment in strip) for strip in strips)
    assert dirt(written) == []


def test_what_the_process_of_an_export_prints_is_passed_on_as_it_comes(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    terminal = Tty()
    monkeypatch.setattr("sys.stderr", guarded.Guarded(terminal))
    (tmp_path / "printed").write_bytes(b"10%\r20%\r\nw\xc3\xb6r\xff\x1b]2;x\x07\x1b[1mbold")
    exporting._pass_on(os.open(tmp_path / "printed", os.O_RDONLY))
    assert terminal.getvalue() == "10%\r20%\r\nwör\ufffd ]2;x \x1b[1mbold"
