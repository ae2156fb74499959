"""How grave each line of a log is. What a run prints is plain text of many libraries: a level is what a line itself
says, in the forms that are in use; a line that says none is `INFO`, and what belongs to a line has its level.
"""

from __future__ import annotations

import re
from enum import IntEnum


class Level(IntEnum):
    """As in Python's `logging`; critical and fatal count as errors."""

    DEBUG = 0
    INFO = 1
    WARNING = 2
    ERROR = 3


# What the screen goes through, and what it calls it.
SHOWN = {Level.DEBUG: "all", Level.WARNING: "warnings and errors", Level.ERROR: "errors"}

_NAMES = {
    "trace": Level.DEBUG, "debug": Level.DEBUG, "info": Level.INFO, "notice": Level.INFO, "warn": Level.WARNING,
    "warning": Level.WARNING, "error": Level.ERROR, "critical": Level.ERROR, "fatal": Level.ERROR,
}  # fmt: skip
_LETTERS = {"D": Level.DEBUG, "I": Level.INFO, "W": Level.WARNING, "E": Level.ERROR, "F": Level.ERROR}
_NAME = "(TRACE|DEBUG|INFO|NOTICE|WARNING|WARN|ERROR|CRITICAL|FATAL)"
_DEEPEST = 300  # characters of a line in which its level is looked for

# Patterns are compiled when the first line is read, and not before the first paint.
_COLOUR = r"\x1b\[[0-9;]*m"
_RANK = r"^\[[a-z]+\d+\]:\s?"  # torchrun: which process printed the line
_OWN = r"\d\d:\d\d:\d\d(?: \S+)?  (?=\S)"  # finetui's own: time, its zone (not in older logs), what, text
_PROGRESS = r"\s*\d+%\|"  # tqdm
_TRACEBACK = (
    r"[\s+|]*(?:Exception Group )?Traceback \(most recent call last\):|.*\(most recent call first\):$"
)
_CHAINED = r"During handling of the above exception|The above exception was the direct cause"
_FORMS = (
    rf"(?:[\W\d_]|(?<=\d)[TZ])*{_NAME}\b",  # behind a time and brackets, or nothing
    # behind names: logger - WARNING - text, | WARNING |, [INFO]
    rf".{{1,100}}?(?:\s-\s|\||\]|:|\[)\s*{_NAME}(?:\s+-\s|\s*\||\]|:)",
    r"(?i:(warning|error|fatal|critical))(?:\[[\w-]+\])?:",
    r"[^\s:]+(?::\d+)*:\s(?:fatal )?(error|warning):\s",  # compilers
    r'\{.*"(?:level|levelname|severity)":\s*"(\w+)"',
)
_GLOG = r"\[?([DIWEF])\d{4} \d\d:\d\d:\d\d"
_PYTHON_WARNING = r"(?:\S.*?:\d+: )?(?:\w+\.)*\w*Warning: "
_EXCEPTION = (
    r"(?:\w+\.)*\w*(?:Error|Exception|ExceptionGroup|Interrupt|SystemExit)(?::\s|:?$)|Fatal Python error:"
)


class LevelReader:
    """Says of each line, in their order, what level it has. A traceback is one with the error at its end, and an
    indented line with the line before it.
    """

    def __init__(self) -> None:
        self._level = Level.INFO
        self._in_traceback = False

    def of(self, line: str) -> Level:
        """The level of the next line."""
        text = re.sub(_RANK, "", re.sub(_COLOUR, "", line[:_DEEPEST])).rstrip()
        if not text:
            return self._level
        if re.match(_TRACEBACK, text):
            self._in_traceback, self._level = True, Level.ERROR
        elif not text[0].isspace():
            self._level = Level.ERROR if self._in_traceback else level_of(text)
            self._in_traceback = False
        elif re.match(_PROGRESS, text):
            self._level = Level.INFO
        return self._level


def level_of(text: str) -> Level:
    """The level that a line alone says, without colours; INFO where it says none."""
    if own := re.match(_OWN, text):
        return _own_level(text[own.end() :])
    if glog := re.match(_GLOG, text):
        return _LETTERS[glog[1]]
    for form in _FORMS:
        if named := re.match(form, text):
            return _NAMES.get(named[1].lower(), Level.INFO)
    if re.match(_PYTHON_WARNING, text):
        return Level.WARNING
    return Level.ERROR if re.match(_EXCEPTION, text) or re.match(_CHAINED, text) else Level.INFO


def _own_level(text: str) -> Level:
    """Of a line of the worker, behind its time: `warning     text`, `flag leak   warn: text`."""
    what, _, said = text.partition("  ")
    if what == "failed":
        return Level.ERROR
    if what.startswith("flag "):
        what = said.strip().partition(":")[0]
    return _NAMES.get(what, Level.INFO)
