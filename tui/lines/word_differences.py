"""Two texts word by word: what only the one has, and what only the other."""

from __future__ import annotations

import re
from difflib import SequenceMatcher
from functools import lru_cache

MOST_WORDS = 2_000  # of a text that is compared; difflib takes the square of it
_WORDS = re.compile(r"\s+|\w+|[^\w\s]")

Piece = tuple[str, bool]  # a part of a text, and whether the other one has it there, too


@lru_cache(256)
def pieces(one: str, other: str) -> tuple[tuple[Piece, ...], tuple[Piece, ...]]:
    """Both texts in pieces."""
    old, new = _words(one), _words(other)
    of_one, of_other = list[Piece](), list[Piece]()
    for kind, i, j, k, m in SequenceMatcher(None, old, new, autojunk=False).get_opcodes():
        same = kind == "equal"
        if i < j:
            of_one.append(("".join(old[i:j]), same))
        if k < m:
            of_other.append(("".join(new[k:m]), same))
    return tuple(of_one), tuple(of_other)


def _words(text: str) -> list[str]:
    """Words, blanks and signs; the rest of a very long text is one piece."""
    found = _WORDS.findall(text)
    return found if len(found) <= MOST_WORDS else [*found[:MOST_WORDS], "".join(found[MOST_WORDS:])]
