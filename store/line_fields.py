"""Log lines as types: how their fields are read, written and documented. Imports nothing heavy.

A kind of line is a frozen dataclass with the kind's word in `kind`. A field is one line in it, type and meaning:

    step: Annotated[int, "optimiser step"]
    bytes: Annotated[int | None, "size on disk"] = None

The type says how a value is read (`_reader`), a default what a missing one or null stands for; a field without a
default is needed. Keys of a line that its type does not have are passed over.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import MISSING, dataclass
from pathlib import Path
from types import NoneType, UnionType
from typing import Annotated, Any, ClassVar, Protocol, TypeVar, Union, get_args, get_origin, get_type_hints

from finetui.log import last_entries, numbered

T = TypeVar("T")


class BadLine(Exception):  # noqa: N818
    """A line that cannot be used; `str()` says why."""


# Markers in annotations.
LEFT_OUT = object()  # not written where it is None; all other fields are, as null
_SMALL = object()

Small = Annotated[int, _SMALL]  # of 32 bits
Json = Any  # whatever the line has

HEADER = "header"  # kind of the first line of every log

# JSON with letters as they are; `json.dumps` makes an encoder at every call that asks for it.
as_json = json.JSONEncoder(ensure_ascii=False).encode


# ---- values --------------------------------------------------------------------------------------------


def whole(value: Any) -> int:
    """A 64-bit integer. Raises BadLine."""
    try:
        number = int(value)
    except (TypeError, ValueError, OverflowError):
        raise BadLine(f"{value!r} is not a whole number") from None
    if not -(2**63) <= number < 2**63:
        raise BadLine(f"{value!r} is too large")
    return number


def real(value: Any) -> float:
    """A float, NaN and infinities included. Raises BadLine."""
    try:
        return float(value)
    except (TypeError, ValueError, OverflowError):
        raise BadLine(f"{value!r} is not a number") from None


def small(value: Any) -> int:
    """A 32-bit integer. Raises BadLine."""
    number = whole(value)
    if abs(number) >= 2**31:
        raise BadLine(f"{value!r} is too large")
    return number


def text(value: Any) -> str:
    """Text as it is, anything else as JSON."""
    return value if isinstance(value, str) else as_json(value)


@dataclass(frozen=True)
class Among:
    """Marks text that is one of some words: Annotated[str, Among(frozenset({"a", "b"}))]."""

    words: frozenset[str]

    def read(self, value: Any) -> str:
        """The word. Raises BadLine."""
        if not isinstance(value, str) or value not in self.words:
            raise BadLine(f"{value!r} is none of {', '.join(sorted(self.words))}")
        return value


def maybe_whole(value: Any) -> int | None:
    return None if value is None else whole(value)


def maybe_real(value: Any) -> float | None:
    return None if value is None else real(value)


def maybe_small(value: Any) -> int | None:
    return None if value is None else small(value)


def maybe_text(value: Any) -> str | None:
    return None if value is None else text(value)


# Of lists, which are long: nearly all values are as they should be, and a call for each would cost.


def smalls(values: list[Any]) -> list[int]:
    return values if _are_small(values) else [small(value) for value in values]


def maybe_smalls(values: list[Any]) -> list[int | None]:
    return values if _are_small(values) else [maybe_small(value) for value in values]


def maybe_reals(values: list[Any]) -> list[float | None]:
    return values if set(map(type, values)) == {float} else [maybe_real(value) for value in values]


def _are_small(values: list[Any]) -> bool:
    return set(map(type, values)) == {int} and -(2**31) < min(values) <= max(values) < 2**31


# ---- fields --------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a kind of line, worked out from its annotation."""

    name: str
    read: Callable[[Any], Any]  # of a value that is not null; raises BadLine
    needed: bool
    left_out: bool
    parts: type | None  # the dataclass that its value, or each value in it, is
    type: str  # in words
    meaning: str


_FIELDS: dict[type, tuple[Field, ...]] = {}


def fields_of(kind: type) -> tuple[Field, ...]:
    """In the order in which they are written."""
    if kind not in _FIELDS:
        hints = get_type_hints(kind, include_extras=True)
        _FIELDS[kind] = tuple(_field(item, hints[item.name]) for item in dataclasses.fields(kind))
    return _FIELDS[kind]


def _field(item: dataclasses.Field[Any], hint: Any) -> Field:
    bare, *marks = get_args(hint) if get_origin(hint) is Annotated else (hint,)
    narrower = next((mark for mark in marks if mark is _SMALL or isinstance(mark, Among)), None)
    read, words, parts = _reader(Annotated[bare, narrower] if narrower else bare)
    needed = item.default is MISSING and item.default_factory is MISSING
    meaning = next((mark for mark in marks if isinstance(mark, str)), "")
    return Field(item.name, read, needed, LEFT_OUT in marks, parts, words, meaning)


def _reader(hint: Any) -> tuple[Callable[[Any], Any], str, type | None]:
    """How a value of this type is read, what the type is called, and the dataclass in it."""
    origin, arguments = get_origin(hint), get_args(hint)
    if origin in (Union, UnionType):
        return _reader(next(one for one in arguments if one is not NoneType))
    if origin is Annotated:
        among = next((mark for mark in arguments if isinstance(mark, Among)), None)
        return (among.read, "text", None) if among else (small, "whole number", None)
    if origin in (dict, list):
        of_each, words, part = _reader(arguments[-1])
        made = _object_of if origin is dict else _list_of
        return (
            made(of_each if part else None),
            f"{'object' if origin is dict else 'list'} of {_plural(words)}",
            part,
        )
    if dataclasses.is_dataclass(hint):
        own = getattr(hint, "from_log", None)  # where it has more than one form
        return own or (lambda value: read(hint, _mapping(value))), "object", hint  # type: ignore[return-value,arg-type]
    as_type, words = _PLAIN.get(hint, (_as_it_is, "any"))
    return as_type, words, None


def _plural(words: str) -> str:
    return {"any": "values", "text": "texts", "true/false": "true/false"}.get(words, f"{words}s")


def _as_it_is(value: Any) -> Any:
    return value


def _mapping(value: Any) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise BadLine("not an object")
    return value


def _object_of(of_each: Callable[[Any], Any] | None) -> Callable[[Any], Any]:
    """Values that are no objects of their own are left to who uses them: there may be many."""
    if of_each is None:
        return _mapping
    return lambda value: {key: of_each(inner) for key, inner in _mapping(value).items()}


def _list_of(of_each: Callable[[Any], Any] | None) -> Callable[[Any], Any]:
    def listed(value: Any) -> list[Any]:
        if not isinstance(value, list):
            raise BadLine("not a list")
        return value if of_each is None else [of_each(inner) for inner in value]

    return listed


_PLAIN: dict[type, tuple[Callable[[Any], Any], str]] = {
    int: (whole, "whole number"),
    float: (real, "number"),
    str: (text, "text"),
    bool: (bool, "true/false"),
}


# ---- lines ---------------------------------------------------------------------------------------------


def read(kind: type[T], entry: Mapping[str, Any], *, strict: bool = True) -> T:
    """The typed line of an entry. Raises BadLine if a field that is needed is missing, or a value is of another type.
    Without `strict`, such a value stands for the field's default, if it has one.
    """
    values = {}
    for name, read_value, needed in _PLANS.get(kind) or _plan(kind):
        value = entry.get(name)
        if value is None:
            if needed:
                raise BadLine(f"{name} is missing")
            continue
        try:
            values[name] = read_value(value)
        except BadLine as error:
            if strict or needed:
                raise BadLine(f"{name}: {error}") from None
    return kind(**values)


# What `read` needs of the fields: a rebuild reads millions of lines.
_PLANS: dict[type, list[tuple[str, Callable[[Any], Any], bool]]] = {}


def _plan(kind: type) -> list[tuple[str, Callable[[Any], Any], bool]]:
    _PLANS[kind] = [(field.name, field.read, field.needed) for field in fields_of(kind)]
    return _PLANS[kind]


def read_most(kind: type[T], entry: Mapping[str, Any]) -> tuple[T, list[str]]:
    """The typed line of an entry without the values that cannot be used, and what is wrong with them. Raises BadLine
    where a field that is needed is one of them.
    """
    try:
        return read(kind, entry), []
    except BadLine as error:
        return read(kind, entry, strict=False), [str(error)]


def body(line: Any) -> dict[str, Any]:
    """The fields of a line, or of a part of one, as they are written."""
    found = {}
    for field in fields_of(type(line)):
        value = getattr(line, field.name)
        if value is None and field.left_out:
            continue
        found[field.name] = value if field.parts is None else _plain(value)
    return found


def _plain(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _plain(inner) for key, inner in value.items()}
    if isinstance(value, list):
        return [_plain(inner) for inner in value]
    return body(value) if dataclasses.is_dataclass(value) else value


# ---- logs ----------------------------------------------------------------------------------------------


class Line(Protocol):
    """A dataclass of `lines` or `journal_lines`."""

    kind: ClassVar[str]


L = TypeVar("L", bound=Line)


class Writer(Protocol):
    """What `finetui.log.LogWriter` does."""

    def write(self, kind: str, *, sync: bool = False, **fields: Any) -> None: ...


def write(log: Writer, line: Line, *, sync: bool = False, t: float | None = None) -> None:
    """Append one line, of now or of `t`; with `sync`, return only when it is on disk. Raises OSError (disk full)."""
    log.write(line.kind, sync=sync, **({} if t is None else {"t": t}), **body(line))


@dataclass(frozen=True, slots=True)
class Bad:
    """A line that cannot be read, or one of whose values cannot be used."""

    line: int  # its number in the file, from 1
    why: str


def read_lines(
    path: Path, kinds: dict[str, type[L]], other: type[L] | None = None
) -> Iterator[tuple[float, L | Bad]]:
    """The lines of these kinds in a log, in order, each with its time (0.0: not known); lines of a kind that is not
    among them are passed over, or read as `other`. A line that cannot be read is Bad. So is one with a value that
    cannot be used; then comes the line with that field's default, unless the line needs the field. Empty where there
    is no file. Raises OSError.
    """
    for number, entry in numbered(path):
        if isinstance(entry, str):
            yield 0.0, Bad(number, entry)
            continue
        kind = kinds.get(str(entry.get("kind")), other)
        if kind is None or entry.get("kind") == HEADER:
            continue
        try:
            line, bad = read_most(kind, entry)
        except BadLine as error:
            yield 0.0, Bad(number, str(error))
            continue
        for why in bad:
            yield 0.0, Bad(number, why)
        yield _time(entry), line


def last_line(path: Path, kind: type[L]) -> L | None:
    """The last line of a kind near the end of a log; None if there is none that can be used."""
    entries = (entry for entry in last_entries(path) if entry.get("kind") == kind.kind)
    return next((line for entry in entries if (line := _lenient(kind, entry)) is not None), None)


def _lenient(kind: type[L], entry: dict[str, Any]) -> L | None:
    try:
        return read(kind, entry, strict=False)
    except BadLine:
        return None


def _time(entry: dict[str, Any]) -> float:
    try:
        return real(entry.get("t"))
    except BadLine:
        return 0.0
