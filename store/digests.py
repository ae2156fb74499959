"""What a database holds of each run, in a number per table: two that were made from the same logs have the same."""

from __future__ import annotations

from collections.abc import Sequence

from store.schema import TABLES

# How a table came to be, not what it says: the view `metrics` stands for both of its parts, rollups are made of them,
# and how far logs are read differs with the moment.
_LEFT_OUT = ("metrics_live", "metrics_cold", "rollups", "ingest")
# The daemon's own word, and whether a checkpoint is on the disk, which is looked at in turn.
_NOT_FROM_LOGS = ("waiting_for", "present")


def sql() -> str:
    """run, part (a table), n (rows), digest: of every run and table that has rows of it."""
    tables = {name: [column for column, _, _ in columns] for name, (_, columns) in TABLES.items()}
    tables = {name: columns for name, columns in tables.items() if "run" in columns and name not in _LEFT_OUT}
    tables["metrics"] = [column for column, _, _ in TABLES["metrics_live"][1]]
    return " UNION ALL ".join(_of_table(name, columns) for name, columns in tables.items())


def _of_table(name: str, columns: Sequence[str]) -> str:
    hashed = ", ".join(column for column in columns if column not in _NOT_FROM_LOGS)
    return (
        f"SELECT run, '{name}' AS part, count(*) AS n, sum(hash({hashed})::HUGEINT)::VARCHAR AS digest FROM {name}"
        " WHERE run IS NOT NULL GROUP BY run"
    )


Digests = dict[int, dict[str, tuple[int, str]]]  # by run and table: rows, digest


def of_rows(rows: Sequence[Sequence[object]]) -> Digests:
    found: Digests = {}
    for run, part, n, digest in rows:
        assert isinstance(run, int)
        assert isinstance(n, int)
        found.setdefault(run, {})[str(part)] = (n, str(digest))
    return found


def difference(kept: dict[str, tuple[int, str]], read: dict[str, tuple[int, str]]) -> str | None:
    """Return in words how what the database has of a run differs from what the logs say; None if it does not."""
    parts = []
    for part in sorted(kept.keys() | read.keys()):
        have, should = kept.get(part, (0, "")), read.get(part, (0, ""))
        if have[0] != should[0]:
            parts.append(f"{have[0]:,} rows of {part}, and {should[0]:,} in the logs")
        elif have != should:
            parts.append(f"other values in {part}")
    return "; ".join(parts) or None
