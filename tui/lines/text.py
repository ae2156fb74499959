"""Lines of styled text: what every pane is made of. Columns are those that Rich and with it Textual count.

A style is a name ("dim", "s0", "state-running"); `tui.lines.theme` says what it looks like.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from itertools import chain, count, repeat

from rich.cells import cell_len, chop_cells, get_character_cell_size, set_cell_size, split_graphemes

from engine.basics.safe_text import one_line

Span = tuple[str, str]
Line = list[Span]

# Code points looked at for each column that a text is cut to: a line of a log may have 64 KB.
_DEEPEST = 16
_ROUNDS = 4  # of telling names apart: each that is needed is one of names that are alike in more


def width_of(text: str) -> int:
    """Columns that a text takes."""
    return cell_len(text)


def is_even(text: str) -> bool:
    """Whether every character takes one column, as letters and curves do."""
    return text.isascii() or set(map(get_character_cell_size, text)) == {1}


def graphemes(text: str) -> Iterator[tuple[str, int]]:
    """What a reader takes for one character, a letter with its marks, and the columns of it: 0, 1 or 2."""
    if is_even(text):
        return zip(text, repeat(1))
    spans, _ = split_graphemes(text)
    return ((text[start:end], columns) for start, end, columns in spans)


def cut(text: str, width: int, ellipsis: str = "…") -> str:
    """The text in at most `width` columns, with an ellipsis where something is lost."""
    head = text[: _DEEPEST * max(0, width)]
    if len(head) == len(text) and width_of(text) <= width:
        return text
    if width <= 0:
        return ""
    return set_cell_size(head, width - 1) + ellipsis


def squeezed(text: str, width: int) -> str:
    """The text in at most `width` columns: its beginning and its end, which tells the runs of a sweep apart."""
    if width_of(text) <= width or width < 5:
        return cut(text, width)
    end, room = "", (width - 1) // 2
    for part, size in reversed(list(graphemes(text[-_DEEPEST * width :]))):
        if size > room:
            break
        end, room = part + end, room - size
    return set_cell_size(text[: _DEEPEST * width], width - 1 - width_of(end)) + "…" + end


def distinct(names: Iterable[str], width: int) -> dict[str, str]:
    """Each name in at most `width` columns, no two alike as far as there is room for that: cut in the middle, and those
    that would then look the same without what they begin with alike.
    """
    shown = {name: squeezed(name, width) for name in names}
    for _ in range(_ROUNDS):
        alike: dict[str, list[str]] = {}
        for name, short in shown.items():
            alike.setdefault(short, []).append(name)
        for same in alike.values():
            if len(same) > 1:
                shown |= _told_apart(same, width)
    return shown


def _told_apart(names: Sequence[str], width: int) -> dict[str, str]:
    """Names that begin alike, from the word on in which they differ; where that begins too early, from the letter."""
    shortest = min(map(len, names))
    differ = next((at for at in range(shortest) if len({name[at] for name in names}) > 1), shortest)
    word = max(names[0].rfind(mark, 0, differ) for mark in "/._ ") + 1
    start = word if differ - word < width // 2 - 2 else differ
    return {name: squeezed(f"…{name[start:]}", width) for name in names}


def left(text: str, width: int) -> str:
    """Exactly `width` columns, aligned left."""
    return set_cell_size(cut(text, width), max(0, width))


def right(text: str, width: int) -> str:
    """Exactly `width` columns, aligned right."""
    text = cut(text, width)
    return " " * (width - width_of(text)) + text


def centered(text: str, width: int) -> str:
    """At least `width` columns, in the middle."""
    return " " * ((width - width_of(text)) // 2) + text + " " * ((width - width_of(text) + 1) // 2)


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


def from_column(line: Line, start: int) -> Line:
    """What is right of a column; of a wide character that lies across it a blank is left."""
    if start <= 0:
        return line
    shown: Line = []
    for text, style in line:
        size = width_of(text)
        if start >= size:
            start -= size
            continue
        if is_even(text):
            shown.append((text[start:], style))
            start = 0
            continue
        kept, at = "", 0
        for grapheme, columns in graphemes(text):
            kept += grapheme if at >= start else " " * max(0, at + columns - start)
            at += columns
        shown.append((kept, style))
        start = 0
    return shown


def contains(line: Line, words: str) -> bool:
    """Whether a line has some words, whatever their case."""
    return words.casefold() in "".join(text for text, _ in line).casefold()


def places(lines: Sequence[Line], words: str, *, wrapped: bool) -> list[int]:
    """The lines that have some words; `wrapped`: also those where they begin and the next line goes on with them."""
    found = [contains(line, words) for line in lines]
    for at in range(len(lines) - 1) if wrapped and " " in words.strip() else ():
        both = " ".join("".join(text for text, _ in line).strip() for line in lines[at : at + 2])
        found[at] = found[at] or (not found[at + 1] and contains([(both, "")], words))
    return [at for at, has in enumerate(found) if has]


def marked(line: Line, words: str) -> Line:
    """The line with each place that has the words in the style `match`; a place across two styles stays as it is."""
    shown: Line = []
    for text, style in line:
        at = 0
        for found in re.finditer(re.escape(words), text, re.IGNORECASE) if words else ():
            shown += [(text[at : found.start()], style), (found[0], "match")]
            at = found.end()
        shown.append((text[at:], style))
    return [span for span in shown if span[0]]


def spread(start: Line, end: Line, width: int) -> Line:
    """`start` at the left edge, `end` at the right one; the start is cut when both do not fit."""
    room = max(0, width - line_width(end) - 1)
    return [*fit(start, room), (" ", ""), *end]


def broken(text: str, width: int) -> list[str]:
    """The text in pieces of at most `width` columns, wherever they end; a wider character is a piece of its own."""
    return [piece for piece in chop_cells(text, width) if piece] or [text]


def folded(text: str, width: int) -> list[str]:
    """One line in pieces of at most `width` columns, between words where they fit; its spaces are kept."""
    lines, room = [""], width
    for word in re.findall(r"\s|\S+", text):
        for part, size in parts(word, width):
            if size > room and lines[-1]:
                lines.append("")
                room = width
                if part == " ":
                    continue
            lines[-1] += part
            room -= size
    return lines


def block(text: str, width: int) -> list[str]:
    """Lines as written (code keeps its indentation), the long ones broken between words."""
    lines = [
        folded(one_line(line), max(1, width)) for line in (text or "").expandtabs(4).splitlines() or [""]
    ]
    return list(chain.from_iterable(lines))


def flow(spans: Iterable[Span], width: int) -> list[Line]:
    """A text of several styles as lines of at most `width` columns: as written, the long ones broken between words."""
    lines: list[Line] = [[]]
    room = width
    for text, style in spans:
        for word in re.findall(r"\n|[^\S\n]|\S+", text.expandtabs(4)):
            if word == "\n":
                lines.append([])
                room = width
                continue
            for part, size in parts(one_line(word), width):
                if size > room:
                    lines.append([])
                    room = width
                    if part == " ":
                        continue
                if lines[-1] and lines[-1][-1][1] == style:
                    part = lines[-1].pop()[0] + part
                lines[-1].append((part, style))
                room -= size
    return lines


def parts(word: str, width: int) -> Iterable[tuple[str, int]]:
    """The word and its columns, or its characters with theirs where it is wider than `width`."""
    size = width_of(word)
    return [(word, size)] if size <= width else graphemes(word)


def unique(names: Sequence[str]) -> list[str]:
    """Column names, those that came before with a number: `value`, `value_2`."""
    taken: list[str] = []
    for name in names:
        numbers = (f"{name}_{number}" for number in count(2))
        taken.append(next(new for new in chain([name], numbers) if new not in taken))
    return taken


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
