"""The recipe of a run that has not begun is changed: in its directory, in the store, and for the worker."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest
from supervision import submission, until
from with_daemon import FOREVER, a_home, directory, row, submit, wait_state

from engine.client import service
from finetui.client import Client
from finetui.daemon import connect
from finetui.errors import StoreError
from finetui.home import Home


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    with a_home(tmp_path / "home") as home:
        yield home


@pytest.fixture
def client(home: Home) -> Iterator[Client]:
    with connect(home) as client:
        yield client


def changed(**script: Any) -> dict[str, Any]:
    """What `edit` sends: another learning rate, name and length."""
    body = deepcopy(submission(**script))
    body["recipe"] |= {"train": {"lr": 3e-4}, "name": "other"}
    return {key: body[key] for key in ("recipe", "recipe_text")} | {"name": "other"}


def params(client: Client, run: int) -> dict[str, str]:
    client.action("drain")
    found = client.query(f"SELECT key, value FROM params WHERE run = {run}").to_pylist()
    return {one["key"]: one["value"] for one in found}


def test_a_run_that_waits_is_trained_by_its_new_recipe(home: Home, client: Client) -> None:
    first = submit(client, steps=FOREVER)
    wait_state(client, first, "running")
    waiting = submit(client, steps=FOREVER)
    client.action("tag", run=waiting, add=["kept"])
    before = params(client, waiting)
    meta = json.loads(directory(home, waiting).meta.read_text())
    changes = client.action("edit", run=waiting, **changed(steps=2))["changes"]
    assert changes == ["train.lr: 0.0002 → 0.0003", "name: none → other"]
    after = params(client, waiting)
    assert {key for key in after if before.get(key) != after[key]} == {"train.lr", "name"}
    found = row(client, waiting)
    assert (found["name"], found["tags"], found["state"]) == ("other", "kept", "queued")
    events = client.query(f"SELECT message FROM events WHERE run = {waiting}").to_pylist()
    assert sum(one["message"].startswith("recipe edited: ") for one in events) == 1
    now = json.loads(directory(home, waiting).meta.read_text())
    assert {key for key in meta if meta[key] != now[key]} <= {
        "name", "recipe", "recipe_hash", "recipe_text", "git_commit", "versions", "datasets"
    }  # fmt: skip
    service.stop(home)
    with connect(home) as again:  # what was read is as it was for the next daemon
        assert params(again, waiting) == after
        again.action("cancel", run=first)
        wait_state(again, waiting, "finished")
        assert row(again, waiting)["step"] == 2


def test_what_has_begun_keeps_its_recipe(home: Home, client: Client) -> None:
    run = submit(client, steps=FOREVER)
    wait_state(client, run, "running")
    words = f"run #{run} has begun with its recipe; finetui clone {run} key=value makes a new run of it"
    with pytest.raises(StoreError, match=words):
        client.action("edit", run=run, **changed())
    client.action("pause", run=run)
    wait_state(client, run, "paused")
    second = submit(client, steps=FOREVER)
    wait_state(client, second, "running")
    client.action("resume", run=run)
    assert row(client, run)["state"] == "queued"
    with pytest.raises(StoreError, match=words):  # it waits, but its checkpoint belongs to its recipe
        client.action("edit", run=run, **changed())


def test_what_cannot_be_is_refused_and_changes_nothing(home: Home, client: Client) -> None:
    wait_state(client, submit(client, steps=FOREVER), "running")
    waiting = submit(client)
    before = directory(home, waiting).meta.read_bytes()
    two = changed()
    two["recipe"]["processes"] = 2
    with pytest.raises(StoreError, match="clone it to change processes"):
        client.action("edit", run=waiting, **two)
    bad = changed()
    bad["recipe"]["train"]["lr"] = -1
    with pytest.raises(StoreError, match=r"not valid, key train\.lr"):
        client.action("edit", run=waiting, **bad)
    with pytest.raises(StoreError, match="no run #99"):
        client.action("edit", run=99, **changed())
    assert directory(home, waiting).meta.read_bytes() == before


def test_a_daemon_that_is_killed_in_between_leaves_the_new_recipe(home: Home, client: Client) -> None:
    """`run.json` is whole, old or new, at any moment; the store follows the file, whoever wrote it."""
    wait_state(client, submit(client, steps=FOREVER), "running")
    waiting = submit(client)
    path = directory(home, waiting).meta
    assert params(client, waiting)["seed"] == "0"
    body = json.loads(path.read_text())
    body["recipe"]["seed"] = 7
    time.sleep(0.01)
    path.write_text(json.dumps(body))
    client.action("note", run=waiting, text="the queue writes to its journal")
    until("the new recipe", lambda: params(client, waiting)["seed"] == "7")
