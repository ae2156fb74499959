"""The number of a new run. The daemon and programs that log their own runs take it under one lock, each number once."""

from __future__ import annotations

import re
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from finetui.home import Home
from finetui.lock import Lock

PENDING = "is being made"
WAIT_S = 60.0  # that others may take to make a run's directory


@contextmanager
def next_number(home: Home, least: int) -> Iterator[int]:
    """Give a number, `least` or higher, that nobody else gets. It is free again where the context ends by an exception.
    Raises OSError.
    """
    lock = Lock(home.numbers)
    with lock.held(WAIT_S) as is_ours:
        if not is_ours:
            raise TimeoutError(None, f"another process has had it for {WAIT_S:g} s", str(home.numbers))
        before = _given(home)
        number = max(least, before + 1)
        home.numbers.write_text(f"{number} {PENDING}\n")
        try:
            yield number
        except BaseException:
            with suppress(OSError):
                home.numbers.write_text(f"{before}\n")
            raise
        with suppress(OSError):  # else the next one looks whether there is a directory
            home.numbers.write_text(f"{number}\n")


def take(home: Home, above: int | None = None, wanted: int = 0) -> int:
    """Give such a number for good: it leaves a gap where it is not used. The one that is `wanted`, where it and all
    later ones are free. `above`: the highest of all runs that are there, where the caller knows it. Raises OSError.
    """
    last = last_number(home) if above is None else above
    with next_number(home, max(last + 1, wanted)) as number:
        return number


def note_given(home: Home, number: int) -> None:
    """Let nobody be given this number or a lower one any more. Raises OSError."""
    with Lock(home.numbers).held(WAIT_S):
        if _given(home) < number:
            home.numbers.write_text(f"{number}\n")


def last_number(home: Home) -> int:
    """Return the highest run number in the home, removed runs included, which may come back; 0 without runs."""
    highest = 0
    for directory in (home.runs, home.removed):
        with suppress(FileNotFoundError):
            found = (re.match("[0-9]{1,9}(?=-)", path.name) for path in directory.iterdir())
            highest = max([highest, *(int(number[0]) for number in found if number)])
    return highest


def _given(home: Home) -> int:
    """Return the highest number that was given. The file may have been written by hand, or never."""
    try:
        number, _, pending = home.numbers.read_text()[:100].partition(" ")
        given = int(number)
    except (OSError, ValueError):
        return 0
    # Whoever was killed meanwhile had made the directory, or had not.
    return given - 1 if pending and last_number(home) < given else given
