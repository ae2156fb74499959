"""Two answers to the same prompt, word by word: what only the first has, and what only the second."""

from __future__ import annotations

import re
from collections.abc import Sequence
from difflib import SequenceMatcher
from typing import Any

from tui.lines.text import Span

MOST_WORDS = 2_000  # of an answer that is compared; difflib takes the square of it


def at(rows: Sequence[dict[str, Any]], step: int) -> dict[str, Any] | None:
    """The last answer (rows of the named query `answers`) up to a step."""
    return next((row for row in reversed(rows) if row["step"] <= step), None)


def differences(before: str, after: str, *, marks: bool) -> tuple[list[Span], list[Span]]:
    """Both answers in pieces, those that differ in red and green; with `marks` as `[-gone-]` and `{+new+}`."""
    old, new = _words(before), _words(after)
    pieces: tuple[list[Span], list[Span]] = ([], [])
    for kind, i, j, k, m in SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        same = kind == "equal"
        for out, text, style, signs in (
            (pieces[0], "".join(old[i:j]), "bad", ("[-", "-]")),
            (pieces[1], "".join(new[k:m]), "good", ("{+", "+}")),
        ):
            if text:
                marked = f"{signs[0]}{text}{signs[1]}" if marks and not same else text
                out.append((marked, "text" if same else style))
    return pieces


def _words(text: str) -> list[str]:
    """Words, blanks and signs; the rest of a very long answer is one piece."""
    found = re.findall(r"\s+|\w+|[^\w\s]", text)
    return found if len(found) <= MOST_WORDS else [*found[:MOST_WORDS], "".join(found[MOST_WORDS:])]
