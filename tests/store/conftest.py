from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from fake_home import FakeHome

from store.ingest import Ingest
from store.projection import Projection


@pytest.fixture
def home(tmp_path: Path) -> FakeHome:
    return FakeHome(tmp_path / "home")


@pytest.fixture
def projection(home: FakeHome) -> Iterator[Projection]:
    made = Projection(home.store)
    yield made
    made.close()


@pytest.fixture
def ingest(home: FakeHome, projection: Projection) -> Ingest:
    return Ingest(projection, home.path)
