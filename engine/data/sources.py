"""Readers of data sets: `bundled:NAME`, a .jsonl, .json, .csv or .parquet file, a directory of them, or a hub id.

Torch-free, so that `finetui check` reads exactly what a run will read.
"""

from __future__ import annotations

import csv
import hashlib
import io
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from engine.basics.errors import DataError
from engine.bundled import catalogue
from finetui.errors import first_line

Row = dict[str, Any]
# A row's line (JSON Lines, CSV) or its number, from 1; in a directory `file:line`.
RowNumber = int | str

LARGEST_FIELD = 2**31 - 1  # characters of a CSV field; Python's own limit is 131,072
SUFFIXES = (".jsonl", ".json", ".csv", ".parquet")
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?")


@dataclass(frozen=True)
class RawRow:
    """A row as it stands in its source."""

    number: RowNumber
    row: Row
    error: str = ""  # why this row is broken, if the rest of the source can be read


@dataclass(frozen=True)
class Fingerprint:
    """What identifies the content of a source: a run on the same fingerprint saw the same data."""

    digest: str  # SHA-256 in hex, or the hub's fingerprint
    rows: int
    bytes: int


def read_rows(source: str) -> list[RawRow]:
    """Read every row of a source, in its order; a directory's files in the order of their names.

    Raises DataError if the source cannot be read whole (a line that is not valid JSON, say); never returns an
    empty list. A relative path starts at the working directory. A hub id needs the network and reads its split
    `train`.
    """
    if source.startswith("bundled:"):
        rows = _number_rows(_read_bundled(source))
    elif not _is_file(source):
        rows = _number_rows(list(_load_from_hub(source)))
    elif (path := Path(source).expanduser()).is_dir():
        rows = [
            RawRow(f"{file.name}:{raw.number}", raw.row, raw.error)
            for file in _files(path)
            for raw in _read_file(file)
        ]
    else:
        rows = list(_read_file(path))
    if not rows:
        raise DataError(f"{source}: has no rows; give a data set with at least two")
    return rows


def location(source: str, number: RowNumber) -> str:
    """Return a row's location for messages: `data.jsonl, line 3`, `data.json, row 3`, `folder/data.jsonl, line 3`."""
    if isinstance(number, str):
        name, _, number = number.rpartition(":")
        source = f"{source.rstrip('/')}/{name}"
    return f"{source}, {unit(source)} {number}"


def unit(source: str) -> str:
    """Return what rows are counted by: line or row."""
    lines = source.lower().endswith((".jsonl", ".csv")) and not source.startswith("bundled:")
    return "line" if lines else "row"


def number_order(number: RowNumber) -> tuple[str, int]:
    """Return the key to sort row numbers by."""
    name, _, line = str(number).rpartition(":")
    return name, int(line)


def fingerprint(source: str, rows: list[RawRow] | None = None) -> Fingerprint:
    """Return the fingerprint of a source: of a file's bytes, of all files' in a directory with their names, of
    bundled rows as JSON Lines. Raises DataError.

    `rows`: the result of `read_rows`, if the caller has it.
    """
    if not source.startswith("bundled:") and not _is_file(source):
        data = _load_from_hub(source)
        return Fingerprint(str(data._fingerprint), len(data), int(data.info.dataset_size or 0))
    rows = read_rows(source) if rows is None else rows
    path = Path(source).expanduser()
    if source.startswith("bundled:"):
        content = "".join(json.dumps(raw.row, sort_keys=True) + "\n" for raw in rows).encode()
    elif path.is_dir():
        digests = {file.name: hashlib.sha256(_bytes(file)).hexdigest() for file in _files(path)}
        size = sum(file.stat().st_size for file in _files(path))
        return Fingerprint(hashlib.sha256(json.dumps(digests).encode()).hexdigest(), len(rows), size)
    else:
        content = _bytes(path)
    return Fingerprint(hashlib.sha256(content).hexdigest(), len(rows), len(content))


def _is_file(source: str) -> bool:
    """Whether a source means a file; one that looks like neither a file nor a hub id is reported as a missing file."""
    path = Path(source).expanduser()
    return path.suffix.lower() in SUFFIXES or path.exists() or not _HUB_ID.fullmatch(source)


def _read_bundled(source: str) -> list[Row]:
    try:
        return catalogue.load(source)
    except (ValueError, KeyError) as error:
        raise DataError(f"{source}: {error.args[0] if error.args else error}") from None


def _number_rows(rows: list[Any]) -> list[RawRow]:
    return [_to_raw_row(number, row) for number, row in enumerate(rows, start=1)]


def _files(directory: Path) -> list[Path]:
    files = sorted(path for path in directory.iterdir() if path.suffix.lower() in SUFFIXES and path.is_file())
    if not files:
        raise DataError(f"{directory}: is a directory without files that end in {', '.join(SUFFIXES)}")
    return files


def _read_file(path: Path) -> Iterator[RawRow]:
    suffix = path.suffix.lower()
    if suffix == ".parquet":
        return iter(_number_rows(_read_parquet(path)))
    if path.exists() and suffix not in SUFFIXES:
        raise DataError(f"{path}: cannot tell the format; give a file that ends in {', '.join(SUFFIXES)}")
    text = _text(path)
    if suffix == ".csv":
        return _parse_csv(path, text)
    return _parse_jsonl(path, text) if suffix == ".jsonl" else iter(_number_rows(_parse_json(path, text)))


def _bytes(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        raise DataError(f"{path}: there is no such file; check the path in the recipe") from None
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror})") from None


def _text(path: Path) -> str:
    data = _bytes(path)
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise DataError(f"{path}, line {line}: is not UTF-8; convert the file to UTF-8") from None


def _parse_jsonl(path: Path, text: str) -> Iterator[RawRow]:
    for number, line in enumerate(text.split("\n"), start=1):
        if not line.strip():
            continue
        try:
            yield _to_raw_row(number, json.loads(line))
        except (ValueError, RecursionError) as error:
            raise DataError(
                f"{path}, line {number}: is not valid JSON ({_json_error_text(error)}); fix it"
            ) from None


def _parse_json(path: Path, text: str) -> list[Any]:
    if not text.strip():
        return []
    try:
        body = json.loads(text)
    except json.JSONDecodeError as error:
        hint = "; a file with one object per line is .jsonl: rename it" if error.msg == "Extra data" else ""
        raise DataError(f"{path}, line {error.lineno}: is not valid JSON ({error.msg}){hint}") from None
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}: is not valid JSON ({error})") from None
    if not isinstance(body, list):
        raise DataError(f"{path}: must hold a list of objects, not {_type_name(body)}")
    return body


def _parse_csv(path: Path, text: str) -> Iterator[RawRow]:
    """Yield rows numbered by their last line, as the csv module counts."""
    csv.field_size_limit(LARGEST_FIELD)
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    try:
        for row in reader:
            problem = ""
            if None in row:
                problem = "has more fields than the header; quote fields with commas"
            elif None in row.values():
                problem = "has fewer fields than the header"
            yield RawRow(reader.line_num, row, problem)
    except csv.Error as error:
        raise DataError(f"{path}, line {reader.line_num}: is not valid CSV ({error})") from None


def _read_parquet(path: Path) -> list[Row]:
    import pyarrow
    import pyarrow.parquet

    data = _bytes(path)
    try:
        return pyarrow.parquet.read_table(io.BytesIO(data)).to_pylist()
    except (pyarrow.ArrowException, OSError) as error:
        first = str(error).split("\n")[0]
        raise DataError(f"{path}: is not a readable Parquet file ({first})") from None


def _load_from_hub(source: str) -> Any:
    import datasets

    datasets.disable_progress_bars()
    try:
        return datasets.load_dataset(source, split="train")
    except Exception as error:
        # The library raises whatever its network stack raises; the first line says enough.
        raise DataError(
            f"{source}: no such file, and it cannot be loaded from the hub with a split `train` ({first_line(error)})"
        ) from None


def _to_raw_row(number: int, row: Any) -> RawRow:
    if isinstance(row, dict):
        return RawRow(number, row)
    return RawRow(number, {}, f'must be an object such as {{"messages": […]}}, not {_type_name(row)}')


def _type_name(value: Any) -> str:
    names = {dict: "an object", list: "a list", str: "a string", bool: "a truth value", type(None): "null"}
    return names.get(type(value), "a number")


def _json_error_text(error: Exception) -> str:
    return f"{error.msg}, column {error.colno}" if isinstance(error, json.JSONDecodeError) else str(error)
