"""What a named query is, and how it names runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

Query = tuple[str, dict[str, Any]]  # SQL and its parameters


@dataclass(frozen=True)
class Planned:
    """A query that depends on the rows of another: to plan one for all that they may be takes longer than both."""

    question: Query
    query: Callable[[list[Any]], Query]


def resolved(query: Query | Planned, cursor: Any) -> Query:
    """Return what is to be executed. A transaction is begun where something was asked before, so that nothing changes
    until the answer; whoever closes the cursor ends it.
    """
    if not isinstance(query, Planned):
        return query
    cursor.begin()
    return query.query(cursor.execute(*query.question).fetchall())


def numbers(runs: Sequence[int]) -> str:
    """For `IN (…)`: constants, so that only the row groups that may hold these runs are read."""
    return ", ".join(str(int(number)) for number in runs) or "NULL"
