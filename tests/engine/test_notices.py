"""Notices: what is told, when, how it is sent, and that nothing of a way that fails shows or hurts."""

from __future__ import annotations

import json
import os
import re
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any

import pytest
from supervision import until
from with_daemon import a_home, submit, wait_state

from engine.queue import config, notices
from engine.queue.notices import EVENTS, URLS, Channels, Notice, Notices
from engine.queue.watch import LEAST_S, LOOK_S, Watch
from finetui.daemon import connect
from store.projection import Projection

ALL = frozenset(EVENTS)
FAILED = Notice("failed", "the loss is not a number\x1b[2J", 3, "mine")


def sent(ways: Channels, *told: Notice) -> str | None:
    """Send, and return what was wrong with the last one."""
    sender = Notices(ways)
    sender.problem = "not sent yet"
    for notice in told:
        sender.send(notice)
    until("the notice", lambda: sender.problem != "not sent yet")
    return sender.problem


def test_a_command_is_told_in_its_environment(tmp_path: Path) -> None:
    out = tmp_path / "out"
    names = " ".join(f'"$FINETUI_{name}"' for name in ("EVENT", "RUN", "NAME", "TITLE", "MESSAGE"))
    command = f'printf "%s|" {names} > {out}'
    assert sent(Channels(ALL, command), FAILED) is None
    assert out.read_text() == "failed|3|mine|finetui: failed #3 mine|the loss is not a number|"


@pytest.mark.parametrize("command", ["echo secret >&2; exit 7", "kill -9 $$"])
def test_a_command_that_fails_is_told_without_its_words(
    command: str, caplog: pytest.LogCaptureFixture
) -> None:
    problem = sent(Channels(ALL, command), FAILED)
    assert problem in (
        "notify_command in config.toml ended with 7 for the notice failed",
        "notify_command in config.toml ended with -9 for the notice failed",
    )
    assert "secret" not in caplog.text


def test_a_command_that_does_not_end_is_ended(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notices, "SEND_S", 0.3)
    problem = sent(Channels(ALL, "sleep 600 & sleep 600"), FAILED)
    assert problem == "notify_command in config.toml did not end within 0.3 s for the notice failed"


def test_only_what_is_wanted_is_told(tmp_path: Path) -> None:
    out = tmp_path / "out"
    ways = Channels(frozenset({"finished"}), f'echo "$FINETUI_EVENT" >> {out}')
    assert sent(ways, FAILED, Notice("finished", "done", 4, "x")) is None
    assert out.read_text() == "finished\n"


def test_more_than_can_be_sent_is_counted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(notices, "MOST", 2)
    go, out = tmp_path / "go", tmp_path / "out"
    sender = Notices(Channels(ALL, f"until [ -e {go} ]; do sleep 0.05; done; echo told >> {out}"))
    for _ in range(9):
        sender.send(FAILED)
    told = re.fullmatch(
        r"(\d) notices could not be sent: they come faster than they can be", sender.problem or ""
    )
    assert told is not None
    go.touch()  # the others are told; nothing of this sender is left to reach the next test's server
    until("the others", lambda: out.exists() and len(out.read_text().split()) == 9 - int(told[1]))


# ---- Apprise


@pytest.fixture
def server() -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """An address, and what comes to it."""
    came: list[dict[str, Any]] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            came.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Handler) as one:
        thread = threading.Thread(target=one.serve_forever)
        thread.start()
        yield f"json://127.0.0.1:{one.server_port}/", came
        one.shutdown()
        thread.join()


def test_apprise_delivers(
    server: tuple[str, list[dict[str, Any]]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    address, came = server
    file = tmp_path / "addresses"
    file.write_text(f"# mine\n{address}\n")
    file.chmod(0o644)
    assert sent(Channels(ALL, urls_file=str(file)), FAILED) == notices.WHY[notices.OPEN_FILE]
    file.chmod(0o600)
    assert sent(Channels(ALL, urls_file=str(file)), FAILED) is None
    assert came[0]["title"] == "finetui: failed #3 mine"
    assert came[0]["message"].startswith("the loss is not a number")
    monkeypatch.setenv(URLS, f"{address} nonsense://x")
    assert sent(Channels(ALL), FAILED) == notices.WHY[notices.BAD_ADDRESS]
    assert len(came) == 2, "the good one was served all the same"
    assert sent(Channels(ALL, urls_file=str(tmp_path / "none")), FAILED) == notices.WHY[notices.NO_FILE]


# ---- what is told


def test_the_daemon_tells_how_runs_end(tmp_path: Path) -> None:
    out = tmp_path / "told"
    with a_home(tmp_path / "home") as home:
        line = '\\"$FINETUI_EVENT $FINETUI_RUN $FINETUI_NAME: $FINETUI_MESSAGE\\"'
        home.config.write_text(f'notify_command = "echo {line} >> {out}"\n')
        with connect(home) as client:
            one, two = submit(client, steps=3), submit(client, fail_at=2)
            wait_state(client, one, "finished")
            wait_state(client, two, "failed")
            until("three notices", lambda: out.exists() and len(out.read_text().splitlines()) == 3)
            assert client.action("status")["problems"] == []
            three = submit(client, steps=10**6)
            wait_state(client, three, "running")
            client.action("cancel", run=three)
            wait_state(client, three, "cancelled")
            until("a fourth", lambda: len(out.read_text().splitlines()) == 4)
    told = out.read_text().splitlines()
    assert told[0] == f"finished {one} fake-run: finished"
    assert told[1] == f"failed {two} fake-run: the loss is not a number"
    assert told[2:] == ["queue_empty  : nothing runs any more"] * 2, "who cancels a run knows it"


def test_new_flags_are_told_once(tmp_path: Path) -> None:
    projection = Projection(tmp_path / "store.duckdb")
    watch, now = Watch(), time.time()
    with projection.write() as cursor:
        cursor.execute("INSERT INTO runs (run, name, state) VALUES (1, 'mine', 'running')")
        for t, level in (
            (now - 60, "critical"),
            (now + 1, "info"),
            (now + 2, "warn"),
            (now + 3, "warn"),
            (now + 4, "critical"),
        ):
            cursor.execute(
                "INSERT INTO flags (run, flag, level, message, t) VALUES (1, 'forgetting', $level, 'it forgets', $t)",
                {"level": level, "t": t},
            )
    with projection.read() as cursor:
        told = list(watch.flags(cursor))
        assert [notice.message for notice in told] == [
            "warn forgetting: it forgets",
            "critical forgetting: it forgets",
        ], "what was there before the daemon is known"
        assert list(watch.flags(cursor)) == []
    projection.close()


@pytest.mark.parametrize(("phase", "allowed"), [("training", LEAST_S), ("eval", LOOK_S)])
def test_a_run_that_no_longer_gets_on_is_told_once(tmp_path: Path, phase: str, allowed: float) -> None:
    projection = Projection(tmp_path / "store.duckdb")
    watch, now = Watch(), time.time()
    with projection.write() as cursor:
        cursor.execute(
            "INSERT INTO runs (run, name, state, attempt, phase) VALUES (1, 'mine', 'running', 1, $phase)",
            {"phase": phase},
        )
        cursor.execute(
            "INSERT INTO attempts (run, attempt, first_t, last_t, first_step, last_step) VALUES (1, 1, $a, $b, 1, 11)",
            {"a": now - allowed - 40, "b": now - allowed + 10},
        )
    with projection.read() as cursor:
        assert list(watch.stalls(cursor, 20.0)) == [], "steps of five seconds: not long enough"
        with projection.write() as writer:
            writer.execute("UPDATE attempts SET last_t = $b", {"b": now - allowed - 10})
        (notice,) = watch.stalls(cursor, 20.0)
        assert notice.event == "stalled"
        assert "after step 11; one takes 3s" in notice.message
        assert list(watch.stalls(cursor, 20.0)) == []
    projection.close()


def test_commands_are_shown_in_no_log(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text(
        'notify_command = "curl secret"\nwhen_idle_command = "stop secret"\n'
    )
    assert "secret" not in str(config.read(tmp_path / "config.toml"))


def test_events_are_checked(tmp_path: Path) -> None:
    (tmp_path / "config.toml").write_text('notify_on = ["finished", "flaged"]\n')
    with pytest.raises(config.ConfigError, match=r"key notify_on.1: input should be 'finished'"):
        config.read(tmp_path / "config.toml")
    (tmp_path / "config.toml").write_text("")
    assert config.read(tmp_path / "config.toml").channels == Channels(ALL)
    assert not Channels(ALL).any or URLS in os.environ
