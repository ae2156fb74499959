"""Where a home's socket lies, and whom a client trusts."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import pytest

from finetui import client as client_module
from finetui import home as home_module
from finetui.client import Client
from finetui.daemon import answering
from finetui.errors import StoreError
from finetui.home import Home


@pytest.fixture
def odd_home(tmp_path: Path) -> Iterator[Home]:
    """A home whose socket lies under /tmp, since its own path has a space."""
    home = Home(tmp_path / "my home")
    home.create()
    yield home
    place = home.socket.parent
    if place.is_symlink():
        place.unlink()
    shutil.rmtree(place, ignore_errors=True)


def test_a_socket_place_of_another_user_is_refused_by_name(
    odd_home: Home, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = odd_home.socket.parent
    assert place != odd_home.path
    assert place.stat().st_mode & 0o777 == 0o700
    monkeypatch.setattr(home_module.os, "geteuid", lambda: 12345)
    for use in (odd_home.create, lambda: answering(odd_home)):
        with pytest.raises(StoreError, match=rf"{place}, .* belongs to another user \({os.getuid()}\)"):
            use()


def test_a_link_in_place_of_the_socket_place_is_refused(odd_home: Home, tmp_path: Path) -> None:
    place = odd_home.socket.parent
    place.rmdir()
    place.symlink_to(tmp_path)
    with pytest.raises(StoreError, match="is no directory: remove it"):
        odd_home.create()


def test_our_own_socket_place_is_closed_again(odd_home: Home) -> None:
    odd_home.socket.parent.chmod(0o755)
    odd_home.create()
    assert odd_home.socket.parent.stat().st_mode & 0o777 == 0o700


def test_a_server_of_another_user_is_not_talked_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "daemon.sock"
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(str(path))
        server.listen()
        monkeypatch.setattr(client_module.os, "geteuid", lambda: 12345)
        with pytest.raises(StoreError, match=rf"another user \({os.getuid()}\) and is not trusted"):
            Client(path)


@pytest.mark.parametrize("name", [b"caf\xe9", b"what?"])
def test_a_home_that_the_database_cannot_open_is_named(tmp_path: Path, name: bytes) -> None:
    with pytest.raises(StoreError, match=r"a question mark, or bytes that are no UTF-8.*set FINETUI_HOME"):
        Home(tmp_path / os.fsdecode(name)).create()
    assert not list(tmp_path.iterdir())


def test_a_home_that_was_open_is_told_and_not_changed(tmp_path: Path) -> None:
    home = Home(tmp_path / "home")
    home.path.mkdir(mode=0o755)
    home.path.chmod(0o755)
    home.create()
    assert home.path.stat().st_mode & 0o777 == 0o755
    assert home.runs.stat().st_mode & 0o777 == 0o700
    assert (
        home.open_to_others()
        == f"{home.path} is open to other users (mode 755); chmod 700 {home.path} closes it"
    )
    home.path.chmod(0o700)
    assert home.open_to_others() is None
