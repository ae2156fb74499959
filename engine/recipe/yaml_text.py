"""YAML that somebody else wrote: read, or refused in one sentence, in a time that its size bounds.

A few lines of YAML can stand for millions of values: an alias repeats what an anchor names, and that may have aliases
itself. So the text is gone through as events first, which costs what its length costs, and the values that it stands
for are counted.
"""

from __future__ import annotations

import re
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError
from ruamel.yaml.events import (
    AliasEvent,
    MappingEndEvent,
    MappingStartEvent,
    ScalarEvent,
    SequenceEndEvent,
    SequenceStartEvent,
)

from finetui.errors import first_line

# A recipe with every key and a comment to each has some 10,000 characters, 150 values and four levels.
MOST_CHARACTERS = 100_000
MOST_VALUES = 5_000
DEEPEST = 20
MOST_WORDS = 200  # characters of what the reader complains of
_NOT_ALLOWED = re.compile(r"[^\t\n\r\x20-\x7e\x85\xa0-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")
_NO_TEXT = re.compile(r"[\0\ud800-\udfff]")  # which an escape (`"\0"`) can still write, and no file can hold


class BadYaml(Exception):  # noqa: N818
    """Why a text cannot be read; `line` is where, from 1, None where it is all of it."""

    def __init__(self, why: str, line: int | None = None) -> None:
        super().__init__(why)
        self.line = line


@dataclass
class _Open:
    """A list or mapping that has begun, and the values in it so far, those of aliases included."""

    anchor: str | None
    values: int = 1


def load(text: str, *, lines: bool = False) -> Any:
    """Return what a text stands for; with `lines`, as ruamel.yaml's types, which know their lines. Raises BadYaml."""
    _check_characters(text)
    try:
        _check_size(text)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of an anchor that is there twice: the later one counts
            return YAML(typ="rt" if lines else "safe", pure=True).load(text)
    except MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else None
        raise BadYaml(f"not valid YAML: {str(error.problem)[:MOST_WORDS]}", line) from None
    except BadYaml:
        raise
    except (
        Exception
    ) as error:  # a value that is not what its tag (`!!int x`) says: the reader fails in many ways
        raise BadYaml(f"not valid YAML: {first_line(error)[:MOST_WORDS]}", _line_of_bad_value(text)) from None


def _check_characters(text: str) -> None:
    if len(text) > MOST_CHARACTERS:
        raise BadYaml(f"longer than {MOST_CHARACTERS:,} characters, which is no recipe")
    if bad := _NOT_ALLOWED.search(text):
        line = text.count("\n", 0, bad.start()) + 1
        raise BadYaml(f"has the character U+{ord(bad[0]):04X}, which YAML does not allow; remove it", line)


def _check_size(text: str) -> None:
    """Raise BadYaml for too many values, or too many levels."""
    sizes: dict[str, int] = {}  # of what each anchor names
    levels: list[_Open] = [_Open(None)]
    for line, event in _events(text):
        match event:
            case SequenceStartEvent() | MappingStartEvent():
                levels.append(_Open(event.anchor))
                if len(levels) > DEEPEST + 1:
                    raise BadYaml(f"lists and sections are nested deeper than {DEEPEST} levels", line)
                continue
            case SequenceEndEvent() | MappingEndEvent():
                closed = levels.pop()
                anchor, size = closed.anchor, closed.values
            case ScalarEvent():
                if bad := _NO_TEXT.search(event.value):
                    raise BadYaml(f"has the character U+{ord(bad[0]):04X} in a text; remove it", line)
                anchor, size = event.anchor, 1
            case AliasEvent():
                if any(level.anchor == event.anchor for level in levels):
                    raise BadYaml(f"the alias *{event.anchor} stands inside of what it stands for", line)
                anchor, size = None, sizes.get(event.anchor, 1)
            case _:
                continue
        if anchor is not None:
            sizes[anchor] = size
        levels[-1].values += size
        if levels[-1].values > MOST_VALUES:
            raise BadYaml(f"stands for more than {MOST_VALUES:,} values, aliases written out", line)


def _line_of_bad_value(text: str) -> int | None:
    """Return where the first value stands that cannot be read by itself; the reader does not say."""
    for line, event in _events(text):
        if isinstance(event, ScalarEvent):
            try:
                YAML(typ="safe", pure=True).load(text[event.start_mark.index : event.end_mark.index])
            except MarkedYAMLError:
                continue
            except Exception:
                return line
    return None


def _events(text: str) -> Iterator[tuple[int, Any]]:
    """Yield every event with its line, from 1."""
    for event in YAML(typ="safe", pure=True).parse(text):
        yield event.start_mark.line + 1, event
