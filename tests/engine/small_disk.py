"""A disk of a few MiB for a test, which is skipped where nothing may be mounted."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from benchmarks.small_disk import SmallDisk, mounted


@contextmanager
def small_disk(path: Path, mib: int) -> Iterator[SmallDisk]:
    """Skips the test where nothing may be mounted."""
    with mounted(path, mib) as disk:
        if disk is None:
            pytest.skip("a file system can be mounted by root only")
        yield disk
