"""The app over a real store that serves a made home."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import made_home
import pytest
from made_home import Served

import store.queries
from finetui.home import Home
from tui.app import FinetuiApp


@pytest.fixture(autouse=True)
def _calm(monkeypatch: pytest.MonkeyPatch) -> None:
    """The same screen whatever terminal and time zone the tests are started from."""
    for name in ("NO_COLOR", "NO_UNICODE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("TERM", "xterm-256color")
    monkeypatch.setattr(store.queries, "time", SimpleNamespace(time=lambda: made_home.NOW))


@pytest.fixture(scope="session")
def shared() -> Iterator[Served]:
    """One filled home for all tests that only look; its path is short and the same everywhere."""
    with tempfile.TemporaryDirectory() as directory:
        home = Home(Path(directory) / "h")
        made_home.fill(home)
        with made_home.served(home, {4: "run #3 is running; 1 at a time"}) as running:
            yield running


@pytest.fixture
def served(shared: Served) -> Served:
    shared.actions.asked.clear()
    shared.actions.answer = lambda name, body: {}
    (shared.home.path / "screen.json").unlink(missing_ok=True)
    return shared


@pytest.fixture
def empty(tmp_path: Path) -> Iterator[Served]:
    """A home without a run."""
    with made_home.served(Home(tmp_path / "h")) as running:
        yield running


@pytest.fixture
def make_app(served: Served) -> Callable[..., FinetuiApp]:
    def make(select: list[int] | None = None, **options: Any) -> FinetuiApp:
        app = FinetuiApp(served.home, select, connect=served.connect, unicode=options.pop("unicode", True))
        app.home_name = "~/finetui"
        return app

    return make
