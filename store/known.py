"""What ingest has read of a home: as it is committed, or will be with the batch in memory."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import duckdb

from store.batch import STATE_COLUMNS, RunRow, first_unreadable, present_checkpoints
from store.states import ENDED

JOURNAL_NAME = "journal.jsonl"


@dataclass
class Known:
    """States of runs, identities and offsets of logs."""

    states: dict[int, RunRow] = field(default_factory=dict)
    dirs: dict[int, Path] = field(default_factory=dict)
    uuids: dict[str, int] = field(default_factory=dict)  # UUID: its run, which is no copy
    copies: dict[int, str] = field(default_factory=dict)  # run that is a copy: UUID of what it is a copy of
    journals: dict[int, str] = field(default_factory=dict)  # run: identity of its journal
    # run: names of the checkpoints marked as present
    present: dict[int, frozenset[str]] = field(default_factory=dict)
    ids: dict[str, str] = field(default_factory=dict)  # path relative to the home: identity of the log
    offsets: dict[str, int] = field(default_factory=dict)  # identity: bytes read
    # path: size when it was last read, with a torn line at its end perhaps
    sizes: dict[str, int] = field(default_factory=dict)
    # run (None: the hardware log): the first thing that could not be read
    damaged: dict[int | None, str] = field(default_factory=dict)

    @classmethod
    def load(cls, cursor: duckdb.DuckDBPyConnection) -> Known:
        """What is committed."""
        known = cls()
        sql = "SELECT run, log, path, byte_offset FROM ingest"
        for run, identity, path, offset in cursor.execute(sql).fetchall():
            known.offsets[identity] = offset
            known.ids[path] = identity
            if path.endswith(f"/{JOURNAL_NAME}"):
                known.journals[run] = identity
        for row in cursor.execute(f"SELECT {', '.join(STATE_COLUMNS)} FROM runs").fetchall():
            known.states[row[0]] = RunRow(*row)
        known.dirs = {run: Path(path) for run, path in cursor.execute("SELECT run, dir FROM runs").fetchall()}
        for run, own, of in cursor.execute("SELECT run, uuid, copy_of FROM runs").fetchall():
            if of is not None:
                known.copies[run] = of
            elif own is not None:
                known.uuids[own] = run
        known.present = present_checkpoints(cursor)
        known.damaged = first_unreadable(cursor)
        return known

    def is_final(self, run: int) -> bool:
        return run in self.states and self.states[run].state in ENDED

    def copies_of(self, run: int) -> list[int]:
        return [copy for copy, own in self.copies.items() if self.uuids.get(own) == run]

    def forget(self, run: int) -> None:
        """Nothing of it has been read."""
        for identity in [key for key in self.offsets if key.startswith(f"{run}.") or key == f"run/{run}"]:
            del self.offsets[identity]
        self.ids = {path: identity for path, identity in self.ids.items() if identity in self.offsets}
        self.uuids = {own: holder for own, holder in self.uuids.items() if holder != run}
        self.sizes.clear()
        for of_run in (self.states, self.copies, self.journals, self.present, self.damaged):
            of_run.pop(run, None)
