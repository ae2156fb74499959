"""What a key goes on to that tries one thing after another."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeVar

T = TypeVar("T")


def following(options: Sequence[T], now: T, by: int = 1) -> T:
    """The option after `now`, and after the last one the first again; the first where `now` is none of them."""
    return options[(options.index(now) + by) % len(options)] if now in options else options[0]
