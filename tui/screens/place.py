"""What can be gone to by a letter (jump.py)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from textual.geometry import Offset


@dataclass(frozen=True)
class Place:
    """Something to go to. `at`: where its letter stands on the screen; None where it is out of sight."""

    name: str
    go: Callable[[], None]
    at: Offset | None = None
