"""For all tests: one thread per process, seeds, and which files begin."""

from __future__ import annotations

import contextlib
import gc
import os
import random
import shlex
import shutil
import signal
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from compiled import compile_tests
from shallow import save_shallow

# Tests run beside each other, and threads that wait for each other cost more.
os.environ.setdefault("OMP_NUM_THREADS", "1")
# A tenth of the time of all tests went into looking for garbage at every 700 objects.
gc.set_threshold(50_000, 20, 20)
# One pool of forks for all processes of a session and the daemons that they start; the first of them names its place,
# and ends it. What it forks for a test is found in tests/engine, by every Python that is started from here.
OWN_POOL = None if "FINETUI_POOL" in os.environ else tempfile.mkdtemp(prefix="finetui-pool-")
if OWN_POOL:
    os.environ["FINETUI_POOL"] = OWN_POOL
MODULES = [str(Path(__file__).parent / "engine"), *os.environ.get("PYTHONPATH", "").split(os.pathsep)]
os.environ["PYTHONPATH"] = os.pathsep.join(dict.fromkeys(filter(None, MODULES)))
# With `--dist loadscope` a process takes a whole file at a time: the longest first, so that all end together.
_LONGEST = """
distributed end_to_end daemon memory_guard search commands compare_screen worker_resume keys cli_commands
memory_measured sql_screen new_run parity cli_queue daemon_kill packing logged_runs disk reading queue_model pool money
dpo bundled looks door classification flags cli_config part base_cache cli_doors examples_screen completion cli_sweep
worker_ends fuzz cli_look mouse flags_scorer ingest export
"""
LONGEST = {f"test_{name}": place for place, name in enumerate(_LONGEST.split())}


def pytest_configure(config: pytest.Config) -> None:
    """The processes of a session share a model, and by it the runs that are made once."""
    if "FINETUI_SHALLOW" not in os.environ:
        folder = Path(tempfile.mkdtemp(prefix="finetui-model-"))
        config.add_cleanup(lambda: shutil.rmtree(folder))
        os.environ["FINETUI_SHALLOW"] = str(folder / "shallow")
        save_shallow(folder / "shallow")


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_setupnodes(config: pytest.Config, specs: list[Any]) -> None:
    """Fork the processes of the session from its pool: each would import torch for itself."""
    from workers import FORKED, Call, finish

    with ThreadPoolExecutor(1) as beside:
        forked = beside.submit(lambda: finish(Call(os.getpid)))
        compile_tests(config)  # while the pool imports
        assert forked.result() == 0, "the pool does not fork"
    for spec in specs:
        spec.python = shlex.join(FORKED)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    items.sort(key=lambda item: LONGEST.get(item.path.stem, len(LONGEST)))


def pytest_collection_finish() -> None:
    """Libraries and tests are a million objects that stay: each collection of garbage would look at them all."""
    gc.collect()
    gc.freeze()


def pytest_unconfigure() -> None:
    if OWN_POOL:
        end_pools(Path(OWN_POOL))


def end_pools(directory: Path) -> None:
    """End the pools of this session, whatever became of it."""
    from engine.basics.process import Identity, send
    from finetui.files import read_json

    for lock in directory.glob("*.lock"):
        with contextlib.suppress(OSError, ValueError):
            if identity := Identity.from_dict(read_json(lock)):
                send(identity, signal.SIGTERM)
    shutil.rmtree(directory, ignore_errors=True)


@pytest.fixture(autouse=True)
def _seeded() -> None:
    """A test that fails is to fail again, alone too."""
    random.seed(0)
    if numpy := sys.modules.get("numpy"):
        numpy.random.seed(0)
    if torch := sys.modules.get("torch"):
        torch.default_generator.manual_seed(0)
        if torch.cuda.is_initialized():  # torch.manual_seed() notes a stack for a GPU that is not asked yet
            torch.cuda.manual_seed_all(0)
