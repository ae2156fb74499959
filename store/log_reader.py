"""Reads one log on from where it was left, line by line into the batch."""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from store import rows
from store.known import JOURNAL_NAME, Known
from store.line_fields import BadLine
from store.lines import Header, Resume
from store.logs import Line, header_id, parse, time_before, whole_lines
from store.writing import Writer

log = logging.getLogger(__name__)

Use = Callable[[dict[str, Any]], list[str]]  # of one line; returns what is left out of it, in words


class Replaced(Exception):  # noqa: N818
    """A log has another identity than the one that was read from its place."""


class LogReader:
    """Of one home."""

    def __init__(self, home: Path, known: Known, writer: Writer) -> None:
        self._prefix = f"{home}/"
        self._known = known
        self._writer = writer
        self._complained: set[Path] = set()

    def relative(self, path: Path) -> str:
        return str(path).removeprefix(self._prefix)

    def read(self, path: Path, run: int | None, attempt: int | None, use: Use) -> bool:
        """Read on from where it was left; whether there was anything new. One bad file stops no other. Raises
        Replaced.
        """
        try:
            grew = self._read_on(path, run, attempt, use)
            if self._complained and path in self._complained:
                self._complained.discard(path)
                self._known.damaged.pop(run, None)
            return grew
        except OSError as error:
            if path not in self._complained:
                self._complained.add(path)
                log.warning("%s cannot be read: %s", path, error)
                what = f"{self.relative(path)} cannot be read: {error.strerror}"
                self._known.damaged.setdefault(run, what)
            return False

    def _read_on(self, path: Path, run: int | None, attempt: int | None, use: Use) -> bool:
        known, relative = self._known, self.relative(path)
        identity = known.ids.get(relative)
        try:
            size = path.stat().st_size
        except FileNotFoundError:
            return False
        if identity is not None and size in (known.offsets.get(identity), known.sizes.get(relative)):
            return False
        found = header_id(path)
        if found is None:
            return False
        log_id = found or f"path:{relative}"
        before, identity = identity, log_id if run is None else f"{run}.{attempt or 0}/{log_id}"
        if run is not None and (before not in (None, identity) or self._is_strange(path, run, identity)):
            raise Replaced
        known.ids[relative] = identity
        known.sizes[relative] = size
        offset = known.offsets.get(identity, 0)
        grew = False
        for line in whole_lines(path, offset):
            self._use_line(line, path, run, attempt, use)
            known.offsets[identity] = line.end
            self._writer.batch.offsets[identity] = (relative, line.end)
            grew = True
            if self._writer.batch.resumes and run is not None:
                self._writer.flush(known)
                known.states[run].summaries = None  # taken back in the tables
                known.present.pop(run, None)
            elif self._writer.is_full:
                self._writer.flush(known, partial(self._set_aside, line, path, run, attempt))
        return grew

    def _is_strange(self, path: Path, run: int, identity: str) -> bool:
        """Whether a journal is another one than this run had."""
        return path.name == JOURNAL_NAME and self._known.journals.setdefault(run, identity) != identity

    def _use_line(self, line: Line, path: Path, run: int | None, attempt: int | None, use: Use) -> None:
        if not line.text.strip():
            return
        try:
            entry = parse(line.text)
        except BadLine as error:
            self._set_aside(line, path, run, attempt, str(error))
            return
        if entry["kind"] == Header.kind:
            return
        if entry["kind"] == Resume.kind:
            self._writer.flush(self._known)  # what it takes back has to be in the tables
        try:
            left_out = use(entry)
        except (
            BadLine,
            TypeError,
            ValueError,
            ArithmeticError,
            LookupError,
            AttributeError,
            RecursionError,
        ) as error:
            left_out = [str(error)]
        for why in left_out:
            self._set_aside(line, path, run, attempt, why)

    def _set_aside(
        self,
        line: Line,
        path: Path,
        run: int | None,
        attempt: int | None,
        why: str = "the database refuses it",
    ) -> None:
        where, t = f"{path.name}, byte {line.start}", time_before(path, line.start)
        rows.unreadable(self._writer.batch, run, attempt, t, where, why, line.text)
