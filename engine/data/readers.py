"""Readers of files: JSON Lines, JSON, CSV, TSV, Parquet; compressed ones too. The same for local files and the hub's.

What a file says is taken as it stands: no string becomes a number or a date. Torch-free.
"""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import json
import lzma
import re
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from engine.basics.errors import DataError
from finetui.errors import first_line

Row = Mapping[str, Any]
# A row's line (JSON Lines, CSV) or its number, from 1; in a directory `file:line`.
RowNumber = int | str

LARGEST_FIELD = 2**31 - 1  # characters of a CSV field; Python's own limit is 131,072
_BY_LINE = (".jsonl", ".ndjson", ".csv", ".tsv")
SUFFIXES = (*_BY_LINE, ".json", ".parquet")
# Of CSV, the usual one first; in much of Europe a spreadsheet writes semicolons.
_SEPARATOR_NAMES = {",": "commas", ";": "semicolons", "\t": "tabs"}
# A JSON object that is a row and no wrapping of rows has one of these.
_CONVERSATIONS = {"messages", "conversations"}


@dataclass(frozen=True)
class RawRow:
    """A row as it stands in its source."""

    number: RowNumber
    row: Row
    error: str = ""  # why this row is broken, if the rest of the source can be read
    columnar: bool = False  # its file has columns, so that a list may stand in it as text


@dataclass(frozen=True)
class FileContent:
    """The rows of a file, and what else it has."""

    rows: list[RawRow]
    notes: list[str] = field(default_factory=list)  # about what is not read, to be put after its name


def is_data_file(name: str) -> bool:
    """Whether a file has a format that is read, by its name."""
    return _format(name) in SUFFIXES


def counts_lines(name: str) -> bool:
    """Whether the rows of a file are numbered by lines."""
    return _format(name) in _BY_LINE


def parse(data: bytes, name: str) -> FileContent:
    """Return the rows in a file's bytes. `name`: the file's, for its format and for messages. Raises DataError."""
    kind = _format(name)
    if kind not in SUFFIXES:
        raise DataError(
            f"{name}: cannot tell the format; give a file that ends in {', '.join(SUFFIXES)} "
            f"(and {', '.join(_COMPRESSED)}, if it is compressed)"
        )
    data = _decompress(data, name)
    if kind == ".parquet":
        return FileContent(
            [_to_raw_row(n, row, True) for n, row in enumerate(_parquet_rows(data, name), start=1)]
        )
    text = _decode(data, name)
    if kind == ".json":
        return _parse_json(text, name)
    if kind == ".csv":
        text, lines_before = _without_separator_line(text)
        return FileContent(list(_parse_csv(text, name, _separator(text), lines_before)))
    return FileContent(list(_parse_csv(text, name, "\t") if kind == ".tsv" else _parse_jsonl(text, name)))


# ---- bytes -------------------------------------------------------------------------------------------------


def _decompress_zstd(data: bytes) -> bytes:
    import pyarrow

    with pyarrow.CompressedInputStream(pyarrow.BufferReader(data), "zstd") as stream:
        return bytes(stream.read())


_COMPRESSED: dict[str, Callable[[bytes], bytes]] = {
    ".gz": gzip.decompress,
    ".bz2": bz2.decompress,
    ".xz": lzma.decompress,
    ".zst": _decompress_zstd,
}


def _format(name: str) -> str:
    path = Path(name.lower())
    return path.with_suffix("").suffix if path.suffix in _COMPRESSED else path.suffix


def _decompress(data: bytes, name: str) -> bytes:
    decompress = _COMPRESSED.get(Path(name.lower()).suffix)
    try:
        return decompress(data) if decompress else data
    except (OSError, EOFError, ValueError, zlib.error, lzma.LZMAError) as error:
        raise DataError(f"{name}: cannot be decompressed ({error})") from None


def _decode(data: bytes, name: str) -> str:
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise DataError(f"{name}, line {line}: is not UTF-8; convert the file to UTF-8") from None


# ---- JSON --------------------------------------------------------------------------------------------------


class TwiceError(ValueError):
    """An object has one key twice, so that one of the two values would be lost."""


def _no_key_twice(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    row = dict(pairs)
    if len(row) < len(pairs):
        keys = [key for key, _ in pairs]
        raise TwiceError(f"has the key `{next(key for key in keys if keys.count(key) > 1)}` twice")
    return row


DECODER = json.JSONDecoder(object_pairs_hook=_no_key_twice)
_SPACE = re.compile(r"[ \t\n\r]*")


def _parse_jsonl(text: str, name: str) -> Iterator[RawRow]:
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            yield _to_raw_row(number, DECODER.decode(line))
        except TwiceError as error:
            yield RawRow(number, {}, str(error))
        except (ValueError, RecursionError) as error:
            raise DataError(
                f"{name}, line {number}: is not valid JSON ({_json_error_text(error)}); fix it"
            ) from None


def _parse_json(text: str, name: str) -> FileContent:
    """Read a list of rows, an object around one, or, as in many files on the hub, one object after the other."""
    try:
        values = list(_json_values(text))
    except TwiceError as error:
        raise DataError(f"{name}: an object {error}") from None
    except json.JSONDecodeError as error:
        raise DataError(f"{name}, line {error.lineno}: is not valid JSON ({error.msg})") from None
    except (ValueError, RecursionError) as error:
        raise DataError(f"{name}: is not valid JSON ({error})") from None
    rows, notes = values, list[str]()
    if len(values) == 1:
        rows, notes = _rows_inside(values[0], name)
    return FileContent([_to_raw_row(number, row) for number, row in enumerate(rows, start=1)], notes)


def _json_values(text: str) -> Iterator[Any]:
    position = _SPACE.match(text).end()  # type: ignore[union-attr]  # it always matches
    while position < len(text):
        value, position = DECODER.raw_decode(text, position)
        yield value
        position = _SPACE.match(text, position).end()  # type: ignore[union-attr]


def _rows_inside(body: Any, name: str) -> tuple[list[Any], list[str]]:
    """Return the rows of a list, or of the one list of objects in an object, and notes on its other keys."""
    if isinstance(body, list):
        return body, []
    lists = (
        [
            key
            for key, value in body.items()
            if isinstance(value, list) and isinstance(next(iter(value), 0), dict)
        ]
        if isinstance(body, dict) and not _CONVERSATIONS & body.keys()
        else []
    )
    if not lists:
        raise DataError(f"{name}: must hold a list of objects, not {_type_name(body)}")
    if len(lists) > 1:
        keys = ", ".join(f"`{key}`" for key in lists)
        raise DataError(f"{name}: holds several lists of rows ({keys}); give each a file of its own")
    others = ", ".join(f"`{key}`" for key in body if key != lists[0])
    return body[lists[0]], [f"only the rows in its `{lists[0]}` are read, not {others}"] if others else []


def _to_raw_row(number: int, row: Any, columnar: bool = False) -> RawRow:
    if isinstance(row, dict):
        return RawRow(number, row, columnar=columnar)
    return RawRow(number, {}, f'must be an object such as {{"messages": […]}}, not {_type_name(row)}')


def _type_name(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "a string", bool: "a truth value", type(None): "null"}
    return names.get(type(value), "a number")


def _json_error_text(error: Exception) -> str:
    return f"{error.msg}, column {error.colno}" if isinstance(error, json.JSONDecodeError) else str(error)


# ---- tables ------------------------------------------------------------------------------------------------


def _parse_csv(text: str, name: str, separator: str, lines_before: int = 0) -> Iterator[RawRow]:
    """Yield rows numbered by their last line, as the csv module counts."""
    csv.field_size_limit(LARGEST_FIELD)
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True, delimiter=separator)
    try:
        header = list(reader.fieldnames or ())
        if twice := next((column for column in header if header.count(column) > 1), None):
            raise DataError(f"{name}: has two columns `{twice}`; rename one of them")
        for row in reader:
            problem = ""
            if None in row:
                problem = f"has more fields than the header; quote fields with {_SEPARATOR_NAMES[separator]}"
            elif None in row.values():
                problem = "has fewer fields than the header"
            yield RawRow(reader.line_num + lines_before, row, problem, columnar=True)
    except csv.Error as error:
        line = reader.line_num + lines_before
        kind = _format(name).removeprefix(".").upper()
        raise DataError(f"{name}, line {line}: is not valid {kind} ({error})") from None


def _without_separator_line(text: str) -> tuple[str, int]:
    """Take off the line `sep=;` with which a file may begin for a spreadsheet; return how many lines went."""
    begin = re.match(r"sep=.\r?\n", text, re.IGNORECASE)
    return (text[begin.end() :], 1) if begin else (text, 0)


def _separator(text: str) -> str:
    """Return what separates the fields: that which makes most of the header, a comma if there is no other."""

    def count(separator: str) -> int:
        try:
            return len(next(csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True), []))
        except csv.Error:  # quotes end elsewhere than its fields
            return 0

    return max(_SEPARATOR_NAMES, key=count)


def _parquet_rows(data: bytes, name: str) -> list[Row]:
    import pyarrow
    import pyarrow.parquet

    try:
        return list[Row](pyarrow.parquet.read_table(io.BytesIO(data)).to_pylist())
    except (pyarrow.ArrowException, OSError) as error:
        raise DataError(f"{name}: is not a readable Parquet file ({first_line(error)})") from None
