"""Text of others made safe to print: names, log lines, data, answers of a model, errors of a library.

A terminal obeys what is printed on it. One that prints a run's name as it is lets the name set the window's title, move
the cursor, or write a line that finetui never said. So all that a terminal is given goes through `one_line` or `lines`:
the command line in tui/cli/output.py, the screen in tui/widgets/panel.py. Imports nothing heavy.
"""

from __future__ import annotations

import re
import unicodedata

# ESC [ … letter, as output is coloured with: left out whole. Any other sequence loses its ESC, and so its meaning.
_COLOURS = re.compile(r"\x1b\[[0-?]*[ -/]*[@-~]")
# What may stay where finetui itself, or a library that it calls, colours its words and draws its progress.
_KEPT_IN_STREAMS = re.compile(r"(\x1b\[[0-9;:]*m|[\n\t\r])")
# Letters that a spreadsheet begins a formula with, where a cell does.
_FORMULA = re.compile(r"\s*[=+\-@＝＋－＠]|[\t\r]")
_PUNCTUATION = re.compile(r"[\\`*_\[\]<>&|~$#!]")


def one_line(text: str) -> str:
    """The text in one printable line: line breaks, tabs and other control characters are blanks.

    Joiners and marks of direction are left out: they have no width, no two terminals agree on them, and they can show
    words in another order than they have.
    """
    if text.isprintable():
        return text
    return "".join(char if char.isprintable() else _blank(char) for char in _COLOURS.sub("", text))


def lines(text: str) -> str:
    """The text with its line breaks and tabs, and no other control character."""
    if text.isprintable():
        return text
    shown = text.replace("\r\n", "\n").split("\n")
    return "\n".join("\t".join(map(one_line, line.split("\t"))) for line in shown)


def stream(text: str) -> str:
    """What is left of any text that is written to a terminal: `lines`, colours, and carriage returns."""
    if text.isprintable():
        return text
    parts = _KEPT_IN_STREAMS.split(text)  # text, kept, text, kept, …
    return "".join(part if at % 2 else one_line(part) for at, part in enumerate(parts))


def csv_cell(text: str) -> str:
    """The text as a cell that no spreadsheet takes for a formula: with `'` before it where one would. Numbers stay."""
    if not _FORMULA.match(text):
        return text
    try:
        float(text)
    except ValueError:
        return f"'{text}"
    return text


def markdown(text: str) -> str:
    """The text in one line of Markdown that shows it and does nothing else: no links, no HTML, no code, no cells."""
    shown = _PUNCTUATION.sub(r"\\\g<0>", one_line(text))
    shown = re.sub(r"(?<=\w)\\_(?=\w)", "_", shown)  # inside a word it means nothing
    return re.sub(r"(?i)(?<=:)(?=//)|(?<=www)(?=\.)", "\\\\", shown)  # else a bare address is a link


def markdown_code(text: str, *, in_table: bool = False) -> str:
    """The text as code within a line of Markdown, whatever backticks it has."""
    shown = one_line(text)
    if in_table:  # where a bar ends the cell, even within code
        shown = shown.replace("|", "\\|")
    fence = "`" * (1 + _longest_run(shown))
    room = " " if shown[:1] in ("`", " ", "") or shown[-1:] in ("`", " ") else ""
    return f"{fence}{room}{shown}{room}{fence}"


def markdown_block(text: str, language: str) -> list[str]:
    """Lines of Markdown that show a text as a block of code, whatever fences it has."""
    fence = "`" * max(3, 1 + _longest_run(text))
    return [f"{fence}{language}", lines(text), fence]


def _longest_run(text: str) -> int:
    return max(map(len, re.findall("`+", text)), default=0)


def _blank(char: str) -> str:
    return "" if unicodedata.category(char) == "Cf" else " "
