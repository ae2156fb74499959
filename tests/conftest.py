"""For all tests: one thread per process, seeds, and which files begin."""

from __future__ import annotations

import os
import random
import sys

import pytest

# Tests run beside each other, and threads that wait for each other cost more.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# With `-n 2 --dist loadscope` a process takes a whole file at a time: the longest first, so that both end together.
LONGEST = ("test_end_to_end", "test_distributed", "test_worker_runs", "test_export", "test_memory_guard")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    order = {name: place for place, name in enumerate(LONGEST)}
    items.sort(key=lambda item: order.get(item.path.stem, len(order)))


@pytest.fixture(autouse=True)
def _seeded() -> None:
    """A test that fails is to fail again, alone too."""
    random.seed(0)
    if numpy := sys.modules.get("numpy"):
        numpy.random.seed(0)
    if torch := sys.modules.get("torch"):
        torch.manual_seed(0)
