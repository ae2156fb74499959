"""Copying, and reading a text whole."""

from __future__ import annotations

import subprocess
from collections.abc import Callable

import pytest
from made_home import Served
from pilot import ready, status, text_of, until

from tui import clipboard, commands
from tui.app import FinetuiApp
from tui.screens.reader import ReaderScreen

MakeApp = Callable[..., FinetuiApp]


@pytest.mark.parametrize(
    ("key", "what", "said"),
    [
        ("n", "3", "copied the number 3"),
        ("s", "#3 ", "copied what is said of #3"),
        ("p", "/000003-", "the path"),
    ],
)
async def test_what_is_copied_goes_to_the_terminal_and_to_a_file(
    make_app: MakeApp, served: Served, monkeypatch: pytest.MonkeyPatch, key: str, what: str, said: str
) -> None:
    monkeypatch.delenv("TMUX", raising=False)
    app = make_app([3])
    async with app.run_test(size=(80, 24)) as pilot:
        await ready(pilot)
        await pilot.press("Y")
        assert status(app) == "copy:   n number   s sentence   p path   v view"
        await pilot.press(key)
        await until(pilot, lambda: said in status(app), said)
        assert what in app.clipboard
        assert (served.home.path / "copied.txt").read_text() == app.clipboard
        assert (served.home.path / "copied.txt").stat().st_mode & 0o777 == 0o600
        await pilot.press("Y", "v")
        await until(pilot, lambda: "the screen shows" in status(app))
        assert "#3 " in app.clipboard
        await pilot.press("Y", "escape")
        assert status(app) == "nothing done"
        await pilot.press("Y", "x")  # no answer, and not the key that it is elsewhere
        assert status(app) == "nothing done"
        assert served.actions.asked == []


async def test_tmux_gets_a_buffer_since_it_drops_what_programs_copy(
    make_app: MakeApp, served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    given = []

    def tmux(words: list[str], **options: object) -> None:
        if "-w" in words:  # as a tmux before 3.2 does
            raise subprocess.CalledProcessError(1, words)
        given.append(options["input"])

    monkeypatch.setenv("TMUX", "/tmp/tmux/default,1,0")
    monkeypatch.setattr(clipboard.subprocess, "run", tmux)
    app = make_app([3])
    async with app.run_test(size=(80, 24)) as pilot:
        await ready(pilot)
        await pilot.press("Y", "n")
        await until(pilot, lambda: "copied" in status(app))
        assert given == [b"3"]
        assert app.clipboard == ""


async def test_all_there_is_on_a_run_is_read_whole(
    make_app: MakeApp, served: Served, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "a failure\n" + "word " * 60 + "end\n" + "\n".join(map(str, range(40)))
    monkeypatch.setattr(commands, "run", lambda home, *words: (text, []))
    app = make_app([3])
    async with app.run_test(size=(80, 24)) as pilot:
        await ready(pilot)
        await pilot.press("i")
        await until(pilot, lambda: isinstance(app.screen, ReaderScreen))
        await ready(pilot)
        assert "…" not in text_of(app, "#text")
        assert "word end" in text_of(app, "#text").replace("\n", "")
        await pilot.press("G")
        assert text_of(app, "#text").rstrip().splitlines()[-1].split()[0] == "39"
        await pilot.press("Y", "t")
        await until(pilot, lambda: "copied the text" in status(app))
        assert (served.home.path / "copied.txt").read_text() == text
        await pilot.press("escape")
        assert not isinstance(app.screen, ReaderScreen)
