"""The app over a real store that serves a made home."""

from __future__ import annotations

import functools
import tempfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import made_home
import pytest
import typer.main
from live import Line, Live
from made_home import Served
from supervision import until
from with_daemon import a_home, submit, wait_state

import store.queries
from finetui.daemon import connect
from finetui.errors import StoreError
from finetui.home import Home
from tui.app import FinetuiApp

# Made of forty commands at every call, which a program does once and these tests hundreds of times.
typer.main.get_command = functools.cache(typer.main.get_command)


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
        options = {"unicode": True, **options}
        app = FinetuiApp(served.home, select, connect=served.connect, **options)
        app.home_name = "~/finetui"
        return app

    return make


# ---- a home with a daemon of its own, for commands that change something


@pytest.fixture(scope="module")
def live_home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Home]:
    with a_home(tmp_path_factory.mktemp("live") / "home") as home:
        home.config.write_text("concurrency = 1\ngrace_s = 5.0\n")
        yield home


@pytest.fixture(scope="module")
def live_finished(live_home: Home) -> int:
    with connect(live_home) as client:
        number = submit(client, steps=3)
        wait_state(client, number, "finished")
    return number


@pytest.fixture
def live(
    live_home: Home, live_finished: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Live]:
    """The daemon of all tests here, with nothing to do before and afterwards."""
    monkeypatch.chdir(tmp_path)
    with connect(live_home) as client:
        yield Live(live_home, client, tmp_path, live_finished)
    with connect(live_home) as client:
        said = client.action("status")
        assert said["problems"] == []
        for run in said["queued"] + said["running"]:
            with suppress(StoreError):  # it is stopping, or has just ended
                client.action("cancel", run=run)
        until("an empty queue", lambda: not client.action("status")["running"])


@pytest.fixture
def finetui(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Line:
    """The command line, on a wide terminal; other files have one of their own."""
    monkeypatch.setenv("COLUMNS", "200")
    return Line(monkeypatch, capsys)
