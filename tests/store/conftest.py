from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from fake_home import FakeHome

from store.ingest import Ingest
from store.projection import Projection


@pytest.fixture
def home(tmp_path: Path) -> FakeHome:
    return FakeHome(tmp_path / "home")


@pytest.fixture(scope="session")
def empty_store(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An empty projection, made once: its two hundred comments take a while."""
    path = tmp_path_factory.mktemp("store") / "store.duckdb"
    Projection(path).close()
    return path


@pytest.fixture
def projection(home: FakeHome, empty_store: Path) -> Iterator[Projection]:
    home.path.mkdir()
    shutil.copyfile(empty_store, home.store)
    made = Projection(home.store)
    yield made
    made.close()


@pytest.fixture
def ingest(home: FakeHome, projection: Projection) -> Ingest:
    return Ingest(projection, home.path)
