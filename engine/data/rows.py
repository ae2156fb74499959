"""Usable rows of a source with their row numbers, and unusable ones with the reason.

Unusable rows are skipped, counted and reported; too many of them refuse the run. Torch-free.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from engine.basics.errors import DataError
from engine.data import columns, sources
from engine.data.fields import EMPTY, Fields
from engine.data.formats import Document, Form, LeftOutError, to_document
from engine.data.json_text import parse_json_text
from engine.data.messages import plain_text
from engine.data.passages import passage_names
from engine.data.shingles import Entry, normalise
from engine.data.sources import RowNumber
from engine.recipe.sections import Data

PREVIEW = 100  # characters
BAD_SHARE = 0.05  # of a source's rows; with more, something is wrong with the source
SHOWN = 3  # reasons in a sentence
SHOWN_KEYS = 20  # of those that nothing reads


@dataclass(frozen=True)
class DroppedRow:
    """A row that is skipped."""

    row: RowNumber
    reason: str
    bad: bool = True  # it cannot be used; False: nothing is wrong with it, and it is not to be learned


@dataclass(frozen=True)
class Source:
    """The rows of a source."""

    role: str  # train, heldout, general, replay
    source: str
    fingerprint: sources.Fingerprint
    documents: list[Document]  # in the order of the source
    numbers: list[RowNumber]  # of each document
    dropped: list[DroppedRow]
    # Keys that nothing reads: how many documents have them.
    unread: Mapping[str, int] = field(default_factory=dict)
    notes: Sequence[str] = ()  # on what else is not read

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
            "unread": dict(self.unread),
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
    content, names, unread = sources.read(source), names or {}, Counter[str]()
    renamed_rows = columns.rename(content.rows, names, source)
    passage_column, passages = passage_names([raw.row for raw in renamed_rows])
    for raw, renamed, passage in zip(content.rows, renamed_rows, passages, strict=True):
        try:
            document, read_keys, unread_inside = _document(renamed, form)
        except DataError as error:
            dropped.append(DroppedRow(raw.number, str(error), bad=not isinstance(error, LeftOutError)))
            continue
        if passage:
            document, read_keys = replace(document, passage_of=passage), read_keys | {passage_column}
        documents.append(document)
        numbers.append(raw.number)
        read_keys = {columns.original(key, names) for key in read_keys}
        unread.update(k for k, value in raw.row.items() if value not in EMPTY and k not in read_keys)
        unread.update(unread_inside)
    if not documents:
        sentence = f"{sources.location(source, dropped[0].row)}: {dropped[0].reason}"
        raise DataError(f"{sentence} (and so none of its rows can be used)" if len(dropped) > 1 else sentence)
    return Source(role, source, content.fingerprint, documents, numbers, dropped, unread, content.notes)


def unread_note(source: Source) -> str:
    """Return the sentence about the keys that nothing reads; empty if there are none."""
    if not source.unread:
        return ""
    total = len(source.documents)
    keys = [
        f"`{key}` ({'all' if count == total else f'{count:,} of'} {total:,} rows)"
        for key, count in sorted(source.unread.items(), key=lambda item: -item[1])
    ]
    more = f" and {len(keys) - SHOWN_KEYS:,} others" if len(keys) > SHOWN_KEYS else ""
    which = "this key is" if len(keys) == 1 else "these keys are"
    return f"{source.source}: {which} not read, so nothing of it is learned: {', '.join(keys[:SHOWN_KEYS])}{more}"


def refusal_reason(source: str, dropped: Sequence[DroppedRow], rows: int) -> str:
    """Return why a source with so many bad rows is refused; empty if it is not."""
    bad = [row for row in dropped if row.bad]
    if len(bad) <= BAD_SHARE * rows:
        return ""
    return (
        f"{len(bad)} of {rows} rows cannot be used, which is more than {BAD_SHARE:.0%}: fix or remove them; "
        + describe_dropped(source, bad)
    )


def skip_note(source: str, dropped: Sequence[DroppedRow], rows: int) -> str:
    """Return the sentence about skipped rows, all of them bad ones or none, that do not refuse a run."""
    verb = "is" if len(dropped) == 1 else "are"
    what = f"cannot be used and {verb} skipped" if dropped[0].bad else f"{verb} left out"
    return f"{source}: {len(dropped)} of {rows} rows {what}: " + describe_dropped(source, dropped)


def describe_dropped(source: str, dropped: Sequence[DroppedRow]) -> str:
    """Return the first few reasons, each with its first row and how many others have it."""
    numbers_by_reason: dict[str, list[RowNumber]] = defaultdict(list)
    for row in dropped:
        numbers_by_reason[row.reason].append(row.row)
    shown = []
    for reason, numbers in list(numbers_by_reason.items())[:SHOWN]:
        others = len(numbers) - 1
        also = f" (and {others} more row{'s' if others > 1 else ''})" if others else ""
        shown.append(f"{_short_location(source, numbers[0])} {reason}{also}")
    return "; ".join(shown) + ("; …" if len(numbers_by_reason) > SHOWN else "")


def _short_location(source: str, number: RowNumber) -> str:
    if isinstance(number, str):
        return number
    return f"{sources.unit(source)} {number}"


def _document(raw: sources.RawRow, form: Form) -> tuple[Document, set[str], set[str]]:
    """Return a row's document, the keys of the row that it was made of, and those inside them that nothing reads."""
    if raw.error:
        raise DataError(raw.error)
    has_lists = form in ("chat", "pair", "general")
    fields = Fields(parse_json_text(raw.row, raw.columnar) if has_lists else raw.row)
    document = to_document(fields, form)
    if not _is_encodable(document):
        raise DataError("holds half of a surrogate pair, which no tokenizer takes; fix its encoding")
    return document, fields.read, fields.unread_inside


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
        "".join([document.label, *document.texts]).encode()
    except UnicodeEncodeError:
        return False
    return True
