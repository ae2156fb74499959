"""Bytes and durations have one form everywhere."""

from __future__ import annotations

import math

import pytest

from engine.basics.wording import duration, size

MIB, GIB = 2**20, 2**30


@pytest.mark.parametrize(
    ("number", "said"),
    [
        (None, "–"),
        (0, "0 B"),
        (1023, "1,023 B"),
        (1024, "1 KiB"),
        (1536, "1.5 KiB"),
        (3.4 * MIB, "3.4 MiB"),
        (12 * MIB, "12 MiB"),
        (465.4 * MIB, "465 MiB"),
        (1023.4 * MIB, "1,023 MiB"),
        (1023.6 * MIB, "1 GiB"),
        (15.25 * GIB, "15.2 GiB"),
        (99.96 * GIB, "100 GiB"),
        (5000 * 1024 * GIB, "5,000 TiB"),
        (-1.5 * MIB, "-1.5 MiB"),
    ],
)
def test_bytes(number: float | None, said: str) -> None:
    assert size(number) == said


@pytest.mark.parametrize(
    ("seconds", "said"),
    [
        (None, "–"),
        (math.nan, "–"),
        (math.inf, "–"),
        (-1, "–"),
        (0.4, "0s"),
        (9, "9s"),
        (59.6, "1m 00s"),
        (200, "3m 20s"),
        (7500, "2h 05m"),
        (3 * 86400 + 4 * 3600, "3d 4h"),
    ],
)
def test_durations(seconds: float | None, said: str) -> None:
    assert duration(seconds) == said
