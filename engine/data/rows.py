"""Every row of a source that can be used, with where it stands, and every other one with the reason.

Rows that cannot be used are left out of a run, told and counted; too many of them refuse it. Torch-free.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from engine.basics.errors import DataError
from engine.data import columns, sources
from engine.data.formats import Document, Form, to_document
from engine.data.shingles import Entry, normalise
from engine.data.sources import RowNumber

PREVIEW = 100  # characters
BAD_SHARE = 0.05  # of a source's rows; with more, something is wrong with the source
SHOWN = 3  # bad rows in a sentence


@dataclass(frozen=True)
class Dropped:
    """A row that cannot be used."""

    row: RowNumber
    reason: str


@dataclass(frozen=True)
class Source:
    """What a source holds."""

    role: str  # train, heldout, general, replay
    source: str
    fingerprint: sources.Fingerprint
    documents: list[Document]  # in the order of the source
    numbers: list[RowNumber]  # of each document
    dropped: list[Dropped]

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

    def places(self) -> dict[str, tuple[RowNumber, ...]]:
        """Content id to the places of all rows with that content."""
        found: dict[str, tuple[RowNumber, ...]] = {}
        for document, number in zip(self.documents, self.numbers, strict=True):
            found[document.id] = (*found.get(document.id, ()), number)
        return found

    def entries(self, documents: list[Document]) -> list[Entry]:
        """What the comparisons need of some of its documents, one entry for each distinct content."""
        places = self.places()
        distinct = {document.id: document for document in documents}.values()
        return [
            Entry(
                d.id,
                self.source,
                places[d.id],
                normalise(compared_text(d)),
                preview(d),
                normalise(d.target) if d.messages else "",
            )
            for d in distinct
        ]


def read(role: str, source: str, form: Form, names: Mapping[columns.Column, str] | None = None) -> Source:
    """Read a source; `form` says what its rows are, `names` what its columns are called.

    Raises DataError if it cannot be read at all or no row of it can be used.
    """
    documents, numbers, dropped = list[Document](), list[RowNumber](), list[Dropped]()
    raws = sources.read_rows(source)
    print_ = sources.fingerprint(source, raws)
    for raw in columns.rename(raws, names or {}, source):
        try:
            documents.append(_document(raw, form))
            numbers.append(raw.number)
        except DataError as error:
            dropped.append(Dropped(raw.number, str(error)))
    if not documents:
        first = f"{sources.place(source, dropped[0].row)}: {dropped[0].reason}"
        raise DataError(f"{first} (and so none of its rows can be used)" if len(dropped) > 1 else first)
    return Source(role, source, print_, documents, numbers, dropped)


def too_many_bad(source: str, dropped: Sequence[Dropped], rows: int) -> str:
    """Why a source with so many bad rows is refused; empty if it is not."""
    if len(dropped) <= BAD_SHARE * rows:
        return ""
    return (
        f"{len(dropped)} of {rows} rows cannot be used, which is more than {BAD_SHARE:.0%}: fix or remove them; "
        + told(source, dropped)
    )


def left_out(source: str, dropped: Sequence[Dropped], rows: int) -> str:
    """What is said of bad rows that do not stop a run."""
    one = len(dropped) == 1
    return (
        f"{source}: {len(dropped)} of {rows} rows cannot be used and {'is' if one else 'are'} skipped: "
        + told(source, dropped)
    )


def told(source: str, dropped: Sequence[Dropped]) -> str:
    """The first few of them, each with its place and reason."""
    shown = [f"{_short_place(source, bad.row)} {bad.reason}" for bad in dropped[:SHOWN]]
    return "; ".join(shown) + ("; …" if len(dropped) > SHOWN else "")


def _short_place(source: str, number: RowNumber) -> str:
    if isinstance(number, str):
        return number
    return f"{sources.unit(source)} {number}"


def _document(raw: sources.Raw, form: Form) -> Document:
    if raw.wrong:
        raise DataError(raw.wrong)
    document = to_document(raw.row, form)
    if not _encodes(document):
        raise DataError("holds half of a surrogate pair, which no tokenizer takes; fix its encoding")
    return document


def compared_text(document: Document) -> str:
    """What tells rows apart: every turn but the system's, which rows share; or the text, without its label."""
    turns = [m["content"] for m in (*document.messages, *document.rejected[-1:]) if m["role"] != "system"]
    return "\n".join(turns) if turns else document.text


def preview(document: Document) -> str:
    """The row in one line."""
    parts = [" ".join(part.split()) for part in (document.prompt, document.target)]
    return " → ".join(part[:PREVIEW] for part in parts if part)


def _encodes(document: Document) -> bool:
    try:
        turns = [message["content"] for message in (*document.messages, *document.rejected)]
        "".join([document.text, document.label, *turns]).encode()
    except UnicodeEncodeError:
        return False
    return True
