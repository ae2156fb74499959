"""Every row of a source that can be used, with its line, and every other one with the reason.

A run stops at the first bad row (`engine.data.formats.to_documents`); here all of them are told at once.
Torch-free.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from engine.data import sources
from engine.data.formats import Document, Form, to_document
from engine.data.report.duplicates import Entry, normalise
from engine.data.sources import DataError

PREVIEW = 100  # characters


@dataclass(frozen=True)
class Dropped:
    """A row that cannot be used; `row` is its line (JSON Lines, CSV) or its number, from 1."""

    row: int
    reason: str


@dataclass(frozen=True)
class Source:
    """What a source holds."""

    role: str  # train, heldout, general, replay
    source: str
    unit: str  # what rows are counted by: line or row
    rows: int  # read
    documents: list[Document]  # in the order of the source
    numbers: list[int]  # of each document
    dropped: list[Dropped]

    def as_dict(self) -> dict[str, Any]:
        return {
            "role": self.role,
            "source": self.source,
            "unit": self.unit,
            "rows": self.rows,
            "used": len(self.documents),
            "dropped": [asdict(row) for row in self.dropped],
        }

    def places(self) -> dict[str, tuple[int, ...]]:
        """Content id to the numbers of all rows with that content."""
        found: dict[str, tuple[int, ...]] = {}
        for document, number in zip(self.documents, self.numbers, strict=True):
            found[document.id] = (*found.get(document.id, ()), number)
        return found

    def entries(self, documents: list[Document]) -> list[Entry]:
        """What the comparisons need of some of its documents, one entry for each distinct content."""
        places = self.places()
        distinct = {document.id: document for document in documents}.values()
        return [
            Entry(d.id, self.source, places[d.id], normalise(compared_text(d)), preview(d)) for d in distinct
        ]


def read(role: str, source: str, form: Form) -> Source:
    """Read a source; `form` says what its rows are.

    Raises DataError if it cannot be read at all or no row of it can be used.
    """
    unit = "line" if source.lower().endswith((".jsonl", ".csv")) and not _bundled(source) else "row"
    documents, numbers, dropped = list[Document](), list[int](), list[Dropped]()
    for number, row in _rows(source):
        where = f"{source}, {unit} {number}"
        try:
            if isinstance(row, DataError):
                raise row
            document = to_document(row, where, form)
            if not _encodes(document):
                raise DataError("holds half of a surrogate pair, which no tokenizer takes; fix its encoding")
            documents.append(document)
            numbers.append(number)
        except DataError as error:
            dropped.append(Dropped(number, str(error).removeprefix(f"{where}: ")))
    if not documents and dropped:
        raise DataError(
            f"{source}: none of its {len(dropped)} rows can be used; {unit} {dropped[0].row}: {dropped[0].reason}"
        )
    return Source(role, source, unit, len(documents) + len(dropped), documents, numbers, dropped)


def compared_text(document: Document) -> str:
    """What tells rows apart: every turn but the system's, which rows share; or the plain text."""
    turns = [m["content"] for m in document.messages if m["role"] != "system"]
    return "\n".join(turns) if turns else document.text


def preview(document: Document) -> str:
    """The row in one line."""
    parts = [" ".join(part.split()) for part in (document.prompt, document.target)]
    return " → ".join(part[:PREVIEW] for part in parts if part)


def _encodes(document: Document) -> bool:
    try:
        "".join([document.text, *(message["content"] for message in document.messages)]).encode()
    except UnicodeEncodeError:
        return False
    return True


def _bundled(source: str) -> bool:
    return source.startswith("bundled:")


def _rows(source: str) -> Iterator[tuple[int, dict[str, Any] | DataError]]:
    """(number, row or why there is none)."""
    suffix = "" if _bundled(source) else Path(source).suffix.lower()
    if suffix == ".jsonl":
        yield from _jsonl(source)
    elif suffix == ".csv":
        yield from _csv(source)
    else:
        yield from enumerate(sources.read_rows(source), start=1)


def _jsonl(source: str) -> Iterator[tuple[int, dict[str, Any] | DataError]]:
    empty = True
    for number, line in enumerate(sources.read_text(Path(source).expanduser()).split("\n"), start=1):
        if not line.strip():
            continue
        empty = False
        try:
            row = json.loads(line)
        except (ValueError, RecursionError) as error:
            why = (
                f"{error.msg}, column {error.colno}"
                if isinstance(error, json.JSONDecodeError)
                else str(error)
            )
            yield number, DataError(f"is not valid JSON ({why}); fix it")
            continue
        yield number, row if isinstance(row, dict) else DataError("must be a JSON object, in braces")
    if empty:
        raise DataError(f"{source}: has no rows; give a data set with at least two")


def _csv(source: str) -> Iterator[tuple[int, dict[str, Any] | DataError]]:
    """Numbers are those of a row's last line, as the csv module counts."""
    text = sources.read_text(Path(source).expanduser())
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    empty = True
    try:
        for row in reader:
            empty = False
            if None in row:
                yield reader.line_num, DataError("has more fields than the header; quote fields with commas")
            elif None in row.values():
                yield reader.line_num, DataError("has fewer fields than the header")
            else:
                yield reader.line_num, row
    except csv.Error as error:
        raise DataError(f"{source}, line {reader.line_num}: is not valid CSV ({error})") from None
    if empty:
        raise DataError(f"{source}: has no rows; give a data set with at least two")
