"""Data sets: `bundled:NAME`, a file that `readers` can read, a directory of them, or a hub id.

Torch-free, so that `finetui check` reads exactly what a run will read.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from pathlib import Path
from typing import TypeVar

from engine.basics.errors import DataError
from engine.bundled import catalogue
from engine.data import hub, readers
from engine.data.readers import RawRow, Row, RowNumber

T = TypeVar("T")
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*(/[\w.-]+)?")


@dataclass(frozen=True)
class Fingerprint:
    """What identifies the content of a source: a run on the same fingerprint saw the same data."""

    digest: str  # SHA-256 in hex, or the hub's fingerprint
    rows: int
    bytes: int


@dataclass(frozen=True)
class Content:
    """Everything in a source."""

    rows: list[RawRow]  # in its order; never empty
    fingerprint: Fingerprint
    notes: list[str] = field(default_factory=list)  # on what is not read besides keys of rows, in sentences


def read(source: str) -> Content:
    """Read a source whole; a directory's files in the order of their names.

    The fingerprint is of a file's bytes, of all files' in a directory with their names, of bundled rows as JSON
    Lines. A relative path starts at the working directory. A hub id needs the network, the first time at least, and
    reads its split `train`. Raises DataError if the source cannot be read whole (a line that is not valid JSON, say)
    or has no rows.
    """
    path = Path(source).expanduser()
    if source.startswith("bundled:"):
        content = _read_bundled(source)
    elif not _is_file(source):
        content = _read_hub(source)
    elif path.is_dir():
        content = _read_files([(file.name, file) for file in _files(path)], source)
    else:
        content = _read_file(path, str(path))
    if not content.rows:
        raise DataError(f"{source}: has no rows; give a data set with at least two")
    return content


def identity(source: str) -> str:
    """Return what tells the content of a source from any other, without parsing it. Raises DataError as `read` does.

    Bundled rows are made by this Python, and kept in a file.
    """
    path = Path(source).expanduser()
    if source.startswith("bundled:"):
        return _file_digest(_bundled(lambda: catalogue.data_path(source), source), source)
    if not _is_file(source):
        dataset = hub.find(source)
        if isinstance(dataset, hub.Table):
            return dataset.fingerprint
        files = dataset
    elif path.is_dir():
        files = [(file.name, file) for file in _files(path)]
    else:
        files = [("", path)]
    return _digest_of_files({name: _file_digest(file, name or str(path)) for name, file in files})


def is_local(source: str) -> bool:
    """Whether a source means a file or a folder, be it there or not."""
    return not source.startswith("bundled:") and _is_file(source)


def is_data_file(source: str) -> bool:
    """Whether a source has the name of a file that can be read, be it there or not."""
    return readers.is_data_file(source)


def location(source: str, number: RowNumber) -> str:
    """Return a row's location for messages: `data.jsonl, line 3`, `data.json, row 3`, `folder/data.jsonl, line 3`."""
    if isinstance(number, str):
        name, _, number = number.rpartition(":")
        source = f"{source.rstrip('/')}/{name}"
    return f"{source}, {unit(source)} {number}"


def unit(source: str) -> str:
    """Return what rows are counted by: line or row."""
    return "line" if readers.counts_lines(source) and not source.startswith("bundled:") else "row"


def number_order(number: RowNumber) -> tuple[str, int]:
    """Return the key to sort row numbers by."""
    name, _, line = str(number).rpartition(":")
    return name, int(line)


def _is_file(source: str) -> bool:
    """Whether a source means a file; one that looks like neither a file nor a hub id is reported as a missing file."""
    path = Path(source).expanduser()
    return readers.is_data_file(source) or path.exists() or not _HUB_ID.fullmatch(source)


def _read_bundled(source: str) -> Content:
    rows = _bundled(lambda: catalogue.load(source), source)
    body = "".join(json.dumps(row, sort_keys=True) + "\n" for row in rows).encode()
    return Content(_number_rows(rows), _fingerprint(body, len(rows)))


def _bundled(find: Callable[[], T], source: str) -> T:
    try:
        return find()
    except (ValueError, KeyError) as error:
        raise DataError(f"{source}: {error.args[0] if error.args else error}") from None


def _read_hub(source: str) -> Content:
    dataset = hub.find(source)
    if isinstance(dataset, hub.Table):
        rows = _number_rows(dataset.rows, columnar=True)
        return Content(rows, Fingerprint(dataset.fingerprint, len(rows), dataset.bytes))
    content = _read_files(dataset, source)
    if len(dataset) > 1:
        return content
    # A file has the same fingerprint wherever it lies.
    return replace(content, fingerprint=_fingerprint(_bytes(dataset[0][1], source), len(content.rows)))


def _number_rows(rows: Sequence[Row], columnar: bool = False) -> list[RawRow]:
    return [RawRow(number, row, columnar=columnar) for number, row in enumerate(rows, start=1)]


def _files(directory: Path) -> list[Path]:
    files = sorted(p for p in directory.iterdir() if readers.is_data_file(p.name) and p.is_file())
    if not files:
        raise DataError(
            f"{directory}: is a directory without files that end in {', '.join(readers.SUFFIXES)}"
        )
    return files


def _read_files(files: Sequence[tuple[str, Path]], source: str) -> Content:
    """Read the files of a source, by their names in it."""
    contents = {name: _read_file(path, f"{source.rstrip('/')}/{name}") for name, path in files}
    rows = [
        replace(raw, number=f"{name}:{raw.number}")
        for name, content in contents.items()
        for raw in content.rows
    ]
    parts = {name: content.fingerprint for name, content in contents.items()}
    digest = _digest_of_files({name: part.digest for name, part in parts.items()})
    fingerprint = Fingerprint(digest, len(rows), sum(part.bytes for part in parts.values()))
    return Content(rows, fingerprint, [note for content in contents.values() for note in content.notes])


def _read_file(path: Path, name: str) -> Content:
    data = _bytes(path, name)
    file = readers.parse(data, name)
    return Content(file.rows, _fingerprint(data, len(file.rows)), [f"{name}: {note}" for note in file.notes])


def _fingerprint(data: bytes, rows: int) -> Fingerprint:
    return Fingerprint(hashlib.sha256(data).hexdigest(), rows, len(data))


def _digest_of_files(digests: Mapping[str, str]) -> str:
    return hashlib.sha256(json.dumps(digests).encode()).hexdigest()


def _file_digest(path: Path, name: str) -> str:
    def digest() -> str:
        found = path.stat()
        return _digest_of_file(path, found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns)

    return _readable(digest, name)


@lru_cache(maxsize=100)
def _digest_of_file(path: Path, *unchanged: int) -> str:
    """Return the digest of a file; a large one is asked for several times, and read again only if it has changed."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _bytes(path: Path, name: str) -> bytes:
    return _readable(path.read_bytes, name)


def _readable(read: Callable[[], T], name: str) -> T:
    try:
        return read()
    except FileNotFoundError:
        raise DataError(f"{name}: there is no such file; check the path in the recipe") from None
    except OSError as error:
        raise DataError(f"{name}: cannot be read ({error.strerror})") from None
