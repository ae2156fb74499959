"""Lines of styled text, free of any terminal library: what every pane is made of.

A style is a name ("dim", "s0", "state-running"); `tui.lines.theme` says what it looks like.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Sequence
from functools import lru_cache
from itertools import chain, count

Span = tuple[str, str]
Line = list[Span]


@lru_cache(4096)
def char_width(char: str) -> int:
    """Columns that a character takes: 0, 1 or 2."""
    if unicodedata.combining(char) or char in "\u200b\u200d\ufe0f":
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1


def width_of(text: str) -> int:
    """Columns that a text takes."""
    return len(text) if text.isascii() else sum(map(char_width, text))


def cut(text: str, width: int, ellipsis: str = "…") -> str:
    """The text in at most `width` columns, with an ellipsis where something is lost."""
    if width_of(text) <= width:
        return text
    if width <= 0:
        return ""
    room, kept = width - len(ellipsis), []
    for char in text:
        room -= char_width(char)
        if room < 0:
            break
        kept.append(char)
    return "".join(kept) + ellipsis


def left(text: str, width: int) -> str:
    """Exactly `width` columns, aligned left."""
    text = cut(text, width)
    return text + " " * (width - width_of(text))


def right(text: str, width: int) -> str:
    """Exactly `width` columns, aligned right."""
    text = cut(text, width)
    return " " * (width - width_of(text)) + text


def clean(text: str) -> str:
    """One printable line: control characters (escape sequences of a log, tabs) would break the screen."""
    return "".join(char if char.isprintable() else " " for char in text)


def line_width(line: Line) -> int:
    return sum(width_of(text) for text, _ in line)


def fit(line: Line, width: int, fill: str = "") -> Line:
    """Exactly `width` columns: cut with an ellipsis, or filled with blanks in the style `fill`."""
    room, fitted = width, []
    for text, style in line:
        size = width_of(text)
        if size > room:
            fitted.append((left(text, room), style))
            return fitted
        fitted.append((text, style))
        room -= size
    return [*fitted, (" " * room, fill)] if room else fitted


def spread(start: Line, end: Line, width: int) -> Line:
    """`start` at the left edge, `end` at the right one; the start is cut when both do not fit."""
    room = max(0, width - line_width(end) - 1)
    return [*fit(start, room), (" ", ""), *end]


def broken(text: str, width: int) -> list[str]:
    """The text in pieces of at most `width` columns, wherever they end."""
    pieces, room = [""], width
    for char in text:
        room -= char_width(char)
        if room < 0 and pieces[-1]:
            pieces.append("")
            room = width - char_width(char)
        pieces[-1] += char
    return pieces


def folded(text: str, width: int) -> list[str]:
    """One line in pieces of at most `width` columns, between words where they fit; its spaces are kept."""
    lines, room = [""], width
    for word in re.findall(r"\s|\S+", text):
        for part in [word] if width_of(word) <= width else word:
            size = width_of(part)
            if size > room and lines[-1]:
                lines.append("")
                room = width
                if part == " ":
                    continue
            lines[-1] += part
            room -= size
    return lines


def unique(names: Sequence[str]) -> list[str]:
    """Column names, those that came before with a number: `value`, `value_2`."""
    found: list[str] = []
    for name in names:
        numbers = (f"{name}_{number}" for number in count(2))
        found.append(next(new for new in chain([name], numbers) if new not in found))
    return found


def wrap(text: str, width: int) -> list[str]:
    """Words wrapped to `width` columns; a longer word is broken."""
    lines: list[str] = []
    for paragraph in text.splitlines() or [""]:
        current = ""
        for word in paragraph.split():
            if width_of(word) > width > 0:
                if current:
                    lines.append(current)
                    current = ""
                *whole, word = broken(word, width)
                lines += whole
            if current and width_of(current) + 1 + width_of(word) > width:
                lines.append(current)
                current = word
            else:
                current = f"{current} {word}" if current else word
        lines.append(current)
    return lines
