"""A run as other programs keep one: what was logged, and with which recipe."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, NamedTuple


class Logged(NamedTuple):
    """One measure at an optimiser step, and when it was logged (Unix seconds)."""

    step: int
    name: str
    value: float
    t: float


@dataclass(frozen=True)
class LoggedRun:
    """`points` by step."""

    uuid: str
    name: str
    folder: str  # of the run in its home: 000012-name
    recipe: dict[str, Any]
    tags: tuple[str, ...]
    failed: bool
    started: float  # Unix seconds
    points: tuple[Logged, ...]
