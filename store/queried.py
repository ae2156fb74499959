"""What a named query is, and how it names runs."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

Query = tuple[str, dict[str, Any]]  # SQL and its parameters


def numbers(runs: Sequence[int]) -> str:
    """For `IN (…)`: constants, so that only the row groups that may hold these runs are read."""
    return ", ".join(str(int(number)) for number in runs) or "NULL"
