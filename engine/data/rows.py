"""Usable rows of a source with their row numbers, and unusable ones with the reason.

Unusable rows are skipped, counted and reported; too many of them refuse the run. Torch-free.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from engine.basics.errors import DataError
from engine.data import columns, sources
from engine.data.formats import Document, Form, to_document
from engine.data.messages import plain_text
from engine.data.shingles import Entry, normalise
from engine.data.sources import RowNumber
from engine.recipe.sections import Data

PREVIEW = 100  # characters
BAD_SHARE = 0.05  # of a source's rows; with more, something is wrong with the source
SHOWN = 3  # bad rows in a sentence


@dataclass(frozen=True)
class DroppedRow:
    """A row that cannot be used, and is skipped."""

    row: RowNumber
    reason: str


@dataclass(frozen=True)
class Source:
    """The rows of a source."""

    role: str  # train, heldout, general, replay
    source: str
    fingerprint: sources.Fingerprint
    documents: list[Document]  # in the order of the source
    numbers: list[RowNumber]  # of each document
    dropped: list[DroppedRow]

    @property
    def rows(self) -> int:
        return len(self.documents) + len(self.dropped)

    def as_dict(self) -> dict[str, Any]:
        return {
            "role": self.role,
            "source": self.source,
            "unit": sources.unit(self.source),
            "rows": self.rows,
            "used": len(self.documents),
            "dropped": [asdict(row) for row in self.dropped],
        }

    def for_learning(self, data: Data) -> Source:
        """Return the source as the recipe wants it learned; ids stay, and so does what is held out."""
        documents = self.documents
        if data.reasoning == "drop":
            documents = [document.without_reasoning() for document in documents]
        if data.history == "whole":
            documents = [replace(document, whole_history=True) for document in documents]
        return replace(self, documents=documents)

    def row_numbers(self) -> dict[str, tuple[RowNumber, ...]]:
        """Return content id to the numbers of all rows with that content."""
        numbers_by_id: dict[str, tuple[RowNumber, ...]] = {}
        for document, number in zip(self.documents, self.numbers, strict=True):
            numbers_by_id[document.id] = (*numbers_by_id.get(document.id, ()), number)
        return numbers_by_id

    def entries(self, documents: list[Document]) -> list[Entry]:
        """Return some of its documents as they are compared, one entry for each distinct content."""
        row_numbers = self.row_numbers()
        distinct = {document.id: document for document in documents}.values()
        return [
            Entry(
                d.id,
                self.source,
                row_numbers[d.id],
                normalise(compared_text(d)),
                preview(d),
                normalise(d.target) if d.messages else "",
            )
            for d in distinct
        ]


def read(role: str, source: str, form: Form, names: Mapping[columns.Column, str] | None = None) -> Source:
    """Read a source; `form`: the form of its rows; `names`: the user's names of its columns.

    Raises DataError if it cannot be read at all or no row of it can be used.
    """
    documents, numbers, dropped = list[Document](), list[RowNumber](), list[DroppedRow]()
    raw_rows = sources.read_rows(source)
    fingerprint = sources.fingerprint(source, raw_rows)
    for raw in columns.rename(raw_rows, names or {}, source):
        try:
            documents.append(_document(raw, form))
            numbers.append(raw.number)
        except DataError as error:
            dropped.append(DroppedRow(raw.number, str(error)))
    if not documents:
        sentence = f"{sources.location(source, dropped[0].row)}: {dropped[0].reason}"
        raise DataError(f"{sentence} (and so none of its rows can be used)" if len(dropped) > 1 else sentence)
    return Source(role, source, fingerprint, documents, numbers, dropped)


def refusal_reason(source: str, dropped: Sequence[DroppedRow], rows: int) -> str:
    """Return why a source with so many bad rows is refused; empty if it is not."""
    if len(dropped) <= BAD_SHARE * rows:
        return ""
    return (
        f"{len(dropped)} of {rows} rows cannot be used, which is more than {BAD_SHARE:.0%}: fix or remove them; "
        + describe_dropped(source, dropped)
    )


def skip_note(source: str, dropped: Sequence[DroppedRow], rows: int) -> str:
    """Return the sentence about bad rows that do not refuse a run."""
    one = len(dropped) == 1
    return (
        f"{source}: {len(dropped)} of {rows} rows cannot be used and {'is' if one else 'are'} skipped: "
        + describe_dropped(source, dropped)
    )


def describe_dropped(source: str, dropped: Sequence[DroppedRow]) -> str:
    """Return the first few dropped rows, each with its location and reason."""
    shown = [f"{_short_location(source, row.row)} {row.reason}" for row in dropped[:SHOWN]]
    return "; ".join(shown) + ("; …" if len(dropped) > SHOWN else "")


def _short_location(source: str, number: RowNumber) -> str:
    if isinstance(number, str):
        return number
    return f"{sources.unit(source)} {number}"


def _document(raw: sources.RawRow, form: Form) -> Document:
    if raw.error:
        raise DataError(raw.error)
    document = to_document(raw.row, form)
    if not _is_encodable(document):
        raise DataError("holds half of a surrogate pair, which no tokenizer takes; fix its encoding")
    return document


def compared_text(document: Document) -> str:
    """Return the text that rows are compared by: every turn but the system's, which rows share; or the plain text."""
    turns = [plain_text(m) for m in (*document.messages, *document.rejected[-1:]) if m["role"] != "system"]
    return "\n".join(turns) if turns else document.text


def preview(document: Document) -> str:
    """Return the row in one line, shortened."""
    parts = [" ".join(part.split()) for part in (document.prompt, document.target)]
    return " → ".join(part[:PREVIEW] for part in parts if part)


def _is_encodable(document: Document) -> bool:
    try:
        turns = map(plain_text, (*document.messages, *document.rejected))
        "".join([document.text, document.label, *turns]).encode()
    except UnicodeEncodeError:
        return False
    return True
