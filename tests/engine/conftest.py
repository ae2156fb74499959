"""Finished runs for whoever wants to look at one."""

from __future__ import annotations

import os
import tempfile
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from finished import Finished


# What commands keep in the home must not land in that of whoever runs the tests.
_home = tempfile.TemporaryDirectory(prefix="finetui-tests-")
os.environ.setdefault("FINETUI_HOME", _home.name)


@pytest.fixture(scope="session")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Finished:
    """Shared with the other processes of this session."""
    from finished import Finished  # here: most files of tests need no torch

    base = tmp_path_factory.getbasetemp()
    return Finished((base.parent if "PYTEST_XDIST_WORKER" in os.environ else base) / "finished")
