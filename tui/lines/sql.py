"""SQL as far as an editor needs it: where texts, comments, names and numbers begin and end.

Pygments, which Textual brings along, has no lexer for DuckDB: those for SQL and PostgreSQL take `key`, `name`, `value`
and `method`, columns of our tables, for keywords, and know none of our names. The completion needs the same places.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

# What a statement that only reads is made of.
_WORDS = """
all and anti any as asc asof between by case cast cross describe desc distinct else end except exclude exists false
filter first from full group having ilike in inner intersect interval is join last lateral left like limit natural
not null nulls offset on or order outer over partition pivot positional preceding qualify recursive replace right
rows sample select semi show summarize table tables then true try_cast unbounded union unpivot using values when
where window with within"""
KEYWORDS = frozenset(_WORDS.split())

_TOKEN = re.compile(
    r"""
    (?P<comment>--[^\n]* | /\*.*?(?:\*/|\Z))
  | (?P<text>'(?:[^']|'')*(?:'|\Z))
  | (?P<name>"(?:[^"]|"")*(?:"|\Z) | [^\W\d]\w*)
  | (?P<number>\d[\d_]*(?:\.\d*)?(?:[eE][+-]?\d+)? | \.\d+)
    """,
    re.VERBOSE | re.DOTALL,
)


@dataclass(frozen=True)
class Token:
    """A piece of a query: a `comment`, a `text` in quotes, a `name`, a `keyword` or a `number`."""

    kind: str
    start: int
    end: int
    text: str


def tokens(sql: str) -> Iterator[Token]:
    for found in _TOKEN.finditer(sql):
        kind, text = str(found.lastgroup), found.group()
        yield Token("keyword" if text.lower() in KEYWORDS else kind, found.start(), found.end(), text)


def is_open(token: Token) -> bool:
    """Whether a text or comment has not ended: a cursor behind it is within it."""
    if token.kind == "text":
        return token.text.count("'") % 2 == 1
    if token.kind == "comment":
        return token.text.startswith("--") or not token.text.endswith("*/") or len(token.text) < 4
    return token.text.startswith('"') and token.text.count('"') % 2 == 1
