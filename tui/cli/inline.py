"""Lines of styled text below the prompt: printed once, or drawn anew in their place until somebody leaves.

Neither the alternate screen nor a background: what is shown stays in the terminal's history, on whatever ground it has.
"""

from __future__ import annotations

import math
import os
import select
import shutil
import signal
import sys
import termios
import tty
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import NoReturn

from rich.style import Style
from rich.text import Text

from engine.basics.safe_text import one_line
from finetui.errors import StoreError
from finetui.home import home
from tui import preferences
from tui.cli.output import console, drawing_console
from tui.cli.patience import GONE, Patience
from tui.lines import theme
from tui.lines.text import Line, fit, line_width

# Shades of the screen's own ground; here the terminal's colour says as much.
_SHADES = {"", "text", "bright", "dim", "faint", "axis", "grid", "rule", "title", "cursor", "bar-rest"}
LEAVES = "q"
CONTINUED = "SIGCONT"  # in place of a key: after ctrl+z

Draw = Callable[[int, int], list[Line]]  # for so many columns and lines


def size() -> tuple[int, int]:
    """Columns and lines of the terminal; 80x24, or what COLUMNS and LINES say, where there is none."""
    found = shutil.get_terminal_size()
    return found.columns, found.lines


def print_lines(lines: list[Line]) -> None:
    """Print them once, as wide as they are."""
    theme.use(preferences.read(home()).theme)
    console().print(_text(lines, colour=has_colour()), highlight=False, crop=False, overflow="ignore")


def keep_drawing(draw: Draw, ended: Callable[[], bool], every_s: float) -> bool:
    """Draw again and again; True once `ended` says so, False where somebody left by q or ctrl+c. While no daemon
    answers, the last drawing stays, with a line that says so.
    """
    colour, patience = has_colour(), Patience()
    theme.use(preferences.read(home()).theme)
    shown: list[Line] = []
    place = _Place()
    with _keys() as pressed:
        try:
            while True:
                columns, rows = size()
                try:
                    shown = draw(columns, max(1, rows - 1))
                    patience.answered()
                    gone: list[Line] = []
                except StoreError as error:
                    patience.bear(error)
                    gone = [[(GONE, "warn")]]
                kept = [*shown[: max(0, rows - 1 - len(gone))], *gone]
                place.put([fit(line, columns - 1) for line in kept], columns, colour=colour)
                if not gone and ended():
                    return True
                key = pressed(every_s)
                if key == LEAVES:
                    return False
                if key == CONTINUED:  # what the shell has written since is not ours
                    place = _Place()
        except KeyboardInterrupt:
            return False
        finally:
            place.write("\n")


class _Place:
    """Where the lines stand that are drawn anew: what is below the cursor's line, counted up from it."""

    def __init__(self) -> None:
        self._console = drawing_console()
        self._widths: list[int] = []  # of the lines that stand there now

    def put(self, lines: list[Line], columns: int, *, colour: bool) -> None:
        """In place of what stands there. A terminal that has become narrower has broken those lines."""
        rows = sum(max(1, math.ceil(width / columns)) for width in self._widths)
        with self._console.capture() as drawn:
            self._console.print(_text(lines, colour=colour), end="", crop=False, overflow="ignore")
        up = f"\x1b[{rows - 1}A" if rows > 1 else ""
        self.write(f"\r{up}\x1b[J{drawn.get()}")
        self._widths = [line_width(line) for line in lines]

    def write(self, text: str) -> None:
        self._console.file.write(text)
        self._console.file.flush()


@contextmanager
def _keys() -> Iterator[Callable[[float], str]]:
    """Give a function that waits for a key, for so many seconds, and returns it; empty where none comes, and at once
    where the terminal has another size. Keys are not echoed meanwhile, and ctrl+c stays what it is; who is told to end
    leaves the terminal as it was.
    """
    stdin = sys.stdin.fileno() if sys.stdin.isatty() else None
    before = termios.tcgetattr(stdin) if stdin is not None else None
    woken, wake = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    wakes = {signal.SIGWINCH: _ignore, signal.SIGCONT: _ignore, signal.SIGTERM: _end}
    handlers = {number: signal.signal(number, handler) for number, handler in wakes.items()}
    before_wakeup = signal.set_wakeup_fd(wake, warn_on_full_buffer=False)

    def pressed(seconds: float) -> str:
        if stdin is not None:
            tty.setcbreak(stdin, termios.TCSANOW)
        ready = select.select([woken, *([] if stdin is None else [stdin])], [], [], seconds)[0]
        with suppress(BlockingIOError):
            # Whatever select says: a time that ended meanwhile hides a signal from it.
            if signal.SIGCONT in os.read(woken, 4096):
                return CONTINUED
        return os.read(stdin, 1).decode(errors="replace") if stdin in ready and stdin is not None else ""

    try:
        yield pressed
    finally:
        signal.set_wakeup_fd(before_wakeup)
        for number, handler in handlers.items():
            signal.signal(number, handler)
        for descriptor in (woken, wake):
            os.close(descriptor)
        if stdin is not None and before is not None:
            termios.tcsetattr(stdin, termios.TCSADRAIN, before)


def _ignore(number: int, frame: object) -> None:
    """Only to be woken by it."""


def _end(number: int, frame: object) -> NoReturn:
    sys.exit(128 + number)


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
