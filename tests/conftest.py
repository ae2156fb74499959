"""For all tests: one thread per process, seeds, and which files begin."""

from __future__ import annotations

import os
import random
import shutil
import sys
import tempfile
from pathlib import Path

import pytest
from shallow import save_shallow

# Tests run beside each other, and threads that wait for each other cost more.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# With `--dist loadscope` a process takes a whole file at a time: the longest first, so that all end together.
LONGEST = (
    *(
        "test_end_to_end",
        "test_distributed",
        "test_parity",
        "test_memory_guard",
        "test_daemon",
        "test_memory_measured",
    ),
    *(
        "test_worker_runs",
        "test_worker_resume",
        "test_packing",
        "test_cli_commands",
        "test_bundled",
        "test_door",
    ),
    *("test_keys", "test_daemon_kill", "test_base_cache", "test_dpo", "test_disk", "test_export"),
)


def pytest_configure(config: pytest.Config) -> None:
    """The processes of a session share a model, and by it the runs that are made once."""
    if "FINETUI_SHALLOW" not in os.environ:
        folder = Path(tempfile.mkdtemp(prefix="finetui-model-"))
        config.add_cleanup(lambda: shutil.rmtree(folder))
        os.environ["FINETUI_SHALLOW"] = str(folder / "shallow")
        save_shallow(folder / "shallow")


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
