"""What may come next in a query: pure, so that a test can ask it, and fast, since it is asked at every key."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from tui.lines.sql import KEYWORDS, Token, is_open, tokens

MOST = 200  # suggestions; who wants another types a letter more
_WORD = re.compile(r"\w*\Z")
_TABLE_COMES = {"from", "join", "describe", "summarize"}
_VALUE_COMES = {
    "select", "distinct", "where", "and", "or", "not", "on", "by", "having", "qualify", "case", "when", "then", "else",
    "between",
}  # fmt: skip
_OPERATORS = ("(", ",", "=", "<", ">", "+", "-", "*", "/", "%", "|")
_COMPARED = re.compile(
    r"""(\w+)\s*(?:=|==|!=|<>|\b(?:not\s+)?(?:in|like|ilike)\b)\s*\(?(?:[^()]*,)?\s*\Z""", re.I
)


@dataclass(frozen=True)
class Item:
    """A name that can be inserted: what it is, and what is said of it."""

    name: str
    kind: str  # table, view, macro, column, function, keyword, value
    about: str = ""
    table: str = ""  # of a column

    @property
    def insert(self) -> str:
        return f"{self.name}(" if self.kind in ("macro", "function") else self.name


@dataclass(frozen=True)
class Names:
    """All that is known: `values` are the texts that a column has, by its name (`key`: `train/loss`, `train.lr`)."""

    items: tuple[Item, ...] = ()
    values: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    def known(self, word: str) -> Item | None:
        """What a name is, tables before columns."""
        found = [item for item in self.items if item.name.lower() == word.lower()]
        order = ("table", "view", "macro", "column", "function", "keyword")
        return min(found, key=lambda item: order.index(item.kind), default=None)


@dataclass(frozen=True)
class Suggestions:
    """Names for the text from `start` to the cursor."""

    start: int
    items: tuple[Item, ...]


def suggest(sql: str, at: int, names: Names, *, asked: bool = False) -> Suggestions | None:
    """What fits at an offset; None where nothing does. Unless `asked` for, a word must have begun."""
    before = list(tokens(sql[:at]))
    last = before[-1] if before and before[-1].end == at else None
    if last and is_open(last) and last.kind != "name":
        return _in_quotes(sql, at, last, names) if last.kind == "text" else None
    if last and last.kind in ("number", "text"):
        return None
    start = at - len(_WORD.findall(sql[:at])[0])
    word, behind_dot = sql[start:at], sql[:start].endswith(".")
    if not word and not behind_dot and not asked:
        return None
    earlier = [token for token in before if token.end <= start]
    found = _ranked(word, _candidates(sql, start, earlier, behind_dot, names))
    found = [item for item in found if item.name != word] if len(found) > 1 or not asked else found
    exact = any(item.name.lower() == word.lower() for item in _ranked(word, names.items))
    if not found or (exact and not asked):
        return None
    return Suggestions(start, tuple(found[:MOST]))


def _in_quotes(sql: str, at: int, text: Token, names: Names) -> Suggestions | None:
    """Within quotes: values of the column that they are compared with, else names of metrics and parameters."""
    start = text.start + 1
    compared = _COMPARED.search(sql[: text.start])
    column = compared.group(1).lower() if compared else "key"
    values = names.values.get(column, ()) if compared else names.values.get("key", ())
    word = sql[start:at]
    found = _ranked(word, [Item(value, "value", f"a value of {column}") for value in values if value != word])
    return Suggestions(start, tuple(found[:MOST])) if found and word not in values else None


def _candidates(sql: str, start: int, earlier: list[Token], behind_dot: bool, names: Names) -> Iterable[Item]:
    """In the order in which they are likely."""
    used = _tables_of(list(tokens(sql)), names)
    if behind_dot:
        owner = earlier[-1].text.lower() if earlier and earlier[-1].end == start - 1 else ""
        return [
            item for item in names.items if item.kind == "column" and item.table == used.get(owner, owner)
        ]
    tables = [item for item in names.items if item.kind in ("table", "view", "macro")]
    if earlier and earlier[-1].text.lower() in _TABLE_COMES and not sql[earlier[-1].end : start].strip():
        return tables
    columns = [item for item in names.items if item.kind == "column"]
    near = [item for item in columns if item.table in used.values()]
    far = [item for item in columns if item.table not in used.values()]
    functions = [item for item in names.items if item.kind == "function"]
    if _value_comes(sql, start, earlier):
        return [*near, *far, *_keywords(), *tables, *functions]
    return [*near, *_keywords(), *far, *tables, *functions]


def _value_comes(sql: str, start: int, earlier: list[Token]) -> bool:
    """Whether a column may stand here, rather than the next keyword."""
    before = sql[:start].rstrip()
    if before.endswith(_OPERATORS):
        return True
    return bool(earlier) and earlier[-1].end == len(before) and earlier[-1].text.lower() in _VALUE_COMES


def _keywords() -> list[Item]:
    return [Item(word.upper(), "keyword") for word in sorted(KEYWORDS)]


def _tables_of(found: list[Token], names: Names) -> dict[str, str]:
    """The tables that a query names, by their names and by what it calls them: FROM runs r, JOIN evals AS e."""
    tables = {item.name.lower() for item in names.items if item.kind in ("table", "view", "macro")}
    used: dict[str, str] = {}
    for at, token in enumerate(found):
        table = token.text.lower()
        if token.kind != "name" or table not in tables:
            continue
        used[table] = table
        behind = found[at + 1 : at + 3]
        if behind and behind[0].text.lower() == "as":
            behind = behind[1:]
        if behind and behind[0].kind == "name":
            used[behind[0].text.lower()] = table
    return used


def _ranked(word: str, items: Iterable[Item]) -> list[Item]:
    """Those that begin with a word, then those that have it within; each name once. A keyword in the word's case."""
    wanted = word.lower()
    starts: dict[str, Item] = {}
    within: dict[str, Item] = {}
    for item in items:
        name = item.name.lower()
        if name.startswith(wanted):
            starts.setdefault(name, item)
        elif wanted in name and len(wanted) > 1 and item.kind not in ("keyword", "function"):
            within.setdefault(name, item)
    found = [*starts.values(), *(item for name, item in within.items() if name not in starts)]
    if word and word == wanted:
        found = [
            Item(item.name.lower(), item.kind, item.about) if item.kind == "keyword" else item
            for item in found
        ]
    return found
