"""What screens and actions may ask of the app: all that they know of it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from textual.screen import Screen

from finetui.home import Home
from tui.remembered import Remembered
from tui.rows import Request
from tui.state import ChartView, State


class Answer(NamedTuple):
    """One of the answers to a question: the key that gives it, what it is called, and what it does."""

    key: str
    label: str
    then: Callable[[], None]


class Host(Protocol):
    """The app, as seen from below."""

    home: Home
    home_name: str  # its path as people write it
    readonly: bool  # keys change no run and write no file
    ascii_only: bool  # the terminal cannot be trusted with any other character
    state: State
    remembered: Remembered

    def act(self, action: str) -> None:
        """Run an action of the binding table on the screen on top."""

    def want(self, requests: Iterable[Request]) -> None:
        """Which answers are needed from now on."""

    def in_thread(
        self,
        work: Callable[[Any], Any],
        then: Callable[[Any], None],
        failed: Callable[[str], None] | None = None,
    ) -> None:
        """`work(client)` in a thread, `then(result)` or `failed(sentence)` back in the app's."""

    def await_line(self) -> None:
        """A line to type in will be there soon: keys pressed until then are text for it."""

    def line_is_there(self) -> None:
        """It has the focus, or will not come: what was typed goes into it, or is forgotten."""

    def set_view(self, view: ChartView, sentence: str = "") -> None:
        """Draw the curves of every screen like this."""

    def use_theme(self, name: str) -> None:
        """Paint with the colours of a theme, now and in the next session."""

    def say(self, text: str, style: str = "text", keep: bool = False) -> None:
        """One sentence in the status line, for some seconds or until the next one; an empty one clears it."""

    def confirm(self, question: str, then: Callable[[], None]) -> None:
        """Ask in the status line; y or enter does it, every other key forgets it."""

    def choose(self, question: str, answers: Sequence[Answer]) -> None:
        """Ask in the status line what one of a few keys answers; every other key forgets it."""

    def copy(self, text: str, what: str) -> None:
        """Put a text where a paste takes it from, also over SSH and in tmux, and into a file; say so with `what`."""

    def remember(self, **values: Any) -> None:
        """Keep something for the next session, in a thread."""

    def open_screen(self, screen: Screen[None]) -> None: ...

    def leave_screen(self) -> None:
        """Back to the screen below."""

    def suspend_screen(self) -> None:
        """Leave the terminal to the shell until it brings this back."""

    def quit(self) -> None:
        """End the session; runs go on."""


def run_path(home: Home, number: int) -> Path | None:
    """Where a run is; None if it is gone."""
    from engine.runs.home import run_dirs

    return next((at.path for at in run_dirs(home) if at.number == number), None)


def path_or_say(host: Host, number: int) -> Path | None:
    """Where a run is; None, and a sentence that says so, if it is gone."""
    path = run_path(host.home, number)
    if path is None:
        host.say(f"the directory of run #{number} is gone", "bad")
    return path
