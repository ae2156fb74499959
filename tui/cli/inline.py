"""Lines of styled text below the prompt: printed once, or drawn anew in their place until somebody leaves.

Neither the alternate screen nor a background: what is shown stays in the terminal's history, on whatever ground it has.
"""

from __future__ import annotations

import os
import select
import shutil
import sys
import termios
import time
import tty
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.live import Live
from rich.style import Style
from rich.text import Text

from engine.basics.safe_text import one_line
from tui.cli.output import console, drawing_console
from tui.lines import theme
from tui.lines.text import Line, fit

# Shades of the screen's own ground; here the terminal's colour says as much.
_SHADES = {"", "text", "bright", "dim", "faint", "axis", "grid", "rule", "title", "cursor", "bar-rest"}
LEAVES = "q"

Draw = Callable[[int, int], list[Line]]  # for so many columns and lines


def size() -> tuple[int, int]:
    """Columns and lines of the terminal; 80x24, or what COLUMNS and LINES say, where there is none."""
    found = shutil.get_terminal_size()
    return found.columns, found.lines


def print_lines(lines: list[Line]) -> None:
    """Print them once, as wide as they are."""
    console().print(_text(lines, colour=has_colour()), highlight=False, crop=False, overflow="ignore")


def keep_drawing(draw: Draw, ended: Callable[[], bool], every_s: float) -> bool:
    """Draw again and again; True once `ended` says so, False where somebody left by q or ctrl+c."""
    colour = has_colour()
    with (
        _keys() as pressed,
        Live(console=drawing_console(), auto_refresh=False, vertical_overflow="crop") as live,
    ):
        try:
            while True:
                columns, rows = size()
                shown = draw(columns, max(1, rows - 1))
                live.update(_text([fit(line, columns - 1) for line in shown], colour=colour), refresh=True)
                if ended():
                    return True
                if pressed(every_s) == LEAVES:
                    return False
        except KeyboardInterrupt:
            return False


@contextmanager
def _keys() -> Iterator[Callable[[float], str]]:
    """Give a function that waits for a key, for so many seconds, and returns it; empty where none comes. Keys are not
    echoed meanwhile, and ctrl+c stays what it is.
    """
    if not sys.stdin.isatty():
        yield _pause
        return
    number = sys.stdin.fileno()
    before = termios.tcgetattr(number)
    try:
        tty.setcbreak(number)
        yield lambda seconds: _read(number) if select.select([number], [], [], seconds)[0] else ""
    finally:
        termios.tcsetattr(number, termios.TCSADRAIN, before)


def _read(number: int) -> str:
    return os.read(number, 1).decode(errors="replace")


def _pause(seconds: float) -> str:
    time.sleep(seconds)
    return ""


def has_colour() -> bool:
    """Whether the terminal has colours, and nobody said that it is not to be used."""
    shown = console()
    return shown.color_system is not None and not shown.no_color


def _text(lines: list[Line], *, colour: bool) -> Text:
    unicode = theme.terminal_has_unicode()
    whole = Text(no_wrap=True, end="")
    for at, line in enumerate(lines):
        if at:
            whole.append("\n")
        for text, name in line:
            safe = one_line(text)
            whole.append(safe if unicode else theme.to_ascii(safe), _style(name, colour))
    return whole


def _style(name: str, colour: bool) -> Style:
    plain = theme.style(name, color=False)
    if not colour or name in _SHADES:
        return plain
    return plain + Style(color=theme.style(name).color)
